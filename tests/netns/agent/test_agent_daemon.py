"""The agent as a process, with real containers, against a master that speaks the real protocol."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest
from msgspec import structs
from tests.netns.agent.house import eventually
from tests.netns.agent.lead import AGENT, Lead
from tests.netns.agent.node import Agent, output, shell

from phalanx.mesos.v1.mesos import (
    TaskInfo,
    TaskState,
)


async def test_a_task_runs_to_its_end(lead: Lead, ready: Agent) -> None:
    await lead.run_task(shell("hello", 'echo "$MESOS_TASK_ID in $PWD = $MESOS_SANDBOX"'))

    end = await lead.reached("hello", TaskState.TASK_FINISHED)

    assert lead.states("hello") == ["STARTING", "RUNNING", "FINISHED"]
    assert end.message == "Command exited with status 0"
    words = output(ready, "hello").split()
    assert words[0] == "hello"
    assert words[2] == words[4]


async def test_a_task_that_fails_says_how(lead: Lead, ready: Agent) -> None:
    await lead.run_task(shell("status", "exit 3"))
    await lead.run_task(shell("signal", "kill -USR1 $$"))

    status = await lead.reached("status", TaskState.TASK_FAILED)
    by_signal = await lead.reached("signal", TaskState.TASK_FAILED)

    assert status.message == "Command exited with status 3"
    assert by_signal.message == "Command terminated with signal User defined signal 1"


async def test_arguments_reach_a_command_without_shell(lead: Lead, ready: Agent) -> None:
    command = {"shell": False, "value": "/bin/echo", "arguments": ["echo", "a b", "$HOME"]}
    await lead.run_task(shell("argv", "", command=command))

    await lead.reached("argv", TaskState.TASK_FINISHED)

    assert output(ready, "argv") == "a b $HOME\n"


async def test_a_container_may_see_the_host_read_only_and_itself_alone(
    lead: Lead, agent: Agent
) -> None:
    await agent.start(lead.port, more=("--host-filesystem=ro",))
    await lead.until(lambda: lead.subscribes)
    command = "touch /etc/x /usr/x; ls /proc | grep -c '^[0-9]*$'; ls -A /run"
    await lead.run_task(shell("alone", command))

    await lead.reached("alone", TaskState.TASK_FINISHED)

    words = output(agent, "alone").split()
    assert int(words[0]) < 8
    assert not words[1:]
    assert not Path("/etc/x").exists()
    assert not Path("/usr/x").exists()


async def test_a_container_writes_on_the_host_as_its_user(lead: Lead, ready: Agent) -> None:
    with TemporaryDirectory(prefix="phxtest-", dir="/var/lib") as place:
        Path(place).chmod(0o755)
        roots, nobodys = shell("roots", f"touch {place}/it"), shell("nobodys", f"touch {place}/no")
        assert nobodys.command is not None
        other = structs.replace(nobodys, command=structs.replace(nobodys.command, user="nobody"))
        await lead.run_task(roots)
        await lead.run_task(other)

        await lead.reached("roots", TaskState.TASK_FINISHED)
        await lead.reached("nobodys", TaskState.TASK_FAILED)

        assert os.listdir(place) == ["it"]


async def test_nothing_is_made_on_the_host_for_a_volume(lead: Lead, ready: Agent) -> None:
    missing = ready.base / "missing"
    volume = {"mode": "RW", "container_path": str(missing), "host_path": "/usr"}
    await lead.run_task(shell("v", "true", container={"type": "MESOS", "volumes": [volume]}))

    status = await lead.reached("v", TaskState.TASK_FAILED)

    assert f"volume '{missing}': is not there on the host" in str(status.message)
    assert not missing.exists()


@pytest.mark.parametrize("directory", ["/tmp", "/var/tmp"])
async def test_what_is_temporary_is_the_hosts(lead: Lead, ready: Agent, directory: str) -> None:
    with TemporaryDirectory(prefix="phxtest-", dir=directory) as place:
        Path(place, "program").write_text("echo ran >$1/answer")
        await lead.run_task(shell("temporary", f"sh {place}/program {place}"))

        await lead.reached("temporary", TaskState.TASK_FINISHED)

        assert Path(place, "answer").read_text() == "ran\n"


async def test_volumes_are_mounted_as_asked(lead: Lead, ready: Agent) -> None:
    shared = ready.base / "shared"
    shared.mkdir()
    volumes = [
        {"mode": "RW", "container_path": "rw", "host_path": str(shared)},
        {"mode": "RO", "container_path": "ro", "host_path": str(shared)},
    ]
    task = shell(
        "volumes",
        "echo word > rw/file; echo no > ro/file; cat ro/file",
        container={"type": "MESOS", "volumes": volumes},
    )
    await lead.run_task(task)

    await lead.reached("volumes", TaskState.TASK_FINISHED)

    assert (shared / "file").read_text() == "word\n"
    assert output(ready, "volumes") == "word\n"


async def test_memory_beyond_the_limit_ends_a_task(lead: Lead, ready: Agent) -> None:
    # The hog is a child of the command's shell, which would go on after it.
    await lead.run_task(shell("hog", "head -c 200m /dev/zero | tail; sleep 60", mem=32))

    end = await lead.reached("hog", TaskState.TASK_FAILED)

    assert end.reason == "REASON_CONTAINER_LIMITATION_MEMORY"
    assert (end.message or "").startswith("Memory limit exceeded: Requested: 32MB Maximum Used: ")


async def test_cpu_is_shared_by_request_and_capped_by_limit(lead: Lead, ready: Agent) -> None:
    # So little that it has it used up in any period, however busy the machine is.
    task = shell("spin", "while :; do :; done", cpus=0.5, limits={"cpus": {"value": 0.02}})
    await lead.run_task(task)
    await lead.reached("spin", TaskState.TASK_RUNNING)
    [place] = ready.run_directories()
    cgroup = Path("/sys/fs/cgroup/cpu", ready.cgroups, place.name)

    await eventually(lambda: "nr_throttled 0\n" not in (cgroup / "cpu.stat").read_text())

    assert (cgroup / "cpu.shares").read_text() == "512\n"
    assert (cgroup / "cpu.cfs_quota_us").read_text() == "2000\n"


async def test_a_killed_task_may_end_by_itself(lead: Lead, ready: Agent) -> None:
    await lead.run_task(
        shell("polite", 'trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done')
    )
    await lead.reached("polite", TaskState.TASK_RUNNING)
    await eventually(lambda: "ready" in output(ready, "polite"))

    await lead.kill_task("polite")
    end = await lead.reached("polite", TaskState.TASK_KILLED)

    assert lead.states("polite") == ["STARTING", "RUNNING", "KILLING", "KILLED"]
    assert end.healthy is None


async def test_a_task_that_ignores_its_end_is_made_to_end(lead: Lead, ready: Agent) -> None:
    task = shell(
        "stubborn",
        'trap "" TERM; echo ready; while :; do sleep 60; done',
        kill_policy={"grace_period": {"nanoseconds": 300_000_000}},
    )
    await lead.run_task(task)
    await lead.reached("stubborn", TaskState.TASK_RUNNING)
    await eventually(lambda: "ready" in output(ready, "stubborn"))

    await lead.kill_task("stubborn")
    end = await lead.reached("stubborn", TaskState.TASK_KILLED)

    assert end.message == "Command terminated with signal Killed"
    await eventually(lambda: not ready.run_directories())


async def test_what_runc_refuses_is_told_in_its_words(lead: Lead, ready: Agent) -> None:
    volumes = [{"mode": "RW", "container_path": "/proc/nosuch", "host_path": "/usr"}]
    await lead.run_task(shell("refused", "true", container={"type": "MESOS", "volumes": volumes}))

    end = await lead.reached("refused", TaskState.TASK_FAILED)

    assert end.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert "inside /proc" in (end.message or "")


async def test_the_api_shows_what_runs(lead: Lead, ready: Agent) -> None:
    await lead.run_task(shell("shown", "echo words; sleep 600"))
    await lead.reached("shown", TaskState.TASK_RUNNING)
    await eventually(lambda: output(ready, "shown"))  # it runs a moment before it says anything
    base = f"http://127.0.0.1:{ready.port}"
    async with aiohttp.ClientSession() as session:

        async def get(path: str) -> Any:
            async with session.get(base + path) as response:
                assert response.status == 200, path
                return await response.json()

        async def call(kind: str) -> Any:
            async with session.post(f"{base}/api/v1", json={"type": kind}) as response:
                return await response.json() if response.status == 200 else response.status

        state = await get("/slave(1)/state")
        [statistics] = await get("/monitor/statistics")
        [container] = await get("/containers")
        metrics = await get("/metrics/snapshot")
        [framework] = state["frameworks"]
        [executor] = framework["executors"]
        directory = executor["directory"]
        listing = await get(f"/files/browse?path={directory}")
        page = await get(f"/files/read?path={directory}/stdout&offset=0&length=100")
        tasks = (await call("GET_TASKS"))["get_tasks"]["launched_tasks"]
        agent_info = (await call("GET_AGENT"))["get_agent"]["agent_info"]
        containers = (await call("GET_CONTAINERS"))["get_containers"]["containers"]
        unsupported = await call("MARK_RESOURCE_PROVIDER_GONE")
        unknown = await call("NOSUCH")

    assert state["id"] == AGENT.value
    assert state["attributes"] == {"rack": "r1"}
    assert state["resources"]["ports"] == "[31000-32000]"
    assert executor["tasks"][0]["state"] == "TASK_RUNNING"
    assert statistics["statistics"]["mem_limit_bytes"] == 64 * 1024 * 1024
    assert container["status"]["network_infos"][0]["ip_addresses"][0]["ip_address"] == "127.0.0.1"
    assert metrics["slave/tasks_running"] == 1.0
    assert {Path(item["path"]).name for item in listing} == {"stdout", "stderr"}
    assert page == {"data": "words\n", "offset": 0}
    assert tasks[0]["task_id"] == {"value": "shown"}
    assert agent_info["id"] == {"value": AGENT.value}
    assert len(containers) == 1
    assert (unsupported, unknown) == (501, 400)


async def test_an_idle_agent_is_small(lead: Lead, ready: Agent) -> None:
    await lead.until(lambda: lead.heartbeats >= 2)
    assert ready.process is not None

    status = Path(f"/proc/{ready.process.pid}/status").read_text()

    [resident] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    assert int(resident) < 80 * 1024


async def test_what_a_command_needs_is_fetched_first(lead: Lead, ready: Agent) -> None:
    (ready.base / "word").write_text("fetched\n")

    def needing(name: str, file: str) -> TaskInfo:
        uris = [{"value": f"file://{ready.base}/{file}"}]
        return shell(name, "", command={"value": "cat word", "uris": uris})

    await lead.run_task(needing("c1", "word"))
    await lead.run_task(needing("c2", "nothing"))
    await lead.reached("c1", TaskState.TASK_FINISHED)
    failed = await lead.reached("c2", TaskState.TASK_FAILED)

    assert output(ready, "c1") == "fetched\n"
    assert failed.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert "Failed to fetch all URIs for container" in (failed.message or "")
    assert "nothing: No such file or directory" in (failed.message or "")


async def test_the_status_of_a_limit_has_the_limit(lead: Lead, ready: Agent) -> None:
    script = "import os; x = bytearray(os.urandom(1)) * (80 << 20)"
    await lead.run_task(shell("c1", f"python3 -c '{script}'"))

    failed = await lead.reached("c1", TaskState.TASK_FAILED)

    assert failed.limitation is not None
    assert [item.name for item in failed.limitation.resources] == ["mem"]
    assert "MEMORY STATISTICS" in (failed.message or "")
