"""The agent's parts against the kernel: namespaces, containers, cgroups, plugins, clean-up."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from phalanx.agent.bundle.request import ContainerRequest, id_message
from phalanx.agent.bundle.spec import Place, oci_config
from phalanx.agent.cleanup import remove_all
from phalanx.agent.cni.attach import Networks
from phalanx.agent.cni.plugin import Plugins
from phalanx.agent.container.cgroup import Cgroups
from phalanx.agent.container.runtime import Containers
from phalanx.agent.health.outcome import HttpProbe, TcpProbe
from phalanx.agent.health.probe import probe
from phalanx.agent.health.target import Inside
from phalanx.agent.layout import Layout
from phalanx.agent.namespace import make_network, open_socket, release_network
from phalanx.agent.process import Process, is_alive, kill, start_time
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import CommandInfo, NetworkInfo


def inside(network: Path, *command: str) -> str:
    done = subprocess.run(
        ["nsenter", f"--net={network}", *command], check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "net" / "ns"
    make_network(path)
    yield path
    release_network(path)


def test_a_network_has_loopback_up_and_nothing_else(network: Path) -> None:
    links = json.loads(inside(network, "ip", "-j", "link", "show", "up"))

    assert [link["ifname"] for link in links] == ["lo"]
    assert network.stat().st_ino != os.stat("/proc/self/ns/net").st_ino


def test_making_a_network_leaves_us_where_we_are(tmp_path: Path) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    path = tmp_path / "ns"

    make_network(path)
    open_socket(path).close()

    assert os.readlink("/proc/thread-self/ns/net") == before
    release_network(path)
    assert not path.exists()
    assert str(path) not in Path("/proc/self/mountinfo").read_text()
    release_network(path)


def test_a_network_that_can_not_be_held_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ContainerError, match="network namespace"):
        make_network(tmp_path / "file" / "ns")


class Nobody:
    """Runs no commands."""

    async def execute(
        self, container_id: str, command: CommandInfo, *, timeout_seconds: float | None
    ) -> int:
        raise ContainerError("nobody runs commands here")


NOBODY = Nobody()


async def test_a_probe_connects_inside_the_network_only(network: Path) -> None:
    listener = open_socket(network)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        status = b"200 OK" if b"/well" in line else b"500 Sorry"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, sock=listener):
        connect = TcpProbe("127.0.0.1", port)
        there, here = Inside(NOBODY, "c1", network), Inside(NOBODY, "c1", None)
        assert (await probe(there, connect, timeout_seconds=20.0)).found is True
        assert (await probe(here, connect, timeout_seconds=20.0)).found is False
        for path, status in (("/well", 200), ("/ill", 500)):
            ask = HttpProbe("127.0.0.1", port, path)
            assert (await probe(there, ask, timeout_seconds=20.0)).found == status


def test_a_process_is_more_than_its_pid() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        started = start_time(child.pid)
        assert started is not None
        stranger = Process(child.pid, started + 1)

        assert not kill(stranger)
        assert is_alive(Process(child.pid, started))
        assert kill(Process(child.pid, started))
        assert child.wait() == -signal.SIGKILL

    assert start_time(child.pid) is None


class House:
    """The directories and cgroups of an agent that is not there."""

    def __init__(self, base: Path) -> None:
        self.layout = Layout(base / "work", base / "run")
        self.cgroups = Cgroups(f"phalanx/test-{uuid4().hex[:8]}")
        self.containers = Containers(self.layout, self.cgroups)
        self.sandbox = base / "sandbox"
        self.sandbox.mkdir()

    async def launch(self, container_id: str, command: str, network: Path | None = None) -> Process:
        request = ContainerRequest(
            container_id=id_message(container_id),
            kind="task",
            sandbox=self.sandbox,
            command=CommandInfo(value=command),
        )
        cgroup = self.cgroups.path_of(container_id)
        where = str(network) if network else None
        config = oci_config(
            request, Place(str(self.sandbox), cgroup, None, where, {}), {"PATH": os.environ["PATH"]}
        )
        return await self.containers.launch(container_id, config, self.sandbox)

    def commands(self, container_id: str) -> list[str]:
        pids = self.cgroups.processes(container_id)
        return [Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    remove_all(made.layout.runtime, made.cgroups.root)
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{made.cgroups.root}"))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


async def eventually(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60.0):
        while not holds():  # noqa: ASYNC110 - what is awaited happens in other processes
            await asyncio.sleep(0.01)


async def test_a_container_joins_the_network_that_it_is_given(house: House, network: Path) -> None:
    await house.launch("c1", "stat -L -c %i /proc/self/ns/net", network)

    exit = await house.containers.wait("c1")

    assert exit.status == 0
    assert int((house.sandbox / "stdout").read_text()) == network.stat().st_ino


async def test_a_supervisor_writes_the_exit_status(house: House) -> None:
    init = await house.launch("c1", "exit 5")

    exit = await house.containers.wait("c1")

    assert exit.status == 5 << 8
    assert house.containers.find("c1").init == init
    await house.containers.remove("c1")
    assert house.containers.known() == ()
    assert not list((house.layout.runc).glob("*"))


async def test_orphans_in_a_container_die_with_its_command(house: House) -> None:
    await house.launch("c1", "sleep 61 & sleep 62 & sleep 0.05")

    await house.containers.wait("c1")

    assert house.cgroups.processes("c1") == ()


async def test_a_killed_supervisor_takes_its_container_along(house: House) -> None:
    init = await house.launch("c1", "sleep 600")
    supervisor = house.containers.find("c1").supervisor
    assert supervisor is not None
    waiting = asyncio.create_task(house.containers.wait("c1"))

    kill(supervisor)
    exit = await asyncio.wait_for(waiting, 60.0)

    assert exit.status == signal.SIGKILL
    assert not is_alive(init)


async def test_terminate_reaches_the_command_behind_the_init(house: House) -> None:
    await house.launch(
        "c1", 'trap "echo heard; exit 4" TERM; echo ready; while :; do sleep 0.05; done'
    )
    await eventually(lambda: "ready" in (house.sandbox / "stdout").read_text())

    house.containers.signal("c1", signal.SIGTERM)
    exit = await house.containers.wait("c1")

    assert exit.status == 4 << 8
    assert (house.sandbox / "stdout").read_text().endswith("heard\n")


async def test_commands_run_inside_a_container(house: House) -> None:
    await house.launch("c1", "sleep 600")
    check = CommandInfo(value="exit 3")

    assert await house.containers.execute("c1", check, timeout_seconds=10.0) == 3


async def test_a_command_that_hangs_is_killed_inside(house: House) -> None:
    await house.launch("c1", "sleep 600")
    await eventually(lambda: "sleep" in house.commands("c1"))
    before = house.cgroups.processes("c1")

    with pytest.raises(TimeoutError):
        await house.containers.execute(
            "c1", CommandInfo(value="sleep 601; true"), timeout_seconds=0.5
        )

    await eventually(lambda: house.cgroups.processes("c1") == before)


async def test_usage_is_read_from_the_cgroup(house: House) -> None:
    await house.launch("c1", "while :; do :; done")

    await eventually(lambda: house.cgroups.statistics("c1")["cpus_user_time_secs"] > 0)

    found = house.cgroups.statistics("c1")
    assert found["mem_rss_bytes"] > 0
    assert found["processes"] == 2
    assert "mem_rss_bytes" not in house.cgroups.statistics("gone")


async def test_a_runtime_that_is_not_there_is_named(house: House) -> None:
    house.containers = Containers(house.layout, house.cgroups, "nosuch-runc")

    with pytest.raises(ContainerError, match="nosuch-runc: No such file"):
        await house.launch("c1", "true")


async def test_everything_can_be_removed_without_an_agent(house: House) -> None:
    inits = [await house.launch(name, "sleep 600") for name in ("c1", "c2")]
    supervisors = [house.containers.find(name).supervisor for name in ("c1", "c2")]
    held = house.layout.networks / "c1" / "ns"
    make_network(held)

    remove_all(house.layout.runtime, house.cgroups.root)
    remove_all(house.layout.runtime, house.cgroups.root)

    await eventually(lambda: not any(map(is_alive, inits)))
    await eventually(lambda: not any(one is not None and is_alive(one) for one in supervisors))
    assert not held.exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{house.cgroups.root}"))
    assert not house.layout.containers.exists()


CHAINED = """#!/bin/sh
# Log who was called with what; answer with one more address than before.
given=$(cat)
name=$(basename "$0")
echo "$CNI_COMMAND $name $CNI_IFNAME" >> "LOG/calls"
echo "$given" > "LOG/$CNI_COMMAND-$name.json"
[ "$CNI_COMMAND" = DEL ] && exit 0
case $name in
  first) echo '{"cniVersion": "1.0.0", "ips": [{"address": "9.0.1.2/24"}]}';;
  second) echo '{"cniVersion": "1.0.0",
                 "ips": [{"address": "9.0.1.2/24"}, {"address": "fd01::2/80"}]}';;
  slow) sleep 60;;
esac
"""


@pytest.fixture
def networks(tmp_path: Path) -> Networks:
    for name in ("configs", "plugins", "log"):
        (tmp_path / name).mkdir()
    for name in ("first", "second", "slow"):
        plugin = tmp_path / "plugins" / name
        plugin.write_text(CHAINED.replace("LOG", str(tmp_path / "log")))
        plugin.chmod(0o755)
    plugins = Plugins((tmp_path / "plugins",), timeout_seconds=60.0)
    return Networks(tmp_path / "state", tmp_path / "configs", plugins, patience_seconds=0.3)


def hurried(networks: Networks) -> Networks:
    """Return the same networks, whose plugins have half a second."""
    return replace(networks, plugins=replace(networks.plugins, timeout_seconds=0.5))


def write_chain(tmp_path: Path, name: str, *kinds: str) -> None:
    chain = {"cniVersion": "1.0.0", "name": name, "plugins": [{"type": kind} for kind in kinds]}
    (tmp_path / "configs" / f"{name}.conflist").write_text(json.dumps(chain))


async def test_a_chain_hands_results_on_and_is_undone_backwards(
    networks: Networks, tmp_path: Path
) -> None:
    write_chain(tmp_path, "chain", "first", "second")
    log = tmp_path / "log"

    [given] = await networks.attach("c1", [NetworkInfo(name="chain")], "host")

    assert [address.ip_address for address in given.ip_addresses] == ["9.0.1.2", "fd01::2"]
    second = json.loads((log / "ADD-second.json").read_text())
    assert second["prevResult"]["ips"] == [{"address": "9.0.1.2/24"}]
    home = networks.root / "c1"
    assert sorted(path.name for path in home.iterdir()) == ["chain", "hostname", "hosts", "ns"]
    assert json.loads((home / "chain" / "network.conf").read_text())["name"] == "chain"
    info = json.loads((home / "chain" / "eth0" / "network.info").read_text())
    assert len(info["ips"]) == 2

    await networks.detach("c1")

    assert (log / "calls").read_text().splitlines() == [
        *("ADD first eth0", "ADD second eth0", "DEL second eth0", "DEL first eth0")
    ]
    undone = json.loads((log / "DEL-first.json").read_text())
    assert undone["prevResult"] == info
    assert networks.known() == ()
    await networks.detach("c1")


async def test_a_plugin_need_not_read_what_it_is_given(networks: Networks, tmp_path: Path) -> None:
    deaf = tmp_path / "plugins" / "first"
    deaf.write_text("#!/bin/sh\nexit 0\n")
    write_chain(tmp_path, "deaf", "first")
    large = NetworkInfo(name="deaf", groups=tuple(f"group-{number}" for number in range(20_000)))

    [given] = await networks.attach("c1", [large], "host")

    assert given.ip_addresses == ()
    await networks.detach("c1")


async def test_networks_get_interfaces_in_the_order_asked(
    networks: Networks, tmp_path: Path
) -> None:
    write_chain(tmp_path, "b", "first")
    write_chain(tmp_path, "a", "second")

    given = await networks.attach("c1", [NetworkInfo(name="b"), NetworkInfo(name="a")], "host")

    assert [network.name for network in given] == ["b", "a"]
    calls = sorted((tmp_path / "log" / "calls").read_text().splitlines())
    assert calls == ["ADD first eth0", "ADD second eth1"]
    await networks.detach("c1")


async def test_a_plugin_that_hangs_is_given_up(networks: Networks, tmp_path: Path) -> None:
    write_chain(tmp_path, "slow", "slow")

    with pytest.raises(ContainerError, match=r"no answer in 0\.5 s"):
        await hurried(networks).attach("c1", [NetworkInfo(name="slow")], "host")

    await networks.detach("c1")
    assert networks.known() == ()


LATER = """#!/bin/sh
echo x >>TRIES
if [ "$(wc -l <TRIES)" -ge WANTED ]; then exit 0; fi
echo '{"cniVersion": "1.0.0", "code": CODE, "msg": "not in sync"}'
exit 1
"""


def write_reluctant(tmp_path: Path, *, code: int, wanted: int) -> Path:
    """Make a plugin that refuses with *code* until it is asked for the *wanted*-th time."""
    tries = tmp_path / "tries"
    text = LATER.replace("TRIES", str(tries)).replace("WANTED", str(wanted))
    (tmp_path / "plugins" / "first").write_text(text.replace("CODE", str(code)))
    write_chain(tmp_path, "reluctant", "first")
    return tries


async def test_a_plugin_that_says_try_again_later_is_tried_again(
    networks: Networks, tmp_path: Path
) -> None:
    write_reluctant(tmp_path, code=11, wanted=2)

    assert await networks.attach("c1", [NetworkInfo(name="reluctant")], "host")

    await networks.detach("c1")


# How often one is tried in that time depends on the machine; that it is, the test above shows.
@pytest.mark.parametrize(("code", "most"), [(11, 9), (7, 1)])
async def test_a_plugin_that_keeps_refusing_is_given_up_with_its_words(
    networks: Networks, tmp_path: Path, code: int, most: int
) -> None:
    tries = write_reluctant(tmp_path, code=code, wanted=1000)

    words = "not in sync" if code == 7 else r"not in sync|no answer in 0\.5 s"
    asked = networks if code == 7 else hurried(networks)
    with pytest.raises(ContainerError, match=words):
        await asked.attach("c1", [NetworkInfo(name="reluctant")], "host")

    assert 1 <= len(tries.read_text().split()) <= most
    write_reluctant(tmp_path, code=code, wanted=1)
    await networks.detach("c1")


async def test_a_network_that_is_made_a_moment_later_is_waited_for(
    networks: Networks, tmp_path: Path
) -> None:
    attaching = asyncio.ensure_future(networks.attach("c1", [NetworkInfo(name="soon")], "host"))
    for _ in range(10):
        await asyncio.sleep(0)  # lets it look once, and find nothing
    write_chain(tmp_path, "soon", "first")

    assert await attaching

    await networks.detach("c1")


async def test_a_changed_configuration_is_seen_at_once(networks: Networks, tmp_path: Path) -> None:
    asked = [NetworkInfo(name="late")]
    with pytest.raises(ContainerError, match="Unknown CNI network 'late'"):
        await networks.attach("c1", asked, "host")

    write_chain(tmp_path, "late", "first")

    assert len(await networks.attach("c1", asked, "host")) == 1
    await networks.detach("c1")
