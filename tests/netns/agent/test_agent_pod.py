"""Groups of tasks, carried out by the agent itself: one network, names and cgroup for all."""

import asyncio
import json
import os
import signal
from typing import Any

import pytest
from tests.netns.agent.house import eventually

FRAMEWORK = {"value": "fw-0000"}
NET = {"type": "MESOS", "network_infos": [{"name": "net"}]}


def scalars(**amounts: float) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": "SCALAR", "scalar": {"value": value}}
        for name, value in amounts.items()
    ]


def executor(name: str = "pod", **rest: Any) -> dict[str, Any]:
    base = {
        "type": "DEFAULT",
        "executor_id": {"value": name},
        "container": NET,
        "resources": scalars(cpus=0.1, mem=32),
    }
    return base | rest


def task(name: str, command: str, **rest: Any) -> dict[str, Any]:
    base = {
        "name": name,
        "task_id": {"value": name},
        "agent_id": {"value": "master-S0"},
        "command": {"value": command},
        "resources": scalars(cpus=0.1, mem=64),
    }
    return base | rest


async def group(lead: Any, *tasks: dict[str, Any], **rest: Any) -> None:
    framework = {"user": "root", "name": "test", "id": FRAMEWORK, "checkpoint": True}
    await lead.say(
        "RUN_TASK_GROUP",
        framework_info=framework | rest.pop("framework", {}),
        executor=executor(**rest),
        task_group={"tasks": list(tasks)},
    )


async def kill(lead: Any, name: str) -> None:
    await lead.say("KILL_TASK", framework_id=FRAMEWORK, task_id={"value": name})


def address(status: Any) -> str:
    return str(status.container_status.network_infos[0].ip_addresses[0].ip_address)


async def test_the_tasks_of_a_group_share_one_address(lead: Any, up: Any) -> None:
    show = "readlink /proc/self/ns/net /proc/self/ns/uts; cat /etc/hosts; hostname; exec sleep 1000"
    await group(lead, task("a", show), task("b", show))

    first, second = await lead.reached("a", "RUNNING"), await lead.reached("b", "RUNNING")

    assert address(first) == address(second) == "9.9.9.1"
    root = first.container_status.container_id.parent.value
    assert root == second.container_status.container_id.parent.value
    assert root in up.containers()
    assert first.container_status.container_id.value != root
    assert first.executor_id.value == "pod"
    assert lead.states("a") == ["STARTING", "RUNNING"]

    def outputs() -> list[str]:
        return [(up.sandbox("pod") / "tasks" / name / "stdout").read_text() for name in "ab"]

    async with asyncio.timeout(30):
        while "9.9.9.1" not in outputs()[0] or outputs()[0] != outputs()[1]:  # noqa: ASYNC110 - not in this process
            await asyncio.sleep(0.02)
    assert os.readlink("/proc/self/ns/net") not in outputs()[0]
    calls = (up.base / "net" / "calls").read_text().splitlines()
    assert calls == [f"ADD {root}"]


async def test_localhost_is_shared(lead: Any, up: Any) -> None:
    serve = "exec python3 -m http.server --bind 127.0.0.1 8080"
    ask = (
        "until python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8080\")'; "
        "do sleep 0.1; done"
    )
    await group(lead, task("server", serve), task("client", ask))

    await lead.reached("client", "FINISHED")
    await lead.reached("server", "RUNNING")

    assert lead.states("server") == ["STARTING", "RUNNING"]


async def test_a_task_finds_its_environment(lead: Any, up: Any) -> None:
    own = {"environment": {"variables": [{"name": "OWN", "value": "mine"}]}}
    await group(lead, task("a", "env | sort") | {"command": {"value": "env | sort", **own}})
    await lead.reached("a", "FINISHED")

    found = dict(
        line.split("=", 1)
        for line in (up.sandbox("pod") / "tasks" / "a" / "stdout").read_text().splitlines()
    )

    [link] = (up.sandbox("pod") / "containers").iterdir()
    assert found["MESOS_SANDBOX"] == str(link)
    assert found["MESOS_CONTAINER_IP"] == "9.9.9.1"
    assert found["MESOS_ALLOCATION_ROLE"] == "*"
    assert found["OWN"] == "mine"


async def test_the_rest_of_a_group_is_killed_when_one_fails(lead: Any, up: Any) -> None:
    await group(lead, task("a", "sleep 1000"), task("b", "sleep 0.3; exit 3"))

    failed, killed = await lead.ended("b"), await lead.ended("a")

    assert (failed.state, failed.message) == ("TASK_FAILED", "Command exited with status 3")
    assert killed.state == "TASK_KILLED"
    await lead.until(lambda: lead.has_exited("pod"))
    await up.emptied()


async def test_the_rest_goes_on_when_one_finishes(lead: Any, up: Any) -> None:
    await group(lead, task("a", "sleep 1000"), task("b", "true"))
    await lead.reached("b", "FINISHED")
    await lead.reached("a", "RUNNING")
    assert not lead.has_exited("pod")

    await kill(lead, "a")

    assert (await lead.ended("a")).state == "TASK_KILLED"
    await up.emptied()


async def test_groups_of_one_executor_end_alone(lead: Any, up: Any) -> None:
    await group(lead, task("a", "sleep 1000"))
    await lead.reached("a", "RUNNING")
    gate = up.base / "gate"
    fails = f"until [ -e {gate} ]; do sleep 0.05; done; exit 1"
    await group(lead, task("b", "sleep 1000"), task("c", fails))
    await lead.reached("b", "RUNNING")
    gate.touch()

    await lead.ended("b")
    await lead.ended("c")

    assert lead.states("a") == ["STARTING", "RUNNING"]
    assert address(lead.of("b")[-1]) == "9.9.9.1"


async def test_a_launch_that_is_refused_fails_its_group(lead: Any, up: Any) -> None:
    own = {"type": "MESOS", "network_infos": [{"name": "nosuch"}]}
    await group(lead, task("a", "sleep 1000"), task("b", "true", container=own))

    refused, killed = await lead.ended("b"), await lead.ended("a")

    assert refused.state == "TASK_FAILED"
    assert "nosuch" in refused.message
    assert killed.state == "TASK_KILLED"
    await up.emptied()


async def test_a_pod_that_can_not_be_made_fails_every_task(lead: Any, up: Any) -> None:
    nowhere = {"type": "MESOS", "network_infos": [{"name": "nosuch"}]}
    await group(lead, task("a", "true"), task("b", "true"), container=nowhere)

    ends = [await lead.ended("a"), await lead.ended("b")]

    # Whichever is told first, the other is failed too or killed with it.
    assert "TASK_FAILED" in [end.state for end in ends]
    assert {end.state for end in ends} <= {"TASK_FAILED", "TASK_KILLED"}
    await up.emptied()


async def test_a_task_can_have_a_network_of_its_own(lead: Any, up: Any) -> None:
    await group(lead, task("a", "sleep 1000"), task("b", "sleep 1000", container=NET))

    first, second = await lead.reached("a", "RUNNING"), await lead.reached("b", "RUNNING")

    assert {address(first), address(second)} == {"9.9.9.1", "9.9.9.2"}


async def test_limits_of_a_task_hold_it_alone(lead: Any, up: Any) -> None:
    alone = {"type": "MESOS", "linux_info": {"share_cgroups": False}}
    eat = "python3 -c 'x = bytearray(200 * 1024 * 1024)'"
    await group(
        lead,
        task("a", "sleep 1000"),
        task("b", eat, container=alone, limits={"mem": {"value": 80}}),
        resources=scalars(cpus=0.1, mem=512),
    )

    end = await lead.ended("b")

    assert (end.state, end.reason) == ("TASK_FAILED", "REASON_CONTAINER_LIMITATION_MEMORY")
    assert (await lead.ended("a")).state == "TASK_KILLED"


async def test_health_is_checked_inside_the_pod(lead: Any, up: Any) -> None:
    serve = "exec python3 -m http.server --bind 127.0.0.1 8080"
    check = {
        "type": "TCP",
        "tcp": {"port": 8080},
        "delay_seconds": 0,
        "interval_seconds": 0.1,
        "grace_period_seconds": 20,
    }
    await group(lead, task("a", serve, health_check=check))

    await lead.until(lambda: any(status.healthy for status in lead.of("a")))


async def test_an_unhealthy_task_takes_its_group_along(lead: Any, up: Any) -> None:
    check = {
        "type": "COMMAND",
        "command": {"value": "false"},
        "delay_seconds": 0,
        "interval_seconds": 0.1,
        "grace_period_seconds": 0,
        "consecutive_failures": 2,
    }
    await group(lead, task("a", "sleep 1000", health_check=check), task("b", "sleep 1000"))

    end, other = await lead.ended("a"), await lead.ended("b")

    assert (end.state, end.healthy) == ("TASK_KILLED", False)
    assert other.state == "TASK_KILLED"


async def test_a_pod_outlives_its_agent(lead: Any, up: Any) -> None:
    wait = 'while [ ! -e "$MESOS_SANDBOX/go" ]; do sleep 0.05; done; exit 4'
    await group(lead, task("a", wait), task("b", "sleep 1000"))
    await lead.reached("a", "RUNNING")
    running = await lead.reached("b", "RUNNING")
    await up.end(signal.SIGKILL)
    (up.sandbox("pod") / "tasks" / "a" / "go").touch()
    async with asyncio.timeout(30):
        while not [*(up.runtime / "containers").glob("*.*/exit")]:  # noqa: ASYNC110 - not in this process
            await asyncio.sleep(0.02)

    await up.start(lead.port)

    failed, killed = await lead.ended("a"), await lead.ended("b")
    assert (failed.state, failed.message) == ("TASK_FAILED", "Command exited with status 4")
    assert (killed.state, address(killed)) == ("TASK_KILLED", address(running))
    await up.emptied()


async def test_a_running_pod_goes_on_and_takes_more_after_a_restart(lead: Any, up: Any) -> None:
    await group(lead, task("a", "sleep 1000"))
    await lead.reached("a", "RUNNING")
    await up.end(signal.SIGKILL)
    await up.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) == 2)
    listed = lead.subscribes[-1]
    assert [info.executor_id.value for info in listed.executors] == ["pod"]
    assert [one.state for one in listed.tasks] == ["TASK_RUNNING"]

    await group(lead, task("b", "true"))

    assert address(await lead.reached("b", "FINISHED")) == "9.9.9.1"
    await lead.say("SHUTDOWN_EXECUTOR", framework_id=FRAMEWORK, executor_id={"value": "pod"})
    assert (await lead.ended("a")).state == "TASK_KILLED"
    await up.emptied()


async def test_without_checkpoints_a_pod_does_not_outlive_its_agent(lead: Any, up: Any) -> None:
    plain = {"checkpoint": False, "capabilities": [{"type": "PARTITION_AWARE"}]}
    await group(lead, task("a", "sleep 1000"), task("b", "sleep 1000"), framework=plain)
    await lead.reached("a", "RUNNING")
    await lead.reached("b", "RUNNING")
    await up.end(signal.SIGKILL)

    await up.start(lead.port)

    await lead.until(lambda: len(lead.subscribes) > 1)
    assert (lead.subscribes[1].tasks, lead.subscribes[1].executors) == ((), ())
    await up.emptied()


async def test_a_framework_that_is_gone_leaves_no_pod(lead: Any, up: Any) -> None:
    await group(lead, task("a", "trap '' TERM; sleep 1000"), task("b", "sleep 1000"))
    await lead.reached("a", "RUNNING")

    await lead.say("SHUTDOWN_FRAMEWORK", framework_id=FRAMEWORK)

    assert (await lead.ended("a")).state == "TASK_KILLED"
    assert (await lead.ended("b")).state == "TASK_KILLED"
    await up.emptied()


async def test_a_pod_that_dies_takes_its_tasks_along(lead: Any, up: Any) -> None:
    await group(lead, task("a", "sleep 1000"))
    await lead.reached("a", "RUNNING")
    [root] = [name for name in up.containers() if "." not in name]
    started = json.loads((up.runtime / "containers" / root / "started").read_text())

    os.kill(started["pid"], signal.SIGKILL)

    assert (await lead.ended("a")).state == "TASK_FAILED"
    await up.emptied()


@pytest.mark.parametrize("held", [pytest.param(1, id="pod"), pytest.param(2, id="last-task")])
async def test_the_agent_is_killed_while_a_pod_is_launched(lead: Any, up: Any, held: int) -> None:
    hold, count = up.base / "net" / f"hold-{held}", up.base / "net" / "count"
    hold.touch()
    names = ("t0", "t1", "t2")
    first = [task(name, "sleep 1000") for name in names[:2]]
    await group(lead, *first, task("t2", "sleep 1000", container=NET))
    await lead.reached("t0", "STARTING")
    await eventually(lambda: count.exists() and count.read_text() == f"{held}\n")
    await up.end(signal.SIGKILL)
    hold.unlink()

    await up.start(lead.port)

    ends = [await lead.ended(name) for name in names]
    assert "TASK_FAILED" in [end.state for end in ends]
    await up.emptied()


async def test_a_pod_is_up_in_time(lead: Any, up: Any, record_property: Any) -> None:
    # The figure is for the benchmark; here it only has to be told.
    took = []
    for number in range(5):
        name = f"t{number}"
        before = asyncio.get_running_loop().time()
        await group(lead, task(name, "sleep 1000"), name=f"pod{number}")
        await lead.reached(name, "RUNNING")
        took.append(lead.times[(name, "TASK_RUNNING")] - before)
    record_property("seconds", took)
    assert len(took) == 5
