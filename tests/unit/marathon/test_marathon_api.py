"""Marathon against a master of paper: real HTTP on both sides."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from phalanx.mesos.v1.codec import encode

if TYPE_CHECKING:
    from tests.unit.marathon.conftest import FakeMaster, Marathon

WEB: dict[str, Any] = {
    "id": "/web",
    "cmd": "exec httpd",
    "instances": 1,
    "cpus": 0.5,
    "mem": 64,
    "networks": [{"mode": "container", "name": "dcos"}],
    "container": {
        "type": "MESOS",
        "portMappings": [
            {"containerPort": 80, "name": "http", "labels": {"VIP_0": "/web:80"}},
        ],
    },
}


async def deploy(
    marathon: Marathon, master: FakeMaster, count: int = 1, **more: object
) -> list[Any]:
    """Create the app, launch it on one agent, and report every task running."""
    status, _ = await marathon.ask("POST", "/v2/apps", {**WEB, "instances": count, **more})
    assert status == 201
    await master.next("REVIVE")
    await master.offer("a1")
    tasks = await master.tasks(count)
    for task in tasks:
        await master.update(task, "TASK_RUNNING")
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    return tasks


async def test_create_launches_the_right_task(marathon: Marathon, master: FakeMaster) -> None:
    status, created = await marathon.ask("POST", "/v2/apps", WEB)
    await master.next("REVIVE")
    await master.offer("a1")
    [task] = await master.tasks(1)

    assert status == 201
    assert created["tasks"] == []
    assert len(created["deployments"]) == 1
    wire = json.loads(encode(task))
    assert wire["name"] == "web"
    assert wire["task_id"]["value"].startswith("web.instance-")
    assert wire["task_id"]["value"].endswith("._app.1")
    assert wire["agent_id"] == {"value": "agent-a1"}
    assert wire["container"]["network_infos"] == [{"name": "dcos"}]
    [port] = wire["discovery"]["ports"]["ports"]
    assert port["number"] == 80
    assert {label["key"]: label["value"] for label in port["labels"]["labels"]} == {
        "VIP_0": "/web:80",
        "network-scope": "container",
        "network-name": "dcos",
    }
    assert all(r["allocation_info"] == {"role": "*"} for r in wire["resources"])


async def test_running_task_shows_with_its_address(marathon: Marathon, master: FakeMaster) -> None:
    await deploy(marathon, master)

    _, answer = await marathon.ask("GET", "/v2/apps/web")

    assert answer["app"]["tasksRunning"] == 1
    [task] = answer["app"]["tasks"]
    assert task["ipAddresses"] == [{"ipAddress": "9.0.1.2", "protocol": "IPv4"}]
    assert task["state"] == "TASK_RUNNING"


async def test_web_app_comes_up_and_goes_away(marathon: Marathon, master: FakeMaster) -> None:
    [task] = await deploy(marathon, master)

    status, answer = await marathon.ask("DELETE", "/v2/apps/web")
    kill = (await master.next("KILL")).kill
    await master.update(task, "TASK_KILLED")

    assert status == 200
    assert set(answer) == {"version", "deploymentId"}
    assert kill is not None
    assert kill.task_id == task.task_id
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    assert await marathon.ask("GET", "/v2/tasks") == (200, {"tasks": []})
    status, answer = await marathon.ask("GET", "/v2/apps/web")
    assert (status, answer) == (404, {"message": "App '/web' does not exist"})


async def test_update_is_acknowledged_only_when_stored(
    marathon: Marathon, master: FakeMaster
) -> None:
    await marathon.ask("POST", "/v2/apps", WEB)
    await master.next("REVIVE")
    await master.offer("a1")
    [task] = await master.tasks(1)

    number = await master.update(task, "TASK_RUNNING")
    acknowledge = (await master.next("ACKNOWLEDGE")).acknowledge

    assert acknowledge is not None
    assert acknowledge.uuid == number
    assert acknowledge.task_id == task.task_id
    [instance] = marathon.board.ledger.instances()
    assert instance.condition == "Running"


async def test_update_without_uuid_is_not_acknowledged(
    marathon: Marathon, master: FakeMaster
) -> None:
    [task] = await deploy(marathon, master)

    await master.update(task, "TASK_RUNNING", address="9.0.9.9", with_uuid=False)
    await marathon.until(
        "/v2/tasks", lambda a: a["tasks"][0]["ipAddresses"][0]["ipAddress"] == "9.0.9.9"
    )
    await master.update(task, "TASK_RUNNING")
    await master.next("ACKNOWLEDGE", seen=1)

    assert len(master.of("ACKNOWLEDGE")) == 2


async def test_scale_up_launches_and_scale_down_kills_the_youngest(
    marathon: Marathon, master: FakeMaster
) -> None:
    [first] = await deploy(marathon, master)

    await marathon.ask("PUT", "/v2/apps/web", {"instances": 3})
    await master.next("REVIVE", seen=1)
    await master.offer("a1", "a2")
    _, second, third = await master.tasks(3)
    for task in (second, third):
        await master.update(task, "TASK_RUNNING")
        await master.next("ACKNOWLEDGE", seen=len(master.of("ACKNOWLEDGE")) - 1)
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    await marathon.ask("PUT", "/v2/apps//web", {"instances": 1})
    await master.next("KILL", seen=1)

    killed = {call.kill.task_id.value for call in master.of("KILL") if call.kill}
    assert killed == {second.task_id.value, third.task_id.value}
    assert first.task_id.value not in killed


async def test_scale_down_to_what_runs_ends_at_once(marathon: Marathon, master: FakeMaster) -> None:
    await deploy(marathon, master)
    await marathon.ask("PUT", "/v2/apps/web", {"instances": 2})
    await master.next("REVIVE", seen=1)

    await marathon.ask("PUT", "/v2/apps/web?force=true", {"instances": 1})

    await marathon.until("/v2/deployments", lambda answer: answer == [])
    assert master.of("KILL") == []


async def test_app_that_never_ran_is_deleted_at_once(
    marathon: Marathon, master: FakeMaster
) -> None:
    await marathon.ask("POST", "/v2/apps", {**WEB, "cpus": 64})
    await master.next("REVIVE")

    await marathon.ask("DELETE", "/v2/apps/web")

    await marathon.until("/v2/deployments", lambda answer: answer == [])


async def test_instances_are_spread_over_the_agents_of_one_batch(
    marathon: Marathon, master: FakeMaster
) -> None:
    await marathon.ask("POST", "/v2/apps", {**WEB, "instances": 4})
    await master.next("REVIVE")
    await master.offer("a1", "a2")

    agents = [task.agent_id.value for task in await master.tasks(4)]

    assert sorted(agents) == ["agent-a1", "agent-a1", "agent-a2", "agent-a2"]


async def test_failed_task_is_launched_again_after_the_delay(
    marathon: Marathon, master: FakeMaster
) -> None:
    [task] = await deploy(marathon, master, backoffSeconds=0.2)
    failed_at = asyncio.get_running_loop().time()

    await master.update(task, "TASK_FAILED")
    await master.next("REVIVE", seen=1)
    waited = asyncio.get_running_loop().time() - failed_at
    await master.offer("a1")
    _, again = await master.tasks(2)

    assert waited >= 0.2
    assert again.task_id.value == task.task_id.value.replace("._app.1", "._app.2")
    _, answer = await marathon.ask("GET", "/v2/apps/web")
    assert answer["app"]["lastTaskFailure"]["state"] == "TASK_FAILED"
    assert answer["app"]["lastTaskFailure"]["taskId"] == task.task_id.value


async def test_unreachable_task_is_replaced_at_once_and_killed_when_it_returns(
    marathon: Marathon, master: FakeMaster
) -> None:
    [task] = await deploy(marathon, master)

    await master.update(task, "TASK_UNREACHABLE", with_uuid=False)
    await master.next("REVIVE", seen=1)
    await master.offer("a2")
    _, replacement = await master.tasks(2)
    await master.update(replacement, "TASK_RUNNING")
    await master.update(task, "TASK_RUNNING", with_uuid=False)
    kill = (await master.next("KILL")).kill

    assert replacement.agent_id.value == "agent-a2"
    assert kill is not None
    assert kill.task_id == task.task_id


async def test_killed_task_is_replaced_without_delay(
    marathon: Marathon, master: FakeMaster
) -> None:
    [task] = await deploy(marathon, master)

    status, answer = await marathon.ask("DELETE", f"/v2/apps/web/tasks/{task.task_id.value}")
    await master.next("KILL")
    await master.update(task, "TASK_KILLED")
    await master.next("REVIVE", seen=1)
    await master.offer("a1")

    assert status == 200
    assert answer["task"]["id"] == task.task_id.value
    assert len(await master.tasks(2)) == 2


async def test_kill_and_scale_ends_that_very_task(marathon: Marathon, master: FakeMaster) -> None:
    tasks = await deploy(marathon, master, count=3)
    chosen = tasks[1].task_id.value

    status, answer = await marathon.ask("POST", "/v2/tasks/delete?scale=true", {"ids": [chosen]})
    kill = (await master.next("KILL")).kill
    await master.update(tasks[1], "TASK_KILLED")
    await marathon.until("/v2/deployments", lambda answer: answer == [])

    assert status == 200
    assert "deploymentId" in answer
    assert kill is not None
    assert kill.task_id.value == chosen
    _, answer = await marathon.ask("GET", "/v2/apps/web")
    assert answer["app"]["instances"] == 2
    assert len(master.of("KILL")) == 1


async def test_changed_definition_replaces_instances_one_healthy_new_for_one_old(
    marathon: Marathon, master: FakeMaster
) -> None:
    old = await deploy(marathon, master, count=2)

    await marathon.ask("PUT", "/v2/apps/web", {"cmd": "exec other"})
    await master.next("REVIVE", seen=1)
    await master.offer("a1")
    new = (await master.tasks(4))[2:]
    assert master.of("KILL") == []
    await master.update(new[0], "TASK_RUNNING")
    kill = (await master.next("KILL")).kill
    assert kill is not None
    await master.update(new[1], "TASK_RUNNING")
    await master.next("KILL", seen=1)
    for task in old:
        await master.update(task, "TASK_KILLED")
    await marathon.until("/v2/deployments", lambda answer: answer == [])

    assert {task.command.value for task in new if task.command} == {"exec other"}
    assert {c.kill.task_id for c in master.of("KILL") if c.kill} == {t.task_id for t in old}


async def test_restart_bumps_the_version_and_replaces(
    marathon: Marathon, master: FakeMaster
) -> None:
    await deploy(marathon, master)

    status, answer = await marathon.ask("POST", "/v2/apps/web/restart")
    await master.next("REVIVE", seen=1)
    await master.offer("a1")

    assert status == 200
    assert len(await master.tasks(2)) == 2
    _, versions = await marathon.ask("GET", "/v2/apps/web/versions")
    assert versions["versions"][0] == answer["version"]
    assert len(versions["versions"]) == 2


async def test_version_can_be_read_and_rolled_back_to(
    marathon: Marathon, master: FakeMaster
) -> None:
    await deploy(marathon, master)
    _, versions = await marathon.ask("GET", "/v2/apps/web/versions")
    [first] = versions["versions"]
    await marathon.ask("PUT", "/v2/apps/web?force=true", {"mem": 65})

    status, _ = await marathon.ask("PUT", "/v2/apps/web?force=true", {"version": first})

    assert status == 200
    _, answer = await marathon.ask("GET", "/v2/apps/web")
    assert answer["app"]["mem"] == 64
    _, old = await marathon.ask("GET", f"/v2/apps/web/versions/{first}")
    assert old["mem"] == 64
    status, answer = await marathon.ask("GET", "/v2/apps/web/versions/2001-01-01T00:00:00.000Z")
    assert status == 404


async def test_body_of_get_can_be_put_back(marathon: Marathon, master: FakeMaster) -> None:
    await deploy(marathon, master)
    _, answer = await marathon.ask("GET", "/v2/apps/web")

    status, _ = await marathon.ask("PUT", "/v2/apps/web", answer["app"])

    assert status == 200
    assert await marathon.ask("GET", "/v2/deployments") == (200, [])
    _, again = await marathon.ask("GET", "/v2/apps/web")
    assert again["app"]["version"] == answer["app"]["version"]


async def test_app_in_deployment_is_locked_unless_forced(
    marathon: Marathon, master: FakeMaster
) -> None:
    _, created = await marathon.ask("POST", "/v2/apps", WEB)

    status, answer = await marathon.ask("PUT", "/v2/apps/web", {"instances": 2})
    forced, _ = await marathon.ask("PUT", "/v2/apps/web?force=True", {"instances": 2})

    assert status == 409
    assert answer["deployments"] == [{"id": created["deployments"][0]["id"]}]
    assert answer["message"].startswith("App is locked by one or more deployments.")
    assert forced == 200


async def test_queue_says_why_an_app_waits(marathon: Marathon, master: FakeMaster) -> None:
    await marathon.ask("POST", "/v2/apps", {**WEB, "cpus": 64})
    await master.next("REVIVE")
    await master.offer("a1")
    decline = (await master.next("DECLINE")).decline

    _, answer = await marathon.ask("GET", "/v2/queue?embed=lastUnusedOffers")

    [item] = answer["queue"]
    assert item["app"]["id"] == "/web"
    assert item["count"] == 1
    assert item["delay"] == {"timeLeftSeconds": 0, "overdue": True}
    reasons = item["processedOffersSummary"]["rejectSummaryLastOffers"]
    assert {r["reason"]: r["declined"] for r in reasons}["InsufficientCpus"] == 1
    assert item["lastUnusedOffers"][0]["reason"] == ["InsufficientCpus"]
    assert decline is not None
    assert decline.filters is not None
    assert decline.filters.refuse_seconds == 5.0


async def test_offers_are_suppressed_and_declined_for_long_when_nothing_waits(
    marathon: Marathon, master: FakeMaster
) -> None:
    suppress = await master.next("SUPPRESS")
    await master.offer("a1")
    decline = (await master.next("DECLINE")).decline

    assert suppress.suppress is not None
    assert suppress.suppress.roles == ("*",)
    assert decline is not None
    assert decline.filters is not None
    assert decline.filters.refuse_seconds == 120.0


async def test_deployment_can_be_undone(marathon: Marathon, master: FakeMaster) -> None:
    _, created = await marathon.ask("POST", "/v2/apps", WEB)
    deployment = created["deployments"][0]["id"]
    _, running = await marathon.ask("GET", "/v2/deployments")

    undone, _ = await marathon.ask("DELETE", f"/v2/deployments/{deployment}")

    [shown] = running
    assert shown["affectedApps"] == ["/web"]
    assert shown["steps"] == [
        {"actions": [{"action": "StartApplication", "app": "/web"}]},
        {"actions": [{"action": "ScaleApplication", "app": "/web"}]},
    ]
    assert undone == 200
    assert (await marathon.ask("GET", "/v2/apps/web"))[0] == 404
    assert (await marathon.ask("DELETE", f"/v2/deployments/{deployment}"))[0] == 404


async def test_cancelled_deployment_is_forgotten(marathon: Marathon, master: FakeMaster) -> None:
    _, created = await marathon.ask("POST", "/v2/apps", WEB)
    deployment = created["deployments"][0]["id"]

    status, _ = await marathon.ask("DELETE", f"/v2/deployments/{deployment}?force=true")

    assert status == 202
    assert await marathon.ask("GET", "/v2/deployments") == (200, [])
    assert (await marathon.ask("GET", "/v2/apps/web"))[0] == 200


async def test_agent_run_check_keeps_the_deployment_until_it_passes(
    marathon: Marathon, master: FakeMaster
) -> None:
    check = {"protocol": "COMMAND", "command": {"value": "true"}}
    await marathon.ask("POST", "/v2/apps", {**WEB, "healthChecks": [check]})
    await master.next("REVIVE")
    await master.offer("a1")
    [task] = await master.tasks(1)
    await master.update(task, "TASK_RUNNING")
    await master.next("ACKNOWLEDGE")
    _, unfinished = await marathon.ask("GET", "/v2/deployments")
    await master.update(task, "TASK_RUNNING", healthy=True)

    await marathon.until("/v2/deployments", lambda answer: answer == [])
    assert len(unfinished) == 1
    _, answer = await marathon.ask("GET", "/v2/apps?embed=apps.tasks")
    [app] = answer["apps"]
    assert app["tasksHealthy"] == 1
    assert app["tasks"][0]["healthCheckResults"][0]["alive"] is True
    assert task.health_check is not None


async def test_what_is_being_killed_is_not_healthy_any_more(
    marathon: Marathon, master: FakeMaster
) -> None:
    check = {"protocol": "COMMAND", "command": {"value": "true"}}
    await marathon.ask("POST", "/v2/apps", {**WEB, "healthChecks": [check]})
    await master.next("REVIVE")
    await master.offer("a1")
    [task] = await master.tasks(1)
    await master.update(task, "TASK_RUNNING", healthy=True)
    await marathon.until("/v2/deployments", lambda answer: answer == [])

    await master.update(task, "TASK_KILLING")

    app = await marathon.until("/v2/apps/web", lambda answer: answer["app"]["tasksRunning"] == 0)
    assert app["app"]["tasksHealthy"] == 0


async def test_groups_show_apps_and_can_be_deleted(marathon: Marathon, master: FakeMaster) -> None:
    await marathon.ask("POST", "/v2/apps", {**WEB, "id": "/shop/web"})
    await marathon.ask("POST", "/v2/apps", {**WEB, "id": "/shop/back/db"})

    _, root = await marathon.ask("GET", "/v2/groups")
    clash, _ = await marathon.ask("POST", "/v2/apps", {**WEB, "id": "/shop"})
    deleted, _ = await marathon.ask("DELETE", "/v2/groups/shop?force=true")

    assert root["id"] == "/"
    [shop] = root["groups"]
    assert [app["id"] for app in shop["apps"]] == ["/shop/web"]
    assert [group["id"] for group in shop["groups"]] == ["/shop/back"]
    assert clash == 409
    assert deleted == 200
    assert await marathon.ask("GET", "/v2/apps") == (200, {"apps": []})
    assert (await marathon.ask("GET", "/v2/groups/shop"))[0] == 404


async def test_several_apps_change_in_one_deployment(
    marathon: Marathon, master: FakeMaster
) -> None:
    bodies = [{**WEB, "id": "/a", "dependencies": ["/b"]}, {**WEB, "id": "/b"}]

    status, answer = await marathon.ask("PUT", "/v2/apps", bodies)
    missing, _ = await marathon.ask("PATCH", "/v2/apps", [{"id": "/c", "mem": 1}])

    assert status == 200
    _, [deployment] = await marathon.ask("GET", "/v2/deployments")
    assert deployment["id"] == answer["deploymentId"]
    order = [[a["app"] for a in step["actions"]] for step in deployment["steps"]]
    assert order == [["/a", "/b"], ["/b"], ["/a"]]
    assert missing == 404


async def test_list_selects_by_id_command_and_label(marathon: Marathon, master: FakeMaster) -> None:
    await marathon.ask("POST", "/v2/apps", {**WEB, "labels": {"tier": "front"}})
    await marathon.ask("POST", "/v2/apps", {**WEB, "id": "/db", "cmd": "postgres"})

    async def ids(query: str) -> list[str]:
        _, answer = await marathon.ask("GET", f"/v2/apps?{query}")
        return [app["id"] for app in answer["apps"]]

    assert await ids("id=WE") == ["/web"]
    assert await ids("cmd=post") == ["/db"]
    assert await ids("label=tier%3D%3Dfront") == ["/web"]
    assert await ids("label=tier!%3Dfront") == []
    assert await ids("") == ["/db", "/web"]


async def test_every_reply_names_the_leader(marathon: Marathon) -> None:
    async with await marathon.request("GET", "/ping") as pong:
        assert await pong.text() == "pong"
        assert pong.headers["X-Marathon-Leader"] == "http://m1:8080"
        assert pong.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
    assert await marathon.ask("GET", "/v2/leader") == (200, {"leader": "m1:8080"})
    assert await marathon.ask("GET", "/nothing") == (404, {"message": "URI not found"})
    status, answer = await marathon.ask("DELETE", "/v2/info")
    assert (status, answer) == (405, {"message": "Method Not Allowed"})


async def test_info_and_metrics(marathon: Marathon, master: FakeMaster) -> None:
    await master.next("SUPPRESS")

    _, answer = await marathon.ask("GET", "/v2/info")
    _, metrics = await marathon.ask("GET", "/metrics")

    assert answer["frameworkId"] == "fw-0000"
    assert answer["marathon_config"]["default_network_name"] == "dcos"
    assert metrics["gauges"]["marathon.apps.active.gauge"] == {"value": 0}


async def test_event_stream_tells_what_was_asked_for(
    marathon: Marathon, master: FakeMaster
) -> None:
    url = "/v2/events?plan-format=light" + "".join(
        f"&event_type={kind}"
        for kind in ("api_post_event", "deployment_info", "deployment_success",
                     "status_update_event", "event_stream_attached")
    )  # fmt: skip
    async with await marathon.request("GET", url, headers={"Accept": "text/event-stream"}) as sse:
        seen: list[dict[str, Any]] = [await next_event(sse.content)]
        await deploy(marathon, master)
        while seen[-1]["eventType"] != "deployment_success":
            seen.append(await next_event(sse.content))

    assert [event["eventType"] for event in seen] == [
        "event_stream_attached",
        "api_post_event",
        "deployment_info",
        "status_update_event",
        "deployment_success",
    ]
    assert seen[1]["appDefinition"]["id"] == "/web"
    assert "original" not in seen[2]["plan"]
    assert seen[3]["taskStatus"] == "TASK_RUNNING"
    assert (await marathon.ask("GET", "/v2/events"))[0] == 405


async def next_event(content: Any) -> Any:
    """Return the data of the next event."""
    async with asyncio.timeout(30):
        while True:
            line = await content.readline()
            if line.startswith(b"data: "):
                return json.loads(line[6:])


GARBAGE = [
    b"", b"{", b"[1]", b"null", b'"x"', b"\xff\xfe", b"[" * 20_000, b"{}", b'{"id": 7}',
    b'{"id": "/web", "cmd": {}}', b'{"id": "/web", "cmd": "x", "instances": 1e400}',
    b'{"id": "/web", "cmd": "x", "instances": -1}', b'{"id": "/web", "cmd": "x", "cpus": "2"}',
    b'{"id": "/web", "cmd": "x", "networks": 5}', b'{"id": "/web", "cmd": "x", "ports": [{}]}',
    b'{"id": "/web", "cmd": "x", "constraints": [["a"]]}', b'{"id": "/web", "cmd": ""}',
    b'{"id": "/web", "cmd": "x", "container": []}', b'{"id": "/web", "cmd": "x", "env": [1]}',
    b'{"id": "/web", "cmd": "x", "ipAddress": {"discovery": {"ports": [7]}}}',
    b'{"id": "/web", "cmd": "x", "container": {"docker": {"network": [1]}}}',
    b'{"id": "/web", "cmd": "x", "mem": NaN}', b'{"ids": 5}', b'{"ids": [5]}',
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v2/apps"), ("PUT", "/v2/apps"), ("PUT", "/v2/apps/web"), ("PATCH", "/v2/apps/web"),
     ("POST", "/v2/tasks/delete")],
)  # fmt: skip
async def test_garbage_is_refused_and_nothing_breaks(
    marathon: Marathon, method: str, path: str
) -> None:
    answers = [await marathon.ask(method, path, raw=raw) for raw in GARBAGE]

    wrong = [
        (raw[:60], status)
        for raw, (status, _) in zip(GARBAGE, answers, strict=True)
        if not 400 <= status < 500
    ]
    assert wrong == []
    assert all(isinstance(answer["message"], str) for _, answer in answers)
    assert await marathon.ask("GET", "/v2/apps") == (200, {"apps": []})


@pytest.mark.parametrize(
    "path",
    ["/v2/apps?label=((", "/v2/apps/none", "/v2/apps/none/tasks", "/v2/apps/none/versions",
     "/v2/apps/..", "/v2/apps/%00", "/v2/apps/a%20b", "/v2/groups/none", "/v2/tasks/x"],
)  # fmt: skip
async def test_odd_paths_are_client_errors(marathon: Marathon, path: str) -> None:
    status, answer = await marathon.ask("GET", path)

    assert 400 <= status < 500
    assert "message" in answer
