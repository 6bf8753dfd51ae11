"""The Mesos containerizer for real: every kind of container, its limits, its surroundings."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.netns.agent.house import House, eventually, living

from phalanx.agent.bundle.request import Kind
from phalanx.agent.process import start_time
from phalanx.agent.session.attachment import attach
from phalanx.agent.session.process_io import LISTEN, frame
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with living(tmp_path) as made:
        yield made


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


async def test_a_pods_root_only_waits(house: House) -> None:
    pid = await house.start("pod", None, "executor")

    assert namespace(pid, "pid") != namespace(os.getpid(), "pid")
    house.engine.kill("pod")
    assert (await house.engine.wait("pod")).status == signal.SIGKILL


async def test_a_nested_container_joins_its_parents_namespaces(house: House) -> None:
    root = await house.start("pod", None, "executor")
    child = await house.start("pod.a", "sleep 600", "nested")

    for kind in ("net", "uts", "ipc"):
        assert namespace(child, kind) == namespace(root, kind)
    for kind in ("pid", "mnt"):
        assert namespace(child, kind) != namespace(root, kind)
    assert house.sandbox("pod.a") == house.sandbox("pod") / "containers" / "a"
    assert house.cgroups.processes("pod.a")


async def test_a_nested_container_may_share_the_pid_namespace_and_have_its_own_ipc(
    house: House,
) -> None:
    root = await house.start("pod", None, "executor")
    linux = {"share_pid_namespace": True, "ipc_mode": "PRIVATE"}
    child = await house.start("pod.a", "sleep 600", "nested", {"linux_info": linux})

    assert namespace(child, "pid") == namespace(root, "pid")
    assert namespace(child, "ipc") != namespace(root, "ipc")


async def test_removing_a_parent_removes_what_is_nested_in_it(house: House) -> None:
    await house.start("pod", None, "executor")
    child = await house.start("pod.a", "sleep 600", "nested")
    await house.start("pod.a.b", "sleep 600", "nested")

    await house.engine.remove("pod")

    assert house.engine.known() == ()
    assert start_time(child) is None
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{house.cgroups.root}/pod"))


async def test_killing_a_parent_kills_what_is_nested_in_it(house: House) -> None:
    await house.start("pod", None, "executor")
    await house.start("pod.a", "sleep 600", "nested")

    house.engine.kill("pod")

    assert (await house.engine.wait("pod.a")).status == signal.SIGKILL


async def test_nothing_is_nested_in_what_does_not_run(house: House) -> None:
    with pytest.raises(ContainerError, match="parent container 'pod': does not run"):
        await house.start("pod.a", "true", "nested")


async def test_a_debug_container_is_all_in_its_parent(house: House) -> None:
    root = await house.start("c1", "sleep 600", environment={"COLOUR": "blue"})
    command = "echo $COLOUR $MORE; pwd; readlink /proc/self/ns/mnt"

    said = await house.said("c1.d", command, "debug", environment={"MORE": "red"})

    assert said.split() == ["blue", "red", str(house.sandbox("c1")), namespace(root, "mnt")]
    assert (await house.engine.wait("c1.d")).status == 0
    await house.engine.remove("c1.d")
    assert house.engine.known() == ("c1",)


async def test_a_debug_container_can_be_signalled_and_killed_alone(house: House) -> None:
    await house.start("c1", "sleep 600")
    await house.start("c1.d", "exec sleep 601", "debug")
    await house.start("c1.e", "sleep 602; true", "debug")

    house.engine.terminate("c1.d")
    house.engine.kill("c1.e")

    assert (await house.engine.wait("c1.d")).status == signal.SIGTERM
    assert (await house.engine.wait("c1.e")).status == signal.SIGKILL
    await house.engine.remove("c1.e")
    assert house.engine.find("c1").exit is None
    await eventually(lambda: not any(b"602" in words for words in commands(house, "c1")))


def commands(house: House, name: str) -> Iterator[bytes]:
    """Yield the command lines of a container's processes."""
    for pid in house.cgroups.processes(name):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            yield Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_a_session_has_input_and_output(house: House) -> None:
    await house.start("c1", "sleep 600")
    await house.start("c1.d", "cat; echo over >&2", "debug", stdio="session")

    attachment = await attach(house.layout.run("c1.d"), listens=True)
    await attachment.send(frame(b"i", b"hello\n"))
    await attachment.send(frame(b"e"))
    said = [found async for found in attachment.outputs()]
    await attachment.close()

    assert b"".join(data for kind, data in said if kind == b"1") == b"hello\n"
    assert b"".join(data for kind, data in said if kind == b"2") == b"over\n"
    assert (await house.engine.wait("c1.d")).status == 0


async def test_what_a_session_said_waits_for_who_is_connected(house: House) -> None:
    """The container may be gone before he has said that he listens."""
    await house.start("c1", "sleep 600")
    await house.start("c1.d", "echo words", "debug", stdio="session")
    attachment = await attach(house.layout.run("c1.d"))
    await house.engine.wait("c1.d")
    await house.engine.remove("c1.d")
    await attachment.send(frame(b"i", b"a moment passes"))

    await attachment.send(LISTEN)

    assert [found async for found in attachment.outputs()] == [(b"1", b"words\n")]
    await attachment.close()


@pytest.mark.parametrize("kind", ["task", "debug"])
async def test_a_terminal_is_one(house: House, kind: Kind) -> None:
    name = "c1"
    if kind == "debug":
        await house.start("c1", "sleep 600")
        name = "c1.d"
    tty = {"tty_info": {"window_size": {"rows": 30, "columns": 100}}}
    await house.start(name, "tty && stty size", kind, tty)

    await house.engine.wait(name)

    out = house.sandbox(name) / "stdout"
    await eventually(lambda: "30 100" in out.read_text())
    assert out.read_text().startswith("/dev/pts/0")


async def test_a_launch_that_is_killed_is_refused(house: House) -> None:
    launching = asyncio.create_task(house.engine.launch(house.request("c1", "sleep 600")))
    await asyncio.sleep(0)

    house.engine.kill("c1")

    with pytest.raises(ContainerError, match="killed while it was launched"):
        await launching
    await house.engine.remove("c1")
    assert house.engine.known() == ()


async def test_what_is_held_of_a_container_changes_with_an_update(house: House) -> None:
    await house.start("c1", "sleep 600", resources=Resources.parse("cpus:0.5;mem:64"))

    await house.engine.update("c1", Resources.parse("cpus:1;mem:128"), {})

    found = await house.engine.statistics("c1")
    assert found.mem_limit_bytes == 128 * 1024**2
    assert found.cpus_limit == 1.0

    await house.engine.update("c1", Resources.parse("cpus:1;mem:64"), {})

    found = await house.engine.statistics("c1")
    assert found.mem_limit_bytes == 128 * 1024**2
    assert found.mem_soft_limit_bytes == 64 * 1024**2


async def test_what_is_kept_of_a_container_is_for_nobody_else(house: House) -> None:
    await house.start("c1", "sleep 600")
    place = house.layout.run("c1")

    assert place.stat().st_mode & 0o077 == 0
    assert json.loads((place / "config.json").read_text())["process"]["env"]


async def test_a_killed_spawner_costs_no_container_and_is_replaced(house: House) -> None:
    first = await house.start("c1", "sleep 600")
    supervisor = house.layout.run("c1") / "supervisor"
    pid = int(json.loads(supervisor.read_text())["pid"])
    [spawner] = [
        int(path.name) for path in Path("/proc").glob("[0-9]*") if is_spawner(int(path.name))
    ]

    os.kill(spawner, signal.SIGKILL)
    await eventually(lambda: start_time(spawner) is None)
    await eventually(lambda: not house.spawner.is_running)
    await house.start("c2", "sleep 600")

    assert start_time(first) is not None
    assert start_time(pid) is not None


def is_spawner(pid: int) -> bool:
    try:
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return int(parent) == os.getpid() and command.endswith(b"supervisor.py\0")
