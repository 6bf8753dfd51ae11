"""Status, headers and shapes that clients of Marathon's REST API rely on."""

from __future__ import annotations

import gzip
import io
import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from tests.unit.marathon.test_marathon_api import WEB, deploy

from phalanx.marathon.api.application import build_app
from phalanx.marathon.policy import Policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.marathon.conftest import FakeMaster, Marathon


async def test_every_reply_forbids_caching_and_names_the_leader(marathon: Marathon) -> None:
    for path in ("/v2/apps", "/v2/nothing", "/ping", "/v2/apps/none"):
        answer = await marathon.request("GET", path)

        assert answer.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
        assert answer.headers["Pragma"] == "no-cache"
        assert answer.headers["Expires"] == "0"
        assert answer.headers["X-Marathon-Leader"] == "http://m1:8080"


@pytest.mark.parametrize(
    "path",
    [
        "/v2/apps/", "/v2/apps//web", "/v2/apps/web/", "/v2/apps/web/tasks/", "/v2/tasks/",
        "/v2/apps/web/versions/", "/v2/deployments/", "/v2/queue/", "/v2/groups/", "/v2/info/",
        "/v2/leader/", "/v2/plugins/", "/metrics/", "/metrics/prometheus/", "/ping/",
        "/v2/groups//versions",
    ],
)  # fmt: skip
async def test_slashes_more_or_less_do_not_matter(marathon: Marathon, path: str) -> None:
    await marathon.ask("POST", "/v2/apps", {**WEB, "instances": 0})

    status, _ = await marathon.ask("GET", path)

    assert status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/deployments", "GET"),
        ("DELETE", "/v2/info", "GET"),
        ("PUT", "/v2/queue", "GET"),
        ("PUT", "/v2/leader", "DELETE"),
        ("GET", "/v2/apps/web/restart/x", None),
        ("PATCH", "/v2/tasks", "GET"),
    ],
)
async def test_wrong_methods_are_told_the_right_ones(
    marathon: Marathon, method: str, path: str, allowed: str | None
) -> None:
    answer = await marathon.request(method, path)

    if allowed is None:
        assert answer.status == 404
    else:
        assert (answer.status, await answer.json()) == (405, {"message": "Method Not Allowed"})
        assert allowed in answer.headers["Allow"]


async def test_options_says_what_may_be_done(marathon: Marathon) -> None:
    answer = await marathon.request("OPTIONS", "/v2/leader")

    assert answer.status == 200
    assert {"GET", "DELETE", "HEAD", "OPTIONS"} <= set(answer.headers["Allow"].split(","))


async def test_head_has_headers_alone(marathon: Marathon) -> None:
    answer = await marathon.request("HEAD", "/v2/apps")

    assert (answer.status, await answer.read()) == (200, b"")
    assert (await marathon.request("HEAD", "/v2/events")).status == 405


@pytest.mark.parametrize(
    "path", ["/v1/apps", "/v2/eventSubscriptions", "/v2/artifacts", "/v2/schemas/app"]
)
async def test_what_is_gone_is_not_found(marathon: Marathon, path: str) -> None:
    assert await marathon.ask("GET", path) == (404, {"message": "URI not found"})


async def test_long_answers_are_compressed_for_who_asks(marathon: Marathon) -> None:
    await marathon.until("/v2/info", lambda info: info["frameworkId"] is not None)
    plain = await marathon.request("GET", "/v2/info", headers={"Accept-Encoding": "identity"})
    packed = await marathon.request("GET", "/v2/info", headers={"Accept-Encoding": "gzip"})

    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert await plain.json() == await packed.json()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"{", "Invalid JSON", id="cut"),
        pytest.param(b"", "Invalid JSON", id="empty"),
        pytest.param(b'{"id": "\xff"}', "Invalid JSON", id="no-utf8"),
        pytest.param(b"[" * 100_000, "Invalid JSON", id="deep"),
        pytest.param(b'{"id": "/x", "cpus": 1e999}', "Invalid JSON", id="huge-number"),
        pytest.param(gzip.compress(b"{}"), "Invalid JSON", id="gzip"),
    ],
)
async def test_what_is_no_json_is_400(marathon: Marathon, raw: bytes, message: str) -> None:
    for method, path in (("POST", "/v2/apps"), ("PUT", "/v2/apps/x"), ("POST", "/v2/groups")):
        status, answer = await marathon.ask(method, path, raw=raw)

        assert (status, answer["message"]) == (400, message)
        assert isinstance(answer["details"], str)


async def test_too_long_a_body_is_413(marathon: Marathon) -> None:
    raw = b'{"id": "/x", "cmd": "' + b"x" * 9_000_000 + b'"}'

    answer = await marathon.request("POST", "/v2/apps", data=io.BytesIO(raw))

    assert answer.status == 413
    assert await answer.json() == {"message": "Request Entity Too Large"}


@pytest.mark.parametrize("text", ["maybe", "1", "yes"])
async def test_flags_are_true_or_false(marathon: Marathon, text: str) -> None:
    status, answer = await marathon.ask("DELETE", f"/v2/groups?force={text}")

    assert status == 400
    assert "force" in answer["message"]


async def test_tasks_as_text_are_lines_of_service_ports(
    marathon: Marathon, master: FakeMaster
) -> None:
    host = {"networks": [{"mode": "host"}], "portDefinitions": [{"port": 0}, {"port": 15000}]}
    app = {"id": "/prod/web", "cmd": "x", "instances": 2, "cpus": 0.1, "mem": 1, **host}
    await marathon.ask("POST", "/v2/apps", app)
    await master.next("REVIVE")
    await master.offer("a1", "a2")
    await master.tasks(2)
    _, tasks = await marathon.ask("GET", "/v2/tasks")

    answer = await marathon.request("GET", "/v2/tasks", headers={"Accept": "text/plain"})
    of_app = await marathon.request(
        "GET", "/v2/apps/prod/web/tasks", headers={"Accept": "text/plain"}
    )

    served = [
        " ".join(f"{task['host']}:{task['ports'][i]}" for task in tasks["tasks"]) for i in (0, 1)
    ]
    text = f"prod_web\t10000\t{served[0]}\nprod_web\t15000\t{served[1]}\n"
    assert await answer.text() == text
    assert await of_app.text() == text
    assert answer.content_type == "text/plain"


async def test_tasks_as_text_are_reached_directly_on_the_networks_asked_for(
    marathon: Marathon, master: FakeMaster
) -> None:
    container = {"portMappings": [{"containerPort": 80, "servicePort": 9000}]}
    network = {"networks": [{"mode": "container", "name": "dcos"}], "container": container}
    await marathon.ask("POST", "/v2/apps", {"id": "/web", "cmd": "x", **network})
    await master.next("REVIVE")
    await master.offer("a1")
    [task] = await master.tasks(1)
    await master.update(task, "TASK_RUNNING", address="9.0.1.2")
    await marathon.until("/v2/apps/web", lambda answer: answer["app"]["tasksRunning"] == 1)
    headers = {"Accept": "text/plain"}

    other = await marathon.request("GET", "/v2/tasks?containerNetworks=other", headers=headers)
    direct = await marathon.request(
        "GET", "/v2/tasks?containerNetworks=other,dcos", headers=headers
    )

    assert await other.text() == "web\t9000\ta1:0\n"
    assert await direct.text() == "web\t9000\t9.0.1.2:80\n"


async def test_embedding_adds_what_is_asked_for(marathon: Marathon, master: FakeMaster) -> None:
    [task] = await deploy(marathon, master)

    _, bare = await marathon.ask("GET", "/v2/apps")
    _, more = await marathon.ask("GET", "/v2/apps?embed=apps.tasks&embed=apps.taskStats&embed=x")
    _, single = await marathon.ask("GET", "/v2/apps/web?embed=taskStats&embed=app.readiness")

    [app] = bare["apps"]
    assert (app["tasksRunning"], app["deployments"]) == (1, [])
    assert not {"tasks", "taskStats", "lastTaskFailure", "readinessCheckResults"} & set(app)
    [app] = more["apps"]
    assert [t["id"] for t in app["tasks"]] == [task.task_id.value]
    stats = app["taskStats"]["totalSummary"]["stats"]
    assert stats["counts"] == {"staged": 0, "running": 1, "healthy": 0, "unhealthy": 0}
    assert stats["lifeTime"]["averageSeconds"] >= 0
    assert set(app["taskStats"]) == {"totalSummary", "withLatestConfig", "startedAfterLastScaling"}
    assert {"tasks", "deployments", "taskStats", "readinessCheckResults"} <= set(single["app"])


async def test_statistics_tell_old_from_new(marathon: Marathon, master: FakeMaster) -> None:
    await deploy(marathon, master, count=2)
    await marathon.ask("PUT", "/v2/apps/web", {"cmd": "exec other"})

    _, answer = await marathon.ask("GET", "/v2/apps/web?embed=app.taskStats")

    stats = answer["app"]["taskStats"]
    assert stats["withOutdatedConfig"]["stats"]["counts"]["running"] == 2
    assert "withLatestConfig" not in stats


async def test_the_queue_shows_the_offers_that_did_not_do(
    marathon: Marathon, master: FakeMaster
) -> None:
    await marathon.ask("POST", "/v2/apps", {**WEB, "cpus": 99})
    await master.next("REVIVE")
    await master.offer("a1")
    queued = lambda answer: bool(answer["queue"][0].get("lastUnusedOffers"))  # noqa: E731 - a condition

    answer = await marathon.until("/v2/queue?embed=lastUnusedOffers", queued)

    [entry] = answer["queue"]
    assert "role" not in entry
    [unused] = entry["lastUnusedOffers"]
    assert unused["reason"] == ["InsufficientCpus"]
    resources = {resource["name"]: resource for resource in unused["offer"]["resources"]}
    assert resources["cpus"] == {"name": "cpus", "role": "*", "scalar": 8.0}
    assert resources["ports"]["ranges"] == [{"begin": 31000, "end": 32000}]
    funnel = entry["processedOffersSummary"]["rejectSummaryLastOffers"]
    declined = {stage["reason"]: stage["declined"] for stage in funnel}
    assert declined["InsufficientCpus"] == 1
    assert [stage["processed"] for stage in funnel] == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]


async def test_info_has_only_keys_that_clients_know(marathon: Marathon) -> None:
    _, info = await marathon.ask("GET", "/v2/info")

    assert set(info) == {
        *("name", "version", "buildref", "elected", "leader", "frameworkId"),
        *("marathon_config", "zookeeper_config", "http_config"),
    }
    assert len(info["marathon_config"]) == 41
    assert info["http_config"] == {"http_port": 8080, "https_port": None}


async def test_metrics_count_requests_and_tasks(marathon: Marathon, master: FakeMaster) -> None:
    await deploy(marathon, master)

    _, metrics = await marathon.ask("GET", "/metrics")
    _, text = await marathon.ask("GET", "/metrics/prometheus")

    assert metrics["version"] == "4.0.0"
    assert metrics["gauges"]["marathon.apps.active.gauge"] == {"value": 1}
    assert metrics["counters"]["marathon.deployments.counter"] == {"count": 1}
    assert metrics["counters"]["marathon.mesos.task-updates.task-running.counter"]["count"] == 1
    assert metrics["timers"]["marathon.http.requests.post.duration.timer.seconds"]["count"] == 1
    assert "# TYPE marathon_apps_active_gauge gauge\nmarathon_apps_active_gauge 1\n" in text
    assert "marathon_deployments_counter 1\n" in text


async def test_pings_are_text_or_json(marathon: Marathon) -> None:
    text = await marathon.request("GET", "/ping")
    value = await marathon.request("GET", "/ping", headers={"Accept": "application/json"})

    assert (text.content_type, await text.text()) == ("text/plain", "pong")
    assert await value.json() == "pong"


async def test_the_log_tells_more_for_a_while(marathon: Marathon) -> None:
    more = await marathon.ask(
        "POST", "/logging", {"logger": "x", "level": "debug", "durationSeconds": 5}
    )
    _, now = await marathon.ask("GET", "/logging")
    await marathon.ask("POST", "/logging", {"level": "INFO"})
    _, then = await marathon.ask("GET", "/logging")
    bad, _ = await marathon.ask("POST", "/logging", {"level": "LOUD"})

    assert more == (200, {"logger": "x", "level": "DEBUG"})
    assert (now["ROOT"], then["ROOT"], bad) == ("DEBUG", "INHERIT", 422)


@pytest.fixture
async def guarded(marathon: Marathon) -> AsyncIterator[TestClient[Any, Any]]:
    """Yield a client of a Marathon that asks for a password."""
    policy = Policy(credentials="user:pass", origins=frozenset({"http://ui"}))
    app = build_app(marathon.seat, marathon.session, policy)
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(None, 401, id="none"),
        pytest.param("Basic " + b64encode(b"user:pass").decode(), 200, id="right"),
        pytest.param("basic " + b64encode(b"user:pass").decode(), 200, id="lower-case"),
        pytest.param("Basic " + b64encode(b"user:other").decode(), 401, id="wrong"),
        pytest.param("Basic \xe9\xe9", 401, id="no-base64"),
        pytest.param("Bearer user:pass", 401, id="other-scheme"),
    ],
)
async def test_a_password_is_asked_for(
    guarded: TestClient[Any, Any], header: str | None, expected: int
) -> None:
    headers = {} if header is None else {"Authorization": header}

    answer = await guarded.get("/v2/apps", headers=headers)

    assert answer.status == expected
    if expected == 401:
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="Mesosphere"')
        assert "message" in await answer.json()
    assert (await guarded.get("/ping")).status == 200


async def test_pages_of_known_origins_may_read(guarded: TestClient[Any, Any]) -> None:
    known = await guarded.get("/ping", headers={"Origin": "http://ui"})
    other = await guarded.get("/ping", headers={"Origin": "http://evil"})

    assert known.headers["Access-Control-Allow-Origin"] == "http://ui"
    assert "Access-Control-Allow-Origin" not in other.headers


async def test_event_streams_are_told_of(marathon: Marathon) -> None:
    accept = {"Accept": "text/event-stream"}
    kinds = "?event_type=event_stream_attached&event_type=event_stream_detached"
    watcher = await marathon.request("GET", "/v2/events" + kinds, headers=accept)
    assert (await watcher.content.readline()) == b"event: event_stream_attached\r\n"

    other = await marathon.request("GET", "/v2/events", headers=accept)
    other.close()

    seen: list[str] = []
    while len(seen) < 2:
        line = await watcher.content.readline()
        if line.startswith(b"data: "):
            seen.append(json.loads(line[6:])["eventType"])
    watcher.close()
    assert seen[0] == "event_stream_attached"


async def test_health_checks_are_told_of(marathon: Marathon) -> None:
    kinds = ("add_health_check_event", "remove_health_check_event", "failed_health_check_event")
    with marathon.board.bus.reading(kinds) as reader:
        check = {"protocol": "TCP", "portIndex": 0}
        await marathon.ask("POST", "/v2/apps", {**WEB, "instances": 0, "healthChecks": [check]})
        await marathon.ask("PUT", "/v2/apps/web?force=true", {"labels": {"a": "b"}})
        await marathon.ask("PUT", "/v2/apps/web?force=true", {"healthChecks": []})
        seen = await reader.next() or ()

    assert [event.kind for event in seen] == list(kinds[:2])
    told = seen[0].fields
    added = told["healthCheck"]
    assert isinstance(added, dict)
    assert (told["appId"], added["protocol"], "path" in added) == ("/web", "TCP", False)
