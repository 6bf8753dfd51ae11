"""Every answer is understood by a client whose types are fixed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.unit.marathon import strict

if TYPE_CHECKING:
    from tests.unit.marathon.conftest import FakeMaster, Marathon

# With a value wherever one can be: seconds as JSON's other writers have them, too.
FULL: dict[str, Any] = {
    "id": "/shop/web",
    "args": ["serve"],
    "cpus": 1,
    "mem": 64,
    "disk": 5,
    "container": {
        "type": "MESOS",
        "docker": {"image": "web", "forcePullImage": True},
        "portMappings": [{"containerPort": 80, "name": "http-api", "labels": {"VIP_0": "/web:80"}}],
        "volumes": [{"containerPath": "/var", "hostPath": "/var", "mode": "RO"}],
    },
    "networks": [{"mode": "container", "name": "dcos"}],
    "env": {"A": "b", "S": {"secret": "s"}},
    "secrets": {"s": {"source": "x"}},
    "labels": {"HAPROXY_GROUP": "external"},
    "constraints": [["hostname", "MAX_PER", 7]],
    "fetch": [{"uri": "http://x/y.tgz"}],
    "healthChecks": [
        {"protocol": "HTTP", "gracePeriodSeconds": 5.0, "intervalSeconds": 7, "timeoutSeconds": 2},
        {"protocol": "COMMAND", "command": {"value": "true"}},
    ],
    "readinessChecks": [{"intervalSeconds": 9, "timeoutSeconds": 3.0}],
    "backoffSeconds": 2,
    "backoffFactor": 1.5,
    "taskKillGracePeriodSeconds": 3,
    "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 0},
    "user": "nobody",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def answer(marathon: Marathon, path: str, kind: Any) -> Any:
    """Return what a strict client makes of an answer."""
    response = await marathon.request("GET", path)
    assert response.status == 200
    return strict.decode(await response.read(), kind)


@pytest.fixture
async def full(marathon: Marathon, master: FakeMaster) -> Marathon:
    """Return a Marathon in which everything has something to say."""
    status, said = await marathon.ask("POST", "/v2/apps", FULL)
    assert status == 201, said
    await master.offer("h1")
    [task] = await master.tasks(1)
    await master.update(task, "TASK_RUNNING", healthy=True)
    await marathon.until(
        "/v2/tasks", lambda a: [t["state"] for t in a["tasks"]] == ["TASK_RUNNING"]
    )
    await marathon.ask("POST", "/v2/apps", {"id": "/greedy", "cmd": "x", "cpus": 900})
    await marathon.until("/v2/queue", lambda a: a["queue"])
    await master.offer("h1")
    await marathon.until(
        "/v2/queue",
        lambda a: any(w["processedOffersSummary"]["unusedOffersCount"] for w in a["queue"]),
    )
    return marathon


async def test_apps_and_tasks(full: Marathon) -> None:
    embeds = "&".join(
        f"embed=apps.{name}"
        for name in ("tasks", "failures", "counts", "deployments", "taskStats", "readiness")
    )
    listed = await answer(full, f"/v2/apps?{embeds}", strict.Apps)
    one = await answer(full, "/v2/apps/shop/web", strict.One)
    tasks = await answer(full, "/v2/tasks", strict.Tasks)
    versions = await answer(full, "/v2/apps/shop/web/versions", dict[str, list[str]])
    former = await answer(full, f"/v2/apps/shop/web/versions/{versions['versions'][0]}", strict.App)

    [_, app] = listed.apps
    assert app.id == one.app.id == former.id == "/shop/web"
    assert [check.grace_period_seconds for check in app.health_checks] == [5, 300]
    assert app.readiness_checks[0].timeout_seconds == 3
    assert app.task_stats["totalSummary"].stats.counts["running"] == 1
    assert TIME.fullmatch(app.version)
    assert TIME.fullmatch(app.version_info.last_scaling_at)
    [task] = tasks.tasks
    assert TIME.fullmatch(task.staged_at)
    assert TIME.fullmatch(task.started_at)
    assert [result.alive for result in task.health_check_results] == [True]


async def test_groups_deployments_queue_and_info(full: Marathon) -> None:
    root = await answer(full, "/v2/groups?embed=group.apps&embed=group.groups", strict.Group)
    deployments = await answer(full, "/v2/deployments", list[strict.Deployment])
    queue = await answer(full, "/v2/queue?embed=lastUnusedOffers", strict.Queue)
    info = await answer(full, "/v2/info", strict.Info)

    assert [group.id for group in root.groups] == ["/shop"]
    assert [deployment.affected_apps for deployment in deployments] == [
        ["/shop/web"], ["/greedy"],
    ]  # fmt: skip
    [waiting] = queue.queue
    assert (waiting.app.id, waiting.count, waiting.delay.overdue) == ("/greedy", 1, True)
    assert TIME.fullmatch(waiting.since)
    assert (info.elected, info.marathon_config.local_port_min) == (True, 10000)


async def test_answers_to_changes(marathon: Marathon) -> None:
    created = await marathon.request("POST", "/v2/apps", json={**FULL, "instances": 0})
    changed = await marathon.request("PUT", "/v2/apps/shop/web?force=true", json={"cpus": 2})

    app = strict.decode(await created.read(), strict.App)
    result = strict.decode(await changed.read(), dict[str, str])
    assert [set(deployment) for deployment in app.deployments] == [{"id"}]
    assert set(result) == {"version", "deploymentId"}


async def test_events(marathon: Marathon, master: FakeMaster) -> None:
    seen: dict[str, Any] = {}
    with marathon.board.bus.reading(strict.EVENTS.keys()) as reader:
        check = {"protocol": "COMMAND", "command": {"value": "true"}, "intervalSeconds": 5}
        await marathon.ask("POST", "/v2/apps", {"id": "/w", "cmd": "x", "healthChecks": [check]})
        await master.offer("h1")
        [task] = await master.tasks(1)
        await master.update(task, "TASK_RUNNING", healthy=True)
        while "deployment_success" not in seen:
            for event in await reader.next() or ():
                raw = msgspec.json.encode(event.fields)
                seen[event.kind] = strict.decode(raw, strict.EVENTS[event.kind])

    assert seen.keys() == strict.EVENTS.keys() - {"deployment_step_failure", "deployment_failed"}
    assert seen["api_post_event"].app_definition.health_checks[0].interval_seconds == 5
    assert [app.id for app in seen["deployment_info"].plan.target.apps] == ["/w"]


@pytest.mark.parametrize("raw", [b'{"portIndex": 5.0}', b'{"path": 5}', b'{"protocol": []}'])
def test_the_strict_client_is_strict(raw: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        strict.decode(raw, strict.HealthCheck)
