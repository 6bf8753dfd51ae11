"""Operations, drains, leave-taking and changed settings of a real agent process."""

import asyncio
import base64
import signal
from typing import Any

import aiohttp
import pytest
from tests.netns.agent.lead import PATIENCE_SECONDS

from phalanx.mesos.resources import Resources

FRAMEWORK = {"user": "root", "name": "test", "id": {"value": "fw-0000"}, "checkpoint": True}
AWARE = {**FRAMEWORK, "capabilities": [{"type": "PARTITION_AWARE"}]}
DISK = {
    "name": "disk",
    "type": "SCALAR",
    "scalar": {"value": 64.0},
    "reservations": [{"type": "DYNAMIC", "role": "web"}],
}
VOLUME = {
    **DISK,
    "disk": {"persistence": {"id": "v1"}, "volume": {"container_path": "data", "mode": "RW"}},
}
RESERVE = {"type": "RESERVE", "reserve": {"resources": [DISK]}}
CREATE = {"type": "CREATE", "create": {"volumes": [VOLUME]}}


def task(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "task_id": {"value": name},
        "agent_id": {"value": "master-S0"},
        "resources": [
            {"name": kind, "type": "SCALAR", "scalar": {"value": amount}}
            for kind, amount in (("cpus", 0.1), ("mem", 32.0))
        ],
        "command": {"value": script},
        **more,
    }


async def apply(lead: Any, number: int, operation: dict[str, Any], name: str | None = None) -> None:
    named = {"id": {"value": name}} if name is not None else {}
    await lead.say(
        "APPLY_OPERATION",
        operation_uuid=base64.b64encode(bytes([number]) * 16).decode(),
        operation=operation | named,
        framework_id={"value": "fw-0000"},
    )


def updates(lead: Any) -> list[Any]:
    return [call.operation_update for call in lead.calls if call.operation_update is not None]


async def again(lead: Any, node: Any) -> Any:
    """Kill the agent, start it anew, and return how it subscribed."""
    await node.end(signal.SIGKILL)
    before = len(lead.subscribes)
    await node.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) > before)
    return lead.subscribes[-1]


async def test_a_volume_outlives_the_agent_and_its_operation_is_told_until_acknowledged(
    lead: Any, up: Any
) -> None:
    await apply(lead, 1, RESERVE)
    await apply(lead, 2, CREATE, name="create-1")
    await lead.until(lambda: len(updates(lead)) >= 2)
    place = up.base / "work" / "volumes" / "roles" / "web" / "v1"
    (place / "kept").write_text("data")
    told = updates(lead)[-1]
    assert told.status.state == "OPERATION_FINISHED"

    subscribe = await again(lead, up)
    total = Resources.of(subscribe.total_resources)
    assert total.volumes.scalar("disk") == 64.0
    assert Resources.of(subscribe.agent_info.resources).volumes.scalar("disk") == 0.0
    assert [item.info.id.value for item in subscribe.operations] == ["create-1"]
    assert (place / "kept").read_text() == "data"
    await lead.until(lambda: len(updates(lead)) >= 3)
    assert updates(lead)[-1].status.uuid == told.status.uuid
    _, shown = await up.call("GET_OPERATIONS")
    assert len(shown["get_operations"]["operations"]) == 1

    await lead.say(
        "ACKNOWLEDGE_OPERATION",
        operation_uuid=base64.b64encode(bytes([2]) * 16).decode(),
        status_uuid=base64.b64encode(told.status.uuid.value).decode(),
    )
    await apply(lead, 3, {"type": "DESTROY", "destroy": {"volumes": [VOLUME]}})
    await lead.until(lambda: len(updates(lead)) >= 4)
    assert not place.exists()
    assert (await again(lead, up)).operations == ()


async def test_an_operation_that_can_not_be_is_told_as_failed(lead: Any, up: Any) -> None:
    await apply(lead, 1, CREATE, name="o")
    await lead.until(lambda: updates(lead))

    assert updates(lead)[0].status.state == "OPERATION_FAILED"
    assert "does not contain" in updates(lead)[0].status.message


async def test_a_draining_agent_kills_and_refuses_and_goes_on_with_it(lead: Any, up: Any) -> None:
    script = "trap '' TERM; while :; do sleep 0.05; done"
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=task("old", script))
    await lead.reached("old", "RUNNING")
    period = {"nanoseconds": 1_000_000}
    await lead.say("DRAIN", config={"max_grace_period": period})

    ended = await lead.ended("old")
    assert (ended.state, ended.reason) == ("TASK_KILLED", "REASON_AGENT_DRAINING")
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=task("lost", "true"))
    await lead.say("RUN_TASK", framework_info=AWARE, task=task("dropped", "true"))
    for name, state in (("lost", "TASK_LOST"), ("dropped", "TASK_DROPPED")):
        refused = await lead.ended(name)
        assert (refused.state, refused.reason) == (state, "REASON_AGENT_DRAINING")
    subscribe = await again(lead, up)
    assert subscribe.drain.max_grace_period.nanoseconds == 1_000_000
    _, shown = await up.call("GET_AGENT")
    assert shown["get_agent"]["drain_config"]["max_grace_period"] == period

    await lead.say("DRAIN")
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=task("new", "true"))
    assert (await lead.ended("new")).state == "TASK_FINISHED"


async def test_an_agent_that_takes_leave_ends_everything_and_forgets_who_it_was(
    lead: Any, up: Any
) -> None:
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=task("t", "sleep 100"))
    await lead.reached("t", "RUNNING")
    status = await up.end(signal.SIGUSR1)

    assert status == 0
    assert "UNREGISTER" in [call.type for call in lead.calls]
    assert up.containers() == []
    assert not (up.base / "work" / "meta" / "slaves" / "latest").is_symlink()


async def test_changed_settings_are_refused_with_the_way_out(lead: Any, up: Any) -> None:
    await up.end(signal.SIGTERM)
    up.flags = ["--attributes=rack:r9"]
    await up.start(lead.port)

    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await up.process.wait() == 2
    assert "Incompatible agent info detected: attributes: rack" in up.log.read_text()
    assert "meta/slaves/latest" in up.log.read_text()
    up.flags.append("--reconfiguration-policy=additive")
    before = len(lead.subscribes)
    await up.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) > before)
    assert lead.subscribes[-1].agent_info.attributes[0].name == "rack"


async def test_a_cleaning_agent_ends_what_was_left_and_itself(lead: Any, up: Any) -> None:
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=task("t", "sleep 100"))
    await lead.reached("t", "RUNNING")
    await up.end(signal.SIGKILL)
    up.flags = ["--recover=cleanup"]
    await up.start(lead.port)

    assert await up.process.wait() == 0
    assert up.containers() == []


async def test_old_sandboxes_go_and_their_files_with_them(lead: Any, node: Any) -> None:
    node.flags = ["--gc-delay=500ms", "--disk-watch-interval=50ms", "--gc-disk-headroom=0"]
    await node.start(lead.port)
    await lead.until(lambda: lead.subscribes)
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=task("long", "sleep 100"))
    gated = task("t", "until [ -e gate ]; do sleep 0.05; done; echo hi")
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=gated)
    await lead.reached("long", "RUNNING")
    await lead.reached("t", "RUNNING")
    sandbox = node.sandbox("t")
    (sandbox / "gate").touch()
    await lead.ended("t")
    virtual = "/frameworks/fw-0000/executors/{}/runs/latest/stdout"
    async with aiohttp.ClientSession() as session, asyncio.timeout(60.0):
        while not await removals(session, node):  # noqa: ASYNC110 - another process counts
            await asyncio.sleep(0.05)
        assert not sandbox.exists()
        for name, status in (("t", 404), ("long", 200)):
            target = f"{node.url}/files/read?offset=0&path={virtual.format(name)}"
            async with session.get(target) as response:
                assert response.status == status
        assert await removals(session, node) == 1.0
        async with session.get(f"{node.url}/state") as response:
            [framework] = (await response.json())["frameworks"]
            assert [item["id"] for item in framework["completed_executors"]] == ["t"]
    assert node.sandbox("long").is_dir()


async def removals(session: aiohttp.ClientSession, node: Any) -> float:
    """Return how many sandboxes the agent says it has removed."""
    async with session.get(f"{node.url}/metrics/snapshot") as response:
        return float((await response.json())["gc/path_removals_succeeded"])


CHECKED = "i=0; while :; do i=$((i+1)); echo $i > n; sleep 0.05; done"


async def test_checks_are_told_and_only_told(lead: Any, up: Any) -> None:
    check = {
        "type": "COMMAND",
        "command": {"command": {"value": "test -e up || exit 3"}},
        "delay_seconds": 0.0,
        "interval_seconds": 0.05,
    }
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=task("t", CHECKED, check=check))
    await lead.until(lambda: any(_code(status) == 3 for status in lead.of("t")))
    assert lead.of("t")[0].check_status.type == "COMMAND"
    assert _code(lead.of("t")[0]) is None
    (up.sandbox("t") / "up").touch()
    await lead.until(lambda: any(_code(status) == 0 for status in lead.of("t")))

    status = lead.of("t")[-1]
    assert (status.state, status.reason) == (*("TASK_RUNNING", "REASON_TASK_CHECK_STATUS_UPDATED"),)


def _code(status: Any) -> int | None:
    check = status.check_status
    return check.command.exit_code if check is not None and check.command is not None else None


@pytest.mark.parametrize(
    "check",
    [
        pytest.param({"type": "TCP", "tcp": {"port": 1}}, id="tcp"),
        pytest.param({"type": "HTTP", "http": {"port": 1, "protocol": "IPv6"}}, id="http-ipv6"),
        pytest.param({"type": "COMMAND", "command": {"value": "false"}}, id="command"),
    ],
)
async def test_a_task_that_is_not_well_is_killed(lead: Any, up: Any, check: dict[str, Any]) -> None:
    quick = {"delay_seconds": 0.0, "interval_seconds": 0.05, "grace_period_seconds": 0.0}
    networks = {"type": "MESOS", "network_infos": [{"name": "net"}]}
    asked = task("t", "sleep 100", health_check={**check, **quick}, container=networks)
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=asked)
    ended = await lead.ended("t")

    assert (ended.state, ended.healthy) == ("TASK_KILLED", False)
    assert "Health check failed 3 times in a row" in ended.message


async def test_a_task_may_run_for_no_longer_than_it_said(lead: Any, up: Any) -> None:
    longest = {"nanoseconds": 300_000_000}
    asked = task("t", "sleep 100", max_completion_time=longest)
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=asked)
    ended = await lead.ended("t")

    assert (ended.state, ended.reason) == (*("TASK_FAILED", "REASON_MAX_COMPLETION_TIME_REACHED"),)


async def test_tasks_on_the_agents_network_have_both_its_addresses(lead: Any, node: Any) -> None:
    node.flags = ["--ip6=fd00::7"]
    await node.start(lead.port)
    await lead.until(lambda: lead.subscribes)
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=task("t", "sleep 100"))
    status = await lead.reached("t", "RUNNING")

    [network] = status.container_status.network_infos
    assert [(item.protocol, item.ip_address) for item in network.ip_addresses] == [
        *(("IPv4", "127.0.0.1"), ("IPv6", "fd00::7")),
    ]
