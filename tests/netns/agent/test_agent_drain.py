"""A killed task behind a VIP serves on until nobody is sent to it any more."""

import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.netns.agent.test_agent_docker import docker_task, engine

FRAMEWORK: dict[str, Any] = {
    "user": "root",
    "name": "test",
    "id": {"value": "fw-0000"},
    "checkpoint": True,
    "capabilities": [{"type": "TASK_KILLING_STATE"}],
}
BEHIND_VIP = {
    "discovery": {
        "visibility": "CLUSTER",
        "ports": {
            "ports": [
                {"number": 80, "labels": {"labels": [{"key": "VIP_0", "value": "/web:80"}]}},
            ]
        },
    }
}
DRAIN_SECONDS = 1.5
FOR_EVER = 600  # as a drain, beside which every other time is short
TOLERANCE_SECONDS = 0.05  # the scripts read hundredths of a second
KINDS = ("mesos", "pod", "docker")
# Says when it lives and when it is asked to end, in seconds since the machine's start.
POLITE = """
now() { read up rest < /proc/uptime; echo $1 $up; }
trap 'now asked; exit 0' TERM
now up
while :; do sleep 0.05; done
"""
STUBBORN = """
trap '' TERM
while :; do read up rest < /proc/uptime; echo alive $up; sleep 0.05; done
"""
BY_ITSELF = 'until [ -e "$MESOS_SANDBOX/gate" ]; do sleep 0.05; done'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def docker_socket(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    async with engine(tmp_path_factory.mktemp("docker")) as made:
        yield made


class House:
    """An agent with a drain of so many seconds, and what was said of its one task."""

    def __init__(self, lead: Any, node: Any, kind: str) -> None:
        self.lead = lead
        self.node = node
        self.kind = kind

    async def run(self, script: str, *, grace: float = 30.0, **more: Any) -> None:
        """Run a task of the house's kind and wait until it has said something, or runs."""
        policy = {"grace_period": {"nanoseconds": int(grace * 1e9)}}
        task = docker_task("t", script, kill_policy=policy, **{**BEHIND_VIP, **more})
        if self.kind != "docker":
            del task["container"]
        if self.kind == "pod":
            executor = {
                "type": "DEFAULT",
                "executor_id": {"value": "pod"},
                "container": {"type": "MESOS", "network_infos": [{"name": "net"}]},
                "resources": task["resources"],
            }
            await self.lead.say(
                "RUN_TASK_GROUP",
                framework_info=FRAMEWORK,
                executor=executor,
                task_group={"tasks": [task]},
            )
        else:
            await self.lead.say("RUN_TASK", framework_info=FRAMEWORK, task=task)
        await self.lead.reached("t", "RUNNING")

    async def kill(self, grace: float | None = None) -> None:
        policy = {} if grace is None else {"grace_period": {"nanoseconds": int(grace * 1e9)}}
        await self.lead.say(
            "KILL_TASK",
            framework_id=FRAMEWORK["id"],
            task_id={"value": "t"},
            kill_policy=policy,
        )

    async def killing(self) -> float:
        """Return when TASK_KILLING was said, in seconds since the machine's start."""
        status = await self.lead.reached("t", "KILLING")
        # Who is interrupted between the two looks reads too little.
        booted = max(time.time() - uptime() for _ in range(20))
        return float(status.timestamp) - booted

    def said(self, word: str) -> list[float]:
        """Return when the task said a word."""
        lines = (self.sandbox / "stdout").read_text().splitlines()
        return [float(line.split()[1]) for line in lines if line.startswith(f"{word} ")]

    @property
    def sandbox(self) -> Path:
        if self.kind == "pod":
            return Path(self.node.sandbox("pod")) / "tasks" / "t"
        return Path(self.node.sandbox("t"))


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


@pytest.fixture(params=KINDS)
async def house(
    request: pytest.FixtureRequest, lead: Any, node: Any, docker_socket: Path, seconds: float
) -> House:
    node.flags = [f"--vip-drain-timeout={seconds}secs"]
    if request.param == "docker":
        node.flags += ["--containerizers=mesos,docker", f"--docker-socket={docker_socket}"]
        node.flags.append("--docker-remove-delay=0secs")
    await node.start(lead.port)
    await lead.until(lambda: lead.subscribes)
    return House(lead, node, request.param)


DRAINS = pytest.mark.parametrize("seconds", [DRAIN_SECONDS], ids=["drain"])
LONG_DRAINS = pytest.mark.parametrize("seconds", [FOR_EVER], ids=["long-drain"])


@DRAINS
async def test_it_is_asked_to_end_only_after_the_drain(house: House) -> None:
    await house.run(POLITE)

    await house.kill()
    killing = await house.killing()
    end = await house.lead.ended("t")

    [asked] = house.said("asked")
    assert asked - killing >= DRAIN_SECONDS - TOLERANCE_SECONDS
    assert end.state == "TASK_KILLED"


@DRAINS
async def test_a_grace_shorter_than_the_drain_begins_after_it(house: House) -> None:
    await house.run(STUBBORN, grace=1.0)

    await house.kill()
    killing = await house.lead.reached("t", "KILLING")
    end = await house.lead.ended("t")

    assert house.said("alive")
    assert float(end.timestamp) - float(killing.timestamp) >= DRAIN_SECONDS
    assert end.state == "TASK_KILLED"


@LONG_DRAINS
async def test_a_second_kill_without_grace_ends_the_drain(house: House) -> None:
    await house.run(STUBBORN)
    await house.kill()
    await house.killing()

    await house.kill(grace=0.0)

    assert (await house.lead.ended("t")).state == "TASK_KILLED"


@LONG_DRAINS
async def test_a_task_that_ends_by_itself_meanwhile_is_not_waited_for(house: House) -> None:
    await house.run(BY_ITSELF)
    await house.kill()
    await house.killing()

    (house.sandbox / "gate").touch()

    assert (await house.lead.ended("t")).state == "TASK_KILLED"


@LONG_DRAINS
async def test_a_task_that_nobody_kills_ends_at_once(house: House) -> None:
    await house.run(BY_ITSELF)

    (house.sandbox / "gate").touch()

    assert (await house.lead.ended("t")).state == "TASK_FINISHED"
    assert "KILLING" not in house.lead.states("t")


@LONG_DRAINS
async def test_a_task_behind_no_vip_is_asked_at_once(house: House) -> None:
    await house.run(POLITE, discovery={"visibility": "CLUSTER"})

    await house.kill()

    assert (await house.lead.ended("t")).state == "TASK_KILLED"


@DRAINS
async def test_a_drain_goes_on_after_the_agent_was_killed(house: House) -> None:
    await house.run(POLITE)
    await house.kill()
    killing = await house.killing()

    await house.node.end(signal.SIGKILL)
    await house.node.start(house.lead.port)
    end = await house.lead.ended("t")

    [asked] = house.said("asked")
    assert asked - killing >= DRAIN_SECONDS - TOLERANCE_SECONDS
    assert end.state == "TASK_KILLED"
