"""What an agent that is killed, cut off or full leaves, and finds again."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web
from tests.netns.agent.house import eventually
from tests.netns.agent.lead import AGENT, FRAMEWORK, PATIENCE_SECONDS, Lead
from tests.netns.agent.node import CONFIG, Agent, free_port, is_running, networked, shell

from phalanx.agent.cleanup import remove_all
from phalanx.mesos.agent_protocol import (
    PATH,
    AgentEvent,
    AgentShutdown,
    ShutdownFramework,
)
from phalanx.mesos.v1.mesos import (
    TaskState,
)


@pytest.fixture
async def small_disk(agent: Agent) -> AsyncIterator[Path]:
    """A file system of one megabyte as the agent's work directory, as long as the agent is."""
    place = agent.base / "work"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    await asyncio.to_thread(subprocess.run, mount, check=True)
    try:
        yield place
    finally:
        if agent.process is not None:
            await agent.end(signal.SIGKILL)
        remove_all(agent.runtime, agent.cgroups)
        await asyncio.to_thread(subprocess.run, ["umount", str(place)], check=True)


async def test_a_container_outlives_its_agent(lead: Lead, ready: Agent) -> None:
    await lead.run_task(shell("survivor", "while [ ! -e stop ]; do sleep 0.05; done; exit 7"))
    await lead.reached("survivor", TaskState.TASK_RUNNING)
    init = ready.init()

    await ready.end(signal.SIGKILL)
    assert is_running(init)
    await ready.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) == 2)

    again = lead.subscribes[1]
    assert again.agent_info.id == AGENT
    assert [(task.name, task.state) for task in again.tasks] == [("survivor", "TASK_RUNNING")]
    assert [framework.id for framework in again.frameworks] == [FRAMEWORK]
    [sandbox] = (ready.base / "work" / "slaves").glob("*/frameworks/*/executors/*/runs/latest")
    (sandbox / "stop").touch()
    end = await lead.reached("survivor", TaskState.TASK_FAILED)
    assert end.message == "Command exited with status 7"
    assert lead.states("survivor") == ["STARTING", "RUNNING", "FAILED"]


async def test_an_exit_without_an_agent_is_told_later(lead: Lead, ready: Agent) -> None:
    await lead.run_task(shell("unseen", "while [ ! -e stop ]; do sleep 0.05; done; exit 9"))
    await lead.reached("unseen", TaskState.TASK_RUNNING)
    [place] = ready.run_directories()
    [sandbox] = (ready.base / "work" / "slaves").glob("*/frameworks/*/executors/*/runs/latest")

    await ready.end(signal.SIGKILL)
    (sandbox / "stop").touch()
    await eventually(lambda: (place / "exit").exists())
    await ready.start(lead.port)

    end = await lead.reached("unseen", TaskState.TASK_FAILED)
    assert end.message == "Command exited with status 9"
    await eventually(lambda: not ready.run_directories())


async def test_without_checkpoints_a_task_does_not_outlive_its_agent(
    lead: Lead, ready: Agent
) -> None:
    ready.add_plugin({"cniVersion": "1.0.0", "name": "net", "type": "static"})
    network = {"type": "MESOS", "network_infos": [{"name": "net"}]}
    await lead.run_task(shell("plain", "sleep 1000", container=network), checkpoint=False)
    await lead.run_task(shell("kept", "sleep 1000"))
    await lead.reached("plain", TaskState.TASK_RUNNING)
    await lead.reached("kept", TaskState.TASK_RUNNING)
    await ready.end(signal.SIGKILL)

    await ready.start(lead.port)

    await lead.until(lambda: len(lead.subscribes) > 1)
    assert [task.name for task in lead.subscribes[1].tasks] == ["kept"]
    await eventually(lambda: "\nDEL " in (ready.calls / "calls").read_text())
    await eventually(lambda: len(ready.run_directories()) == 1)
    assert [status.state for status in lead.of("plain")][-1] == TaskState.TASK_RUNNING


async def test_a_kill_goes_on_after_a_restart(lead: Lead, ready: Agent) -> None:
    policy = {"grace_period": {"nanoseconds": 600_000_000_000}}
    loop = 'trap "" TERM; echo ready; while [ ! -e stop ]; do sleep 0.05; done'
    await lead.run_task(shell("condemned", loop, kill_policy=policy))
    await lead.reached("condemned", TaskState.TASK_RUNNING)
    [sandbox] = (ready.base / "work" / "slaves").glob("*/frameworks/*/executors/*/runs/latest")
    await eventually(lambda: "ready" in (sandbox / "stdout").read_text())
    await lead.kill_task("condemned")
    await lead.reached("condemned", TaskState.TASK_KILLING)

    await ready.end(signal.SIGKILL)
    await ready.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) == 2)
    (sandbox / "stop").touch()

    await lead.reached("condemned", TaskState.TASK_KILLED)


async def test_a_launch_cut_short_is_failed_and_undone(lead: Lead, ready: Agent) -> None:
    ready.add_plugin(CONFIG)
    (ready.calls / "hang_add").touch()
    await lead.run_task(networked("halfway", "sleep 60"))
    await eventually(lambda: (ready.calls / "ADD.json").exists())

    await ready.end(signal.SIGKILL)
    (ready.calls / "hang_add").unlink()
    await ready.start(lead.port)

    end = await lead.reached("halfway", TaskState.TASK_FAILED)
    assert end.reason == "REASON_AGENT_RESTARTED"
    await eventually(lambda: "DEL" in (ready.calls / "calls").read_text())
    state = ready.runtime / "isolators" / "network" / "cni"
    await eventually(lambda: not list(state.iterdir()))


async def test_unacknowledged_updates_are_sent_again_after_a_restart(
    lead: Lead, ready: Agent
) -> None:
    lead.acknowledges = False
    await lead.run_task(shell("unheard", "true"))
    first = await lead.reached("unheard", TaskState.TASK_STARTING)
    log = ready.base.glob(
        "work/meta/slaves/master-*/frameworks/*/executors/*/runs/*/tasks/*/task.updates"
    )
    [updates] = log
    await eventually(lambda: b"TASK_FINISHED" in updates.read_bytes())

    await ready.end(signal.SIGKILL)
    lead.statuses.clear()
    lead.acknowledges = True
    await ready.start(lead.port)
    await lead.reached("unheard", TaskState.TASK_FINISHED)

    assert lead.states("unheard") == ["STARTING", "RUNNING", "FINISHED"]
    assert lead.of("unheard")[0].uuid == first.uuid
    assert [task.state for task in lead.subscribes[1].tasks] == ["TASK_FINISHED"]
    await eventually(lambda: not updates.exists())


async def test_a_reboot_is_the_end_of_every_container(lead: Lead, ready: Agent) -> None:
    await lead.run_task(shell("before", "sleep 600"))
    await lead.reached("before", TaskState.TASK_RUNNING)
    await ready.end(signal.SIGKILL)
    (ready.base / "work" / "meta" / "boot_id").write_text("another boot\n")

    await ready.start(lead.port)

    end = await lead.reached("before", TaskState.TASK_FAILED)
    assert end.reason == "REASON_AGENT_RESTARTED"
    assert end.message == "The agent's machine was rebooted"


async def test_a_stream_that_the_master_forgot_is_opened_anew(lead: Lead, ready: Agent) -> None:
    await lead.until(lambda: lead.heartbeats >= 1)

    lead.forget_stream()

    await lead.until(lambda: len(lead.subscribes) == 2)
    heard = lead.heartbeats
    await lead.until(lambda: lead.heartbeats > heard)


async def test_the_leader_is_found_among_masters(lead: Lead, agent: Agent) -> None:
    async def redirect(request: web.Request) -> web.Response:
        location = f"//127.0.0.1:{lead.port}{PATH}"
        return web.Response(status=307, headers={"Location": location})

    app = web.Application()
    app.router.add_post(PATH, redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        await agent.start(free_port(), runner.addresses[0][1])

        await lead.until(lambda: lead.subscribes)
        await lead.until(lambda: lead.heartbeats >= 1)
    finally:
        await runner.cleanup()


async def test_a_polite_end_of_the_agent_leaves_containers_alone(lead: Lead, ready: Agent) -> None:
    await lead.run_task(shell("stays", "sleep 600"))
    await lead.reached("stays", TaskState.TASK_RUNNING)
    init = ready.init()

    status = await ready.end(signal.SIGTERM)

    assert status == 0
    assert is_running(init)


async def test_shutdown_by_the_master_takes_everything_down(lead: Lead, ready: Agent) -> None:
    await lead.run_task(shell("doomed", "sleep 600"))
    await lead.reached("doomed", TaskState.TASK_RUNNING)
    init = ready.init()

    shutdown = AgentShutdown(message="marked gone")
    await lead.tell(AgentEvent(type="SHUTDOWN", shutdown=shutdown))
    assert ready.process is not None
    status = await asyncio.wait_for(ready.process.wait(), PATIENCE_SECONDS)

    assert status == 1
    assert not is_running(init)
    assert [list(place.iterdir()) for place in ready.run_directories()] == []


async def test_a_framework_that_is_gone_loses_its_tasks(lead: Lead, ready: Agent) -> None:
    await lead.run_task(shell("orphan", "sleep 600"))
    await lead.reached("orphan", TaskState.TASK_RUNNING)

    order = ShutdownFramework(framework_id=FRAMEWORK)
    await lead.tell(AgentEvent(type="SHUTDOWN_FRAMEWORK", shutdown_framework=order))

    await lead.reached("orphan", TaskState.TASK_KILLED)


async def test_one_work_directory_has_one_agent(lead: Lead, ready: Agent) -> None:
    first = ready.process
    try:
        await ready.start(lead.port)
        assert ready.process is not None

        status = await asyncio.wait_for(ready.process.wait(), PATIENCE_SECONDS)
    finally:
        ready.process = first

    assert status == 2
    assert "another agent is using it" in ready.log.read_text()


async def test_a_full_disk_ends_the_agent_and_no_container(
    lead: Lead, agent: Agent, small_disk: Path
) -> None:
    await agent.start(lead.port)
    await lead.until(lambda: lead.subscribes)
    await lead.run_task(shell("stays", "sleep 1000"))
    await lead.reached("stays", TaskState.TASK_RUNNING)
    init = agent.init()
    (small_disk / "filler").touch()
    with suppress(OSError), (small_disk / "filler").open("ab", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass

    await lead.run_task(shell("one too many", "true"))
    assert agent.process is not None
    status = await asyncio.wait_for(agent.process.wait(), PATIENCE_SECONDS)

    assert status == 1
    assert "No space left on device" in agent.log.read_text()
    assert is_running(init)
    (small_disk / "filler").unlink()
    await agent.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) == 2)
    assert [task.name for task in lead.subscribes[-1].tasks] == ["stays"]
