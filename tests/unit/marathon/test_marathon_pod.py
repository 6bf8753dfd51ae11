"""Pods: their definition, their task groups, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from phalanx.marathon.definition.pod import parse_pod
from phalanx.marathon.definition.problem import DefinitionError
from phalanx.marathon.definition.render import render_pod
from phalanx.mesos.v1 import mesos

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.unit.marathon.conftest import FakeMaster, Marathon

    Start = Callable[[], AbstractAsyncContextManager[Marathon]]

SMALL = {"cpus": 0.1, "mem": 32}
POD: dict[str, Any] = {
    "id": "/shop/pair",
    "labels": {"team": "a"},
    "environment": {"SHARED": "yes", "OVER": "pod"},
    "volumes": [{"name": "work"}, {"name": "logs", "host": "/var/log"}],
    "networks": [{"mode": "container", "name": "dcos"}],
    "containers": [
        {
            "name": "front",
            "exec": {"command": {"shell": "serve"}},
            "resources": SMALL,
            "environment": {"OVER": "container"},
            "endpoints": [
                {"name": "web-1", "containerPort": 80, "hostPort": 0,
                 "labels": {"VIP_0": "/pair:80"}},
                {"name": "admin", "containerPort": 81, "labels": {"VIP_1": "/admin:81"}},
            ],
            "volumeMounts": [{"name": "work", "mountPath": "work"}],
            "healthCheck": {"http": {"endpoint": "web-1", "path": "/up"}},
            "lifecycle": {"killGracePeriodSeconds": 7},
        },
        {
            "name": "back",
            "image": {"kind": "DOCKER", "id": "busybox"},
            "exec": {"command": {"argv": ["sleep", "9"]}},
            "resources": SMALL,
            "volumeMounts": [
                {"name": "work", "mountPath": "/mnt", "readOnly": True},
                {"name": "logs", "mountPath": "/logs"},
            ],
        },
    ],
}  # fmt: skip


def changed(**fields: Any) -> dict[str, Any]:
    return {**POD, **fields}


def container(**fields: Any) -> dict[str, Any]:
    front = {**POD["containers"][0], **fields}
    return changed(containers=[front, POD["containers"][1]])


async def running_pod(
    marathon: Marathon, master: FakeMaster, pod: dict[str, Any], *, seen: int = 0
) -> list[Any]:
    """Create *pod* with one instance, run it and return its tasks."""
    status, answer = await marathon.ask("POST", "/v2/pods", pod)
    assert status == 201, answer
    await master.next("REVIVE", seen=seen)
    await master.offer("a1")
    tasks = await master.tasks(len(pod["containers"]))
    for task in tasks:
        await master.update(task, "TASK_RUNNING")
    return tasks


def test_pod_has_every_default_and_survives_its_own_rendering() -> None:
    image = {"kind": "DOCKER", "id": "i"}
    pod = parse_pod({"id": "/p", "containers": [{"name": "a", "image": image}]})

    rendered = render_pod(pod)

    assert rendered["executorResources"] == {"cpus": 0.1, "mem": 32.0, "disk": 10.0}
    assert rendered["scaling"] == {"kind": "fixed", "instances": 1}
    assert rendered["networks"] == [{"mode": "host"}]
    assert rendered["containers"][0]["resources"]["cpus"] == 1.0
    assert parse_pod(rendered) == pod
    full = parse_pod(POD)
    assert parse_pod(render_pod(full)) == full


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({}, "/id"),
        (changed(containers=[]), "/containers"),
        (changed(containers="x"), "/containers"),
        (changed(id="/a_b"), "/id"),
        (container(name="Front"), "/containers(0)/name"),
        (container(name="back"), "/containers"),
        (container(exec=None), "/containers(0)"),
        (container(exec={"command": {}}), "/containers(0)/exec/command"),
        (container(image={"kind": "APPC", "id": "x"}), "/containers(0)/image/kind"),
        (container(resources={"cpus": -1}), "/containers(0)/resources/cpus"),
        (container(endpoints=[{"name": "x"}]), "/containers(0)/endpoints(0)/containerPort"),
        (container(endpoints=[{"name": "web-1", "containerPort": 99999}]),
         "/containers(0)/endpoints(0)/containerPort"),
        (container(healthCheck={"tcp": {"endpoint": "none"}}),
         "/containers(0)/healthCheck/tcp/endpoint"),
        (container(healthCheck={}), "/containers(0)/healthCheck"),
        (container(volumeMounts=[{"name": "none", "mountPath": "x"}]),
         "/containers(0)/volumeMounts(0)/name"),
        (changed(volumes=[{"name": "work"}, {"name": "logs"}, {"name": "idle"}]), "/volumes(2)"),
        (changed(networks=[{"mode": "host"}, {"mode": "container", "name": "a"}]), "/networks"),
        (changed(networks=[{"mode": "host", "name": "x"}]), "/networks(0)/name"),
        (changed(scaling={"kind": "fixed", "instances": -1}), "/scaling/instances"),
        (changed(scheduling={"upgrade": {"minimumHealthCapacity": 2}}),
         "/scheduling/upgrade/minimumHealthCapacity"),
        (changed(scheduling={"placement": {"constraints": [
            {"fieldName": "rack", "operator": "NEAR"}]}}),
         "/scheduling/placement/constraints(0)"),
        (changed(environment={"A": {"secret": "none"}}), "/environment/A"),
        (changed(role="other"), "/role"),
    ],
)  # fmt: skip
def test_bad_pod_is_refused_with_the_place(raw: dict[str, Any], path: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_pod(raw)

    assert path in [problem.path for problem in caught.value.problems]


async def test_pod_is_launched_as_one_group(marathon: Marathon, master: FakeMaster) -> None:
    tasks = await running_pod(marathon, master, POD)
    [group] = master.groups()
    front, back = tasks
    executor = group.executor
    variables = {v.name: v.value for v in front.command.environment.variables}
    host = variables["EP_HOST_WEB_1"]

    assert executor.type == "DEFAULT"
    assert executor.container is not None
    [network] = executor.container.network_infos
    assert network.name == "dcos"
    assert [(m.host_port, m.container_port) for m in network.port_mappings] == [(int(host), 80)]
    assert variables["MESOS_EXECUTOR_ID"] == executor.executor_id.value
    assert variables["ENDPOINT_WEB_1"] == variables["EP_CONTAINER_WEB_1"] == "80"
    assert (variables["SHARED"], variables["OVER"]) == ("yes", "container")
    assert {v.name for v in back.command.environment.variables} >= {"EP_HOST_WEB_1", "SHARED"}
    assert front.task_id.value.endswith(".front.1")
    assert front.kill_policy.grace_period.nanoseconds == 7_000_000_000
    assert front.health_check.http.port == 80
    [web, admin] = front.discovery.ports.ports
    scopes = {label.key: label.value for label in web.labels.labels}
    assert (web.number, scopes) == (int(host), {"VIP_0": "/pair:80", "network-scope": "host"})
    scopes = {label.key: label.value for label in admin.labels.labels}
    assert admin.number == 81
    assert scopes == {"VIP_1": "/admin:81", "network-scope": "container", "network-name": "dcos"}
    assert front.container.volumes[0].source.sandbox_path.type == "PARENT"
    assert (back.container.volumes[0].mode, back.container.volumes[1].host_path) == (
        "RO", "/var/log",
    )  # fmt: skip
    mine = [r.scalar.value for task in tasks for r in task.resources if r.name == "cpus"]
    assert mine == [0.1, 0.1]
    assert [r.scalar for r in executor.resources] == [mesos.Scalar(value=v) for v in (0.1, 32, 10)]


async def test_pods_check_without_limit_never_kills(marathon: Marathon, master: FakeMaster) -> None:
    check = {"tcp": {"endpoint": "web-1"}, "maxConsecutiveFailures": 0}

    [front, _] = await running_pod(marathon, master, container(healthCheck=check))

    assert front.health_check.consecutive_failures == 2**32 - 1


async def test_pod_is_stable_once_every_container_runs_and_is_healthy(
    marathon: Marathon, master: FakeMaster
) -> None:
    front, _ = await running_pod(marathon, master, POD)
    path = "/v2/pods//shop/pair::status"

    def both_run(answer: Any) -> bool:
        states = [one["status"] for one in answer["instances"][0]["containers"]]
        return states == ["TASK_RUNNING"] * 2

    unhealthy = await marathon.until(path, both_run)
    await master.update(front, "TASK_RUNNING", healthy=True)
    stable = await marathon.until(path, lambda answer: answer["status"] == "STABLE")
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    _, every = await marathon.ask("GET", "/v2/pods/::status")

    assert (unhealthy["status"], unhealthy["instances"][0]["status"]) == ("DEGRADED", "DEGRADED")
    [instance] = stable["instances"]
    assert instance["networks"] == [{"name": "dcos", "addresses": ["9.0.1.2"]}]
    assert instance["containers"][0]["conditions"][0]["value"] == "true"
    assert instance["containers"][0]["endpoints"][0]["allocatedHostPort"] >= 31000
    assert instance["agentHostname"] == "a1"
    assert instance["specReference"].startswith("/v2/pods/shop/pair::versions/")
    assert [pod["id"] for pod in every] == ["/shop/pair"]


async def test_pod_is_replaced_as_a_unit(marathon: Marathon, master: FakeMaster) -> None:
    pod = changed(scheduling={"backoff": {"backoff": 0}})
    front, back = await running_pod(marathon, master, pod)

    await master.update(back, "TASK_FAILED", message="Command exited with status 3")
    kill = (await master.next("KILL")).kill
    await master.update(front, "TASK_KILLED")
    await master.next("REVIVE", seen=1)
    await master.offer("a1")
    again = await master.tasks(4)
    _, status = await marathon.ask("GET", "/v2/pods/shop/pair::status")

    assert kill is not None
    assert kill.task_id == front.task_id
    assert [task.task_id.value[-2:] for task in again[2:]] == [".2", ".2"]
    [end] = status["terminationHistory"]
    assert end["containers"][1]["termination"]["exitCode"] == 3


async def test_pod_whose_container_finished_goes_on(marathon: Marathon, master: FakeMaster) -> None:
    front, back = await running_pod(marathon, master, POD)
    await master.update(front, "TASK_RUNNING", healthy=True)
    await master.update(back, "TASK_FINISHED")

    path = "/v2/pods/shop/pair::status"
    answer = await marathon.until(
        path, lambda a: a["instances"][0]["containers"][1]["status"] == "TASK_FINISHED"
    )

    assert answer["status"] == "STABLE"
    assert answer["instances"][0]["containers"][1]["termination"]["exitCode"] == 0
    assert master.of("KILL") == []


async def test_pod_is_scaled_upgraded_killed_and_deleted(
    marathon: Marathon, master: FakeMaster
) -> None:
    simple = {"id": "/p", "containers": [
        {"name": "a", "exec": {"command": {"shell": "x"}}, "resources": SMALL}]}  # fmt: skip
    [first] = await running_pod(marathon, master, simple)
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    status, scaled = await marathon.ask(
        "PUT", "/v2/pods/p", {**simple, "scaling": {"kind": "fixed", "instances": 2}}
    )
    assert status == 200
    assert scaled["scaling"]["instances"] == 2
    await master.next("REVIVE", seen=1)
    await master.offer("a2")
    _, second = await master.tasks(2)
    await master.update(second, "TASK_RUNNING")
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    assert master.of("KILL") == []

    _, found = await marathon.ask("GET", "/v2/pods/p::status")
    one = found["instances"][0]["id"]
    status, killed = await marathon.ask("DELETE", f"/v2/pods/p::instances/{one}")
    kill = (await master.next("KILL")).kill
    assert (status, killed["id"]) == (200, one)
    assert kill is not None
    doomed = first if kill.task_id == first.task_id else second
    await master.update(doomed, "TASK_KILLED")
    await master.next("REVIVE", seen=2)
    await master.offer("a1")
    third = (await master.tasks(3))[2]
    await master.update(third, "TASK_RUNNING")

    _, versions = await marathon.ask("GET", "/v2/pods/p::versions")
    _, former = await marathon.ask("GET", f"/v2/pods/p::versions/{versions[-1]}")
    assert (len(versions), former["scaling"]["instances"]) == (2, 1)
    status, _ = await marathon.ask("DELETE", "/v2/pods/p")
    assert status == 202
    await master.until(lambda: len(master.of("KILL")) == 3)
    status, _ = await marathon.ask("GET", "/v2/pods/p::status")
    assert status == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("HEAD", "/v2/pods", None, 200),
        ("GET", "/v2/pods/", None, 200),
        ("GET", "/v2/pods/none", None, 404),
        ("GET", "/v2/pods/none::status", None, 404),
        ("DELETE", "/v2/pods/none", None, 404),
        ("GET", "/v2/pods/p::versions/never", None, 404),
        ("DELETE", "/v2/pods/p::instances/none", None, 404),
        ("DELETE", "/v2/pods/p::instances", ["none"], 200),
        ("DELETE", "/v2/pods/p::instances", {"ids": 1}, 400),
        ("PUT", "/v2/pods/p", {**POD, "id": "/q"}, 400),
        ("POST", "/v2/pods", {**POD, "id": "/p"}, 409),
        ("POST", "/v2/pods", {**POD, "id": "/p/below"}, 409),
        ("POST", "/v2/apps", {"id": "/p", "cmd": "x"}, 409),
        ("POST", "/v2/apps", {"id": "/p/below", "cmd": "x"}, 409),
        ("POST", "/v2/pods", {"id": "/x"}, 422),
        ("POST", "/v2/pods", [], 422),
        ("GET", "/v2/pods/p%3A%3Astatus", None, 200),
    ],
)
async def test_pods_api_answers(
    marathon: Marathon, method: str, path: str, body: object, expected: int
) -> None:
    await marathon.ask("POST", "/v2/pods", {**POD, "id": "/p"})

    status, answer = await marathon.ask(method, path, body)

    assert status == expected, answer


async def test_restart_knows_its_pods(master: FakeMaster, start: Start) -> None:
    async with start() as marathon:
        await master.subscribed()
        tasks = await running_pod(marathon, master, POD)
        await master.update(tasks[0], "TASK_RUNNING", healthy=True)
        await marathon.until("/v2/deployments", lambda answer: answer == [])

    async with start() as marathon:
        reconcile = (await master.next("RECONCILE")).reconcile
        answer = await marathon.until(
            "/v2/pods/shop/pair::status", lambda answer: answer["status"] == "STABLE"
        )

    assert reconcile is not None
    assert {t.task_id for t in reconcile.tasks} == {t.task_id for t in tasks}
    assert len(answer["instances"]) == 1
    assert len(master.groups()) == 1
    assert master.of("KILL") == []


@pytest.mark.parametrize(
    ("more", "shared"),
    [
        pytest.param({}, [None, None], id="as-the-agent-does"),
        pytest.param({"legacySharedCgroups": True}, [None, None], id="shared"),
        pytest.param({"legacySharedCgroups": False}, [False, False], id="own"),
        pytest.param({"limited": {"mem": 64}}, [False, False], id="limits-need-own"),
    ],
)
async def test_containers_with_limits_have_cgroups_of_their_own(
    marathon: Marathon, master: FakeMaster, more: dict[str, Any], shared: list[bool | None]
) -> None:
    front, back = POD["containers"]
    limits = {"resourceLimits": more["limited"]} if "limited" in more else {}
    flags = {key: value for key, value in more.items() if key != "limited"}

    tasks = await running_pod(
        marathon, master, changed(containers=[{**front, **limits}, back], **flags)
    )

    settings = [task.container.linux_info for task in tasks]
    assert [None if linux is None else linux.share_cgroups for linux in settings] == shared


def test_limits_do_not_go_with_shared_cgroups() -> None:
    raw = {**container(resourceLimits={"mem": 64}), "legacySharedCgroups": True}

    with pytest.raises(DefinitionError) as caught:
        parse_pod(raw)

    assert [problem.path for problem in caught.value.problems] == ["/containers(0)/resourceLimits"]
