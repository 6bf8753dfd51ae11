"""Containers of a real Docker engine on networks that our plugins make."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.agent.cni.attach import Networks
from phalanx.agent.cni.plugin import Plugins
from phalanx.agent.docker.containerizer import DockerContainerizer, DockerWays
from phalanx.agent.docker.engine import Engine
from phalanx.agent.fetch.fetcher import Fetcher, FetchWays
from phalanx.agent.health.outcome import TcpProbe
from phalanx.agent.health.probe import probe
from phalanx.agent.health.target import Inside
from phalanx.agent.layout import Layout
from phalanx.agent.namespace import release_mount
from phalanx.agent.process import Process, ended, is_alive, kill, start_time
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import CommandInfo, ContainerID, ContainerInfo, Scalar

PATIENCE_SECONDS = 60.0
ENGINES: dict[Path, tuple[str, list[asyncio.subprocess.Process]]] = {}
PROGRAMS = ("sh", "cat", "sleep", "ls", "hostname", "env", "ip", "head", "tail", "kill", "echo")


def host_image() -> bytes:
    """A few programs of this machine with their libraries, as the tar of a root."""
    paths = set()
    for name in PROGRAMS:
        path = next(
            (place for place in (f"/bin/{name}", f"/sbin/{name}") if os.path.exists(place)), None
        )
        if path is None:
            continue
        told = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
        paths |= {path, *(word for word in told.split() if word.startswith("/"))}
    made = BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path in sorted(paths):
            content = Path(path).read_bytes()
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, BytesIO(content))
        for name in ("tmp", "etc", "proc"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(member)
    return made.getvalue()


async def docker(socket: Path, *words: str, given: bytes = b"") -> str:
    """Run the docker command against the engine; its output."""
    process = await asyncio.create_subprocess_exec(
        *("docker", "-H", f"unix://{socket}", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(given)
    if process.returncode:
        raise RuntimeError(err.decode())
    return out.decode()


async def start_engine(base: Path, parent: str) -> asyncio.subprocess.Process:
    """Start a Docker engine without any network of its own and wait until it answers."""
    socket = base / "docker.sock"
    with (base / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *("dockerd", "--data-root", str(base / "data"), "--exec-root", str(base / "exec")),
            *("-H", f"unix://{socket}", "--pidfile", str(base / "pid"), "--bridge=none"),
            *("--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            f"--cgroup-parent=/{parent}",
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(RuntimeError):
                await docker(socket, "version")
                return process
            await asyncio.sleep(0.1)  # waits: the engine tells nobody that it is up


async def stop_engine(process: asyncio.subprocess.Process) -> None:
    """End an engine and what it started."""
    containerd = _containerd(process.pid)
    process.send_signal(signal.SIGTERM)
    await process.wait()
    for child in containerd:
        await ended(child)


@asynccontextmanager
async def engine(base: Path) -> AsyncIterator[Path]:
    """Run a Docker engine; yield its socket, and leave nothing of it."""
    base.mkdir(parents=True, exist_ok=True)
    socket = base / "docker.sock"
    parent = f"phxtest-docker-{uuid4().hex[:8]}"
    process = await start_engine(base, parent)
    running = [process]
    ENGINES[socket] = (parent, running)
    try:
        await docker(socket, "import", "-", "tiny:latest", given=host_image())
        yield socket
    finally:
        with suppress(RuntimeError):
            names = (await docker(socket, "ps", "-aq")).split()
            if names:
                await docker(socket, "rm", "--force", *names)
        await stop_engine(running[-1])
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(str(base)):
                release_mount(Path(line.split()[4]))
        for controller in Path("/sys/fs/cgroup").iterdir():
            place = controller / parent
            if place.is_dir():
                for inner, _, _ in os.walk(place, topdown=False):
                    os.rmdir(inner)


def _containerd(parent: int) -> list[Process]:
    try:
        pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return []
    found = ((int(pid), start_time(int(pid))) for pid in pids)
    return [Process(pid, start) for pid, start in found if start is not None]


PLUGIN = """#!/bin/sh
cat > "LOG/$CNI_COMMAND.json"
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >> "LOG/calls"
if [ -e LOG/refuse ]; then echo '{"code": 100, "msg": "no addresses left"}'; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then
  nsenter --net="$CNI_NETNS" ip address add 9.9.9.9/32 dev lo
  nsenter --net="$CNI_NETNS" ip -6 address add fd00::9/128 dev lo
  echo '{"cniVersion": "1.0.0", "ips": [{"address": "9.9.9.9/24"}, {"address": "fd00::9/64"}],
         "dns": {"nameservers": ["198.51.100.1"]}}'
fi
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def socket_path(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    async with engine(tmp_path_factory.mktemp("docker")) as made:
        yield made


@dataclass
class Place:
    """One agent's Docker containerizer and where its things are."""

    base: Path
    socket: Path
    containers: DockerContainerizer

    @property
    def calls(self) -> list[str]:
        file = self.base / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def again(self, **ways: Any) -> DockerContainerizer:
        """Make what a restarted agent would have."""
        return replace(self.containers, ways=replace(self.containers.ways, **ways))

    async def names(self) -> list[str]:
        owner = self.containers.ways.owner
        return list(await self.containers.engine.owned(owner))

    def said(self, id: str, name: str = "stdout") -> str:
        return (self.base / "sandbox" / id / name).read_text()

    def request(self, script: str, **more: Any) -> ContainerRequest:
        id = more.pop("id", uuid4().hex[:8])
        asked = more.pop("docker", {})
        info = {
            "type": "DOCKER",
            "docker": {"image": "tiny", "network": "NONE", **asked},
            **more.pop("container", {}),
        }
        return ContainerRequest(
            container_id=ContainerID(value=id),
            kind="task",
            sandbox=self.base / "sandbox" / id,
            command=more.pop("command", CommandInfo(value=script)),
            container=from_json(ContainerInfo, info),
            resources=Resources.parse("cpus:0.1;mem:32;ports:[31000-31009]"),
            user="root",
            **more,
        )


@pytest.fixture
async def place(tmp_path: Path, socket_path: Path) -> AsyncIterator[Place]:
    for name in ("configs", "plugins"):
        (tmp_path / name).mkdir()
    plugin = tmp_path / "plugins" / "static"
    plugin.write_text(PLUGIN.replace("LOG", str(tmp_path)))
    plugin.chmod(0o755)
    config: dict[str, object] = {"cniVersion": "1.0.0", "name": "bridge", "type": "static"}
    config |= {"capabilities": {"portMappings": True}}
    (tmp_path / "configs" / "net.conf").write_text(json.dumps(config))
    layout = Layout(tmp_path / "work", tmp_path / "runtime")
    networks = Networks(
        layout.networks,
        tmp_path / "configs",
        Plugins((tmp_path / "plugins",), 10.0),
        patience_seconds=0.0,
    )
    client = Engine(socket_path)
    ways = DockerWays(ip="127.0.0.1", owner=str(layout.runtime), remove_delay_seconds=0.0)
    fetcher = Fetcher(FetchWays(tmp_path / "fetch", cache_bytes=0, stall_seconds=10.0))
    containers = DockerContainerizer(layout, client, networks, ways, time.time, fetcher)
    made = Place(tmp_path, socket_path, containers)
    try:
        yield made
    finally:
        for id in made.containers.known():
            await made.again(remove_delay_seconds=0.0).remove(id)
        for name in await made.names():
            await client.remove(name)
        client.close()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


async def eventually(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - what is awaited happens in other processes
            await asyncio.sleep(0.02)  # waits: for a file that another process writes


async def test_a_command_runs_and_its_words_and_its_end_are_told(place: Place) -> None:
    request = place.request("echo out; echo err >&2; env; exit 3", environment={"A": "1"})
    running = await place.containers.launch(request)
    exit = await place.containers.wait(request.id)

    assert exit.status == 3 << 8
    assert place.said(request.id).startswith("out\n")
    assert place.said(request.id, "stderr") == "err\n"
    assert "A=1\n" in place.said(request.id)
    assert f"MESOS_CONTAINER_NAME=mesos-{request.id}\n" in place.said(request.id)
    assert json.loads(running.data or b"")[0]["Name"] == f"/mesos-{request.id}"
    await place.containers.remove(request.id)
    assert await place.names() == []
    assert place.containers.known() == ()


async def test_the_network_is_whole_before_the_command_runs(place: Place) -> None:
    """The command's first word already sees its address: our plugin was there before it."""
    asked = {
        "network": "BRIDGE",
        "port_mappings": [{"host_port": 31000, "container_port": 80}],
    }
    request = place.request(
        "ip -o address show dev lo; cat /etc/hosts /etc/resolv.conf; hostname; sleep 100",
        docker=asked,
        container={"hostname": "web"},
    )
    running = await place.containers.launch(request)
    await eventually(lambda: "web\n" in place.said(request.id).splitlines(keepends=True))

    addresses = running.networks[0].ip_addresses
    assert [address.ip_address for address in addresses] == ["9.9.9.9", "fd00::9"]
    said = place.said(request.id)
    assert "9.9.9.9/32" in said
    assert "fd00::9/128" in said
    assert "9.9.9.9 web\n" in said.replace("\t", " ")
    assert "nameserver 198.51.100.1" in said
    given = json.loads((place.base / "ADD.json").read_text())
    assert given["runtimeConfig"]["portMappings"][0]["hostPort"] == 31000
    assert os.stat(f"/proc/{running.pid}/ns/net").st_ino == _inode(place, request.id)
    await place.containers.remove(request.id)
    assert [call.split()[0] for call in place.calls] == ["ADD", "DEL"]
    assert await place.names() == []


def _inode(place: Place, id: str) -> int:
    network = place.containers.network(id)
    assert network is not None
    return os.stat(network).st_ino


async def test_a_refused_network_is_told_and_leaves_nothing(place: Place) -> None:
    (place.base / "refuse").touch()
    request = place.request("true", docker={"network": "BRIDGE"})

    with pytest.raises(ContainerError, match="no addresses left"):
        await place.containers.launch(request)

    (place.base / "refuse").unlink()
    await place.containers.remove(request.id)
    assert await place.names() == []
    assert place.containers.known() == ()


async def test_an_unknown_network_is_named(place: Place) -> None:
    request = place.request("true", docker={"parameters": [{"key": "net", "value": "nowhere"}]})

    with pytest.raises(ContainerError, match="Unknown CNI network 'nowhere'"):
        await place.containers.launch(request)


async def test_the_host_s_network_is_the_host_s(place: Place) -> None:
    request = place.request("sleep 100", docker={"network": "HOST"})
    running = await place.containers.launch(request)

    assert place.containers.network(request.id) is None
    assert os.stat(f"/proc/{running.pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
    assert running.networks[0].ip_addresses[0].ip_address == "127.0.0.1"


async def test_a_command_that_handles_the_signal_ends_in_its_own_way(place: Place) -> None:
    request = place.request("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")
    await place.containers.launch(request)
    await eventually(lambda: place.said(request.id) == "up\n")
    place.containers.terminate(request.id)

    assert (await place.containers.wait(request.id)).status == 5 << 8


async def test_the_image_s_own_signal_asks_it_to_end(place: Place) -> None:
    request = place.request(
        "trap 'exit 6' USR1; echo up; while :; do sleep 0.05; done",
        docker={"parameters": [{"key": "stop-signal", "value": "SIGUSR1"}]},
    )
    await place.containers.launch(request)
    await eventually(lambda: place.said(request.id) == "up\n")
    place.containers.terminate(request.id)

    assert (await place.containers.wait(request.id)).status == 6 << 8


async def test_a_killed_container_ends_by_the_signal(place: Place) -> None:
    request = place.request("sleep 100")
    await place.containers.launch(request)
    place.containers.kill(request.id)

    assert (await place.containers.wait(request.id)).status == 137 << 8


async def test_memory_over_the_limit_is_told_as_such(place: Place) -> None:
    request = place.request("x=1234567890; while :; do x=$x$x; done")
    await place.containers.launch(request)
    exit = await place.containers.wait(request.id)

    assert exit.limitation is not None
    assert exit.limitation.reason == "REASON_CONTAINER_LIMITATION_MEMORY"
    assert exit.limitation.message.startswith("Memory limit exceeded: Requested: 32MB")


async def test_a_restarted_agent_finds_its_container_and_its_end(place: Place) -> None:
    request = place.request("echo one; while [ ! -e /mnt/mesos/sandbox/go ]; do sleep 0.05; done")
    await place.containers.launch(request)
    later = place.again()

    found = later.find(request.id)
    assert found.init is not None
    assert is_alive(found.init)
    assert later.known() == (request.id,)
    (request.sandbox / "go").touch()
    assert (await later.wait(request.id)).status == 0


async def test_a_lost_attendant_is_followed_by_another(place: Place) -> None:
    request = place.request(
        "echo one; while [ ! -e /mnt/mesos/sandbox/go ]; do sleep 0.05; done; echo two; exit 4"
    )
    await place.containers.launch(request)
    await eventually(lambda: place.said(request.id) == "one\n")
    later = place.again()
    lost = later._records.attendant(request.id)
    assert lost is not None
    kill(lost)
    waiting = asyncio.create_task(later.wait(request.id))
    following = place.containers.layout.docker / request.id / "following"
    await eventually(following.exists)
    (request.sandbox / "go").touch()

    assert (await waiting).status == 4 << 8
    assert place.said(request.id) == "one\ntwo\n"


async def test_an_engine_that_restarts_tells_the_end_of_its_containers(
    place: Place, tmp_path: Path
) -> None:
    """An engine that ends takes its containers with it; the attendant asks until it is back."""
    async with engine(tmp_path / "own") as own:
        containers = replace(place.containers, engine=Engine(own))
        request = place.request("trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done")
        await containers.launch(request)
        await eventually(lambda: place.said(request.id) == "up\n")
        parent, running = ENGINES[own]
        waiting = asyncio.create_task(containers.wait(request.id))
        await stop_engine(running[-1])
        running.append(await start_engine(own.parent, parent))

        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await waiting).status == 9 << 8
        await containers.remove(request.id)
        containers.engine.close()


async def test_an_ended_container_is_kept_for_the_delay(place: Place) -> None:
    now = time.time()
    kept = replace(
        place.again(remove_delay_seconds=60.0),
        clock=lambda: now,
    )
    request = place.request("true")
    await kept.launch(request)
    await kept.wait(request.id)
    await kept.remove(request.id)
    await kept.remove_old()
    await kept.remove_orphans()

    assert kept.known() == ()
    assert await place.names() == [f"mesos-{request.id}"]
    now += 61.0
    await kept.remove_old()
    assert await place.names() == []


async def test_orphans_are_removed_and_other_people_s_are_not(place: Place) -> None:
    request = place.request("sleep 100")
    await place.containers.launch(request)
    label = f"phalanx.agent={place.containers.ways.owner}"
    await docker(place.socket, "create", "--name", "mesos-lost", "--label", label, "tiny", "sh")
    await docker(place.socket, "create", "--name", "mesos-other", "tiny", "sh")
    await place.again().remove_orphans()

    assert await place.names() == [f"mesos-{request.id}"]
    assert "mesos-other" in await docker(place.socket, "ps", "-a", "--format", "{{.Names}}")


async def test_checks_run_inside(place: Place) -> None:
    """A command is run in the container; a port is looked for in its network."""
    request = place.request("sleep 100")
    running = await place.containers.launch(request)
    inside = Inside(place.containers, request.id, place.containers.network(request.id))
    command = CommandInfo(value="exit 7")

    assert await inside.execute(command, timeout_seconds=10.0) == 7
    with pytest.raises(TimeoutError):
        await inside.execute(CommandInfo(value="sleep 77"), timeout_seconds=0.5)
    children = Path(f"/proc/{running.pid}/root/proc")
    await eventually(lambda: not _runs(children, b"77"))
    refused = await probe(inside, TcpProbe("127.0.0.1", 1), timeout_seconds=5.0)
    assert refused.found is False


def _runs(proc: Path, word: bytes) -> bool:
    for place in proc.glob("[0-9]*/cmdline"):
        try:
            if word in place.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


async def test_use_and_limits_are_told_and_changed(place: Place) -> None:
    request = place.request("sleep 100")
    running = await place.containers.launch(request)
    found = await place.containers.statistics(request.id)

    assert found.cpus_limit == 0.1
    assert found.mem_limit_bytes == 32 << 20
    await place.containers.update(
        request.id, Resources.parse("cpus:0.5;mem:64"), {"mem": Scalar(value=96.0)}
    )
    assert (await place.containers.statistics(request.id)).mem_limit_bytes == 96 << 20
    assert is_alive_pid(running.pid)


def is_alive_pid(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_an_image_that_can_not_be_had_is_told_in_docker_s_words(place: Place) -> None:
    image = f"{socket.gethostbyname('localhost')}:1/none:1"
    request = place.request("true", docker={"image": image})

    with pytest.raises(ContainerError, match="docker pull: "):
        await place.containers.launch(request)


async def test_a_launch_that_is_not_wanted_any_more_ends(place: Place) -> None:
    request = place.request("sleep 100")
    launching = asyncio.create_task(place.containers.launch(request))
    await eventually(lambda: place.containers.has(request.id))
    place.containers.kill(request.id)

    with pytest.raises(ContainerError, match="killed while it was launched"):
        await launching
    await place.containers.remove(request.id)
    assert await place.names() == []


async def test_an_engine_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="docker: unix://"):
        Engine(tmp_path / "none.sock")


async def test_a_command_that_is_not_there_is_told(place: Place) -> None:
    request = place.request("", command=CommandInfo(shell=False, value="/no/such"))

    with pytest.raises(ContainerError, match="no such file or directory"):
        await place.containers.launch(request)


FRAMEWORK = {"user": "root", "name": "test", "id": {"value": "fw-0000"}, "checkpoint": True}


def docker_task(name: str, script: str, **more: Any) -> dict[str, Any]:
    docker = {"image": "tiny", **more.pop("docker", {"network": "NONE"})}
    return {
        "name": name,
        "task_id": {"value": name},
        "agent_id": {"value": "master-S0"},
        "resources": [
            {"name": kind, "type": "SCALAR", "scalar": {"value": amount}}
            for kind, amount in (("cpus", 0.1), ("mem", 32.0))
        ],
        "command": {"value": script, **more.pop("command", {})},
        "container": {"type": "DOCKER", "docker": docker, **more.pop("container", {})},
        **more,
    }


@pytest.fixture
async def both(lead: Any, node: Any, socket_path: Path) -> Any:
    """An agent with both containerizers that has registered."""
    node.flags = ["--containerizers=mesos,docker", f"--docker-socket={socket_path}"]
    node.flags.append("--docker-remove-delay=0secs")
    await node.start(lead.port)
    await lead.until(lambda: lead.subscribes)
    return node


async def test_a_task_of_docker_lives_as_any_other(lead: Any, both: Any) -> None:
    """On a network of ours, checked, through a restart of the agent, to its kill."""
    check = {"type": "COMMAND", "command": {"command": {"value": "exit 7"}}}
    asked = docker_task(
        "t",
        "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done",
        docker={"network": "USER"},
        container={"network_infos": [{"name": "net"}]},
        check={**check, "delay_seconds": 0.0, "interval_seconds": 0.1},
    )
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=asked)
    running = await lead.reached("t", "RUNNING")
    [facts] = json.loads(running.data)
    assert facts["State"]["Running"]
    [network] = running.container_status.network_infos
    assert (network.name, bool(network.ip_addresses)) == ("net", True)
    await lead.until(lambda: any(_code(status) == 7 for status in lead.of("t")))
    _, shown = await both.call("GET_CONTAINERS")
    [container] = shown["get_containers"]["containers"]
    assert container["resource_statistics"]["mem_limit_bytes"] == 32 << 20

    await both.end(signal.SIGKILL)
    await both.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) == 2)
    assert [task.state for task in lead.subscribes[-1].tasks] == ["TASK_RUNNING"]
    await lead.say("KILL_TASK", framework_id={"value": "fw-0000"}, task_id={"value": "t"})
    assert (await lead.ended("t")).state == "TASK_KILLED"
    assert (both.sandbox("t") / "stdout").read_text() == "up\n"
    await both.emptied()


def _code(status: Any) -> int | None:
    check = status.check_status
    return check.command.exit_code if check is not None and check.command is not None else None


async def test_what_is_asked_is_fetched_before_a_container_of_docker(
    lead: Any, both: Any, tmp_path: Path
) -> None:
    (tmp_path / "given").write_text("words")
    asked = docker_task(
        "t",
        "cat /mnt/mesos/sandbox/given",
        command={"uris": [{"value": str(tmp_path / "given"), "extract": False}]},
    )
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=asked)
    await lead.ended("t")

    assert (both.sandbox("t") / "stdout").read_text() == "words"


async def test_without_its_containerizer_a_task_of_docker_is_refused(lead: Any, up: Any) -> None:
    await lead.say("RUN_TASK", framework_info=FRAMEWORK, task=docker_task("t", "true"))
    ended = await lead.ended("t")

    assert ended.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert "None of the enabled containerizers" in ended.message


async def test_an_agent_without_the_engine_it_names_does_not_start(lead: Any, node: Any) -> None:
    node.flags = ["--containerizers=mesos,docker", f"--docker-socket={node.base / 'none'}"]
    await node.start(lead.port)

    assert await node.process.wait() == 2
    assert "--containerizers: docker: unix://" in node.log.read_text()
