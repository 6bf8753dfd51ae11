"""The agent as a process, with real containers, against a master that speaks the real protocol."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from msgspec import structs

from phalanx.agent.cleanup import remove_all
from phalanx.agent.namespace import open_socket
from phalanx.mesos.agent_protocol import (
    CALLS_PATH,
    PATH,
    STREAM_HEADER,
    AcknowledgeUpdate,
    AgentCall,
    AgentEvent,
    AgentShutdown,
    AgentSubscribe,
    AgentSubscribed,
    KillTask,
    RunTask,
    ShutdownFramework,
)
from phalanx.mesos.recordio import RecordDecoder, encode_record
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import decode, encode, from_json
from phalanx.mesos.v1.mesos import (
    AgentID,
    Capability,
    FrameworkID,
    FrameworkInfo,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
)

FRAMEWORK = FrameworkID(value="fw-0000")
AGENT = AgentID(value="master-S0")
PATIENCE_SECONDS = 20.0
RUN = "import sys; from phalanx.agent.app import main; sys.exit(main(sys.argv[1:]))"

STATIC_PLUGIN = """#!/bin/sh
# A CNI plugin that gives an address of the loopback range inside the namespace, and keeps a log.
given=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME ${CNI_NETNS:-none}" >> "LOG/calls"
echo "$given" > "LOG/$CNI_COMMAND.json"
if [ "$CNI_COMMAND" = DEL ] && [ -e "LOG/refuse_delete" ]; then
  echo '{"code": 11, "msg": "try again later"}'; exit 1
fi
if [ "$CNI_COMMAND" = ADD ] && [ -e "LOG/refuse_add" ]; then
  echo '{"code": 100, "msg": "no addresses left", "details": "pool 9.0.1.0/24"}'; exit 1
fi
while [ "$CNI_COMMAND" = ADD ] && [ -e "LOG/hang_add" ]; do sleep 0.05; done
if [ "$CNI_COMMAND" = ADD ]; then
  nsenter --net="$CNI_NETNS" ip address add 9.9.9.9/32 dev lo
  echo '{"cniVersion": "1.0.0", "ips": [{"address": "9.9.9.9/24"}],
         "dns": {"nameservers": ["198.51.100.1"], "search": ["example"]}}'
fi
"""


class FakeMaster:
    """The master's end of the agent protocol: one agent, everything it says is kept."""

    def __init__(self) -> None:
        self.subscribes: list[AgentSubscribe] = []
        self.statuses: list[TaskStatus] = []
        self.heartbeats = 0
        self.acknowledges = True
        self.changed = asyncio.Condition()
        self.port = 0
        self._stream: web.StreamResponse | None = None
        self._stream_id = ""

    @asynccontextmanager
    async def serve(self, network: Path | None = None) -> AsyncIterator["FakeMaster"]:
        """Listen on loopback, inside *network* if one is given."""
        app = web.Application()
        app.router.add_post(PATH, self._call)
        app.router.add_post(CALLS_PATH, self._calls)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        listener = open_socket(network)
        listener.bind(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        self.port = int(runner.addresses[0][1])
        beat = asyncio.create_task(self._beat())
        try:
            yield self
        finally:
            beat.cancel()
            await runner.cleanup()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self._stream is not None:
                await self.tell(AgentEvent(type="HEARTBEAT"))

    async def _call(self, request: web.Request) -> web.StreamResponse:
        call = decode(AgentCall, await request.read())
        if call.subscribe is not None:
            return await self._subscribe(request, call.subscribe)
        return await self._take(request, call)

    async def _calls(self, request: web.Request) -> web.StreamResponse:
        decoder = RecordDecoder()
        async for chunk in request.content.iter_any():
            for record in decoder.feed(chunk):
                answer = await self._take(request, decode(AgentCall, record))
                if answer.status != 202:
                    return answer
        return web.Response(status=202)

    async def _take(self, request: web.Request, call: AgentCall) -> web.Response:
        if request.headers.get(STREAM_HEADER) != self._stream_id:
            return web.Response(status=403)
        async with self.changed:
            if call.update is not None:
                self.statuses.append(call.update.status)
                if self.acknowledges:
                    await self.acknowledge(call.update.status)
            elif call.type == "HEARTBEAT":
                self.heartbeats += 1
            self.changed.notify_all()
        return web.Response(status=202)

    async def _subscribe(self, request: web.Request, call: AgentSubscribe) -> web.StreamResponse:
        self._stream_id = uuid4().hex
        response = web.StreamResponse(headers={STREAM_HEADER: self._stream_id})
        await response.prepare(request)
        self._stream = response
        subscribed = AgentSubscribed(agent_id=AGENT, heartbeat_seconds=1.0)
        await self.tell(AgentEvent(type="SUBSCRIBED", subscribed=subscribed))
        async with self.changed:
            self.subscribes.append(call)
            self.changed.notify_all()
        try:
            await asyncio.Event().wait()
        finally:
            if self._stream is response:
                self._stream = None
        return response

    async def tell(self, event: AgentEvent) -> None:
        assert self._stream is not None
        await self._stream.write(encode_record(encode(event)))

    async def acknowledge(self, status: TaskStatus) -> None:
        assert status.uuid is not None
        order = AcknowledgeUpdate(framework_id=FRAMEWORK, task_id=status.task_id, uuid=status.uuid)
        await self.tell(AgentEvent(type="ACKNOWLEDGE_UPDATE", acknowledge_update=order))

    def forget_stream(self) -> None:
        self._stream_id = ""

    async def run_task(self, task: TaskInfo, *, checkpoint: bool = True) -> None:
        framework = FrameworkInfo(
            user="root",
            name="test",
            id=FRAMEWORK,
            checkpoint=checkpoint,
            capabilities=(Capability(type="TASK_KILLING_STATE"),),
        )
        order = RunTask(framework_info=framework, task=task)
        await self.tell(AgentEvent(type="RUN_TASK", run_task=order))

    async def kill_task(self, name: str) -> None:
        order = KillTask(framework_id=FRAMEWORK, task_id=TaskID(value=name))
        await self.tell(AgentEvent(type="KILL_TASK", kill_task=order))

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), self.changed:
            await self.changed.wait_for(holds)

    def of(self, name: str) -> list[TaskStatus]:
        """What was said of a task, each update once however often it came."""
        once = {status.uuid: status for status in self.statuses}
        return [status for status in once.values() if status.task_id.value == name]

    def states(self, name: str) -> list[str]:
        return [status.state.removeprefix("TASK_") for status in self.of(name)]

    async def reached(self, name: str, state: TaskState) -> TaskStatus:
        def found() -> list[TaskStatus]:
            return [status for status in self.of(name) if status.state == state]

        await self.until(found)
        return found()[-1]


@dataclass
class Agent:
    """One agent process and where its things are."""

    base: Path
    port: int
    cgroups: str
    prefix: tuple[str, ...] = ()
    process: asyncio.subprocess.Process | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.base / "agent.log"
        for name in ("configs", "plugins", "calls", "images"):
            (self.base / name).mkdir()

    @property
    def runtime(self) -> Path:
        return self.base / "runtime"

    @property
    def images(self) -> Path:
        return self.base / "images"

    @property
    def calls(self) -> Path:
        return self.base / "calls"

    def add_plugin(self, config: dict[str, object]) -> None:
        plugin = self.base / "plugins" / "static"
        plugin.write_text(STATIC_PLUGIN.replace("LOG", str(self.calls)))
        plugin.chmod(0o755)
        (self.base / "configs" / "net.conf").write_text(json.dumps(config))

    async def start(self, *masters: int, more: tuple[str, ...] = ()) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.prefix,
                sys.executable,
                "-c",
                RUN,
                f"--master={','.join(f'127.0.0.1:{port}' for port in masters)}",
                "--ip=127.0.0.1",
                f"--port={self.port}",
                f"--work-dir={self.base / 'work'}",
                f"--runtime-dir={self.runtime}",
                f"--network-cni-config-dir={self.base / 'configs'}",
                f"--network-cni-plugins-dir={self.base / 'plugins'}",
                f"--cgroups-root={self.cgroups}",
                f"--docker-registry={self.images}",
                "--resources=cpus:2;mem:2048;ports:[31000-32000]",
                "--attributes=rack:r1",
                *more,
                stderr=log,
            )

    async def end(self, number: int) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()

    def run_directories(self) -> list[Path]:
        return sorted((self.runtime / "containers").glob("*"))

    def init(self) -> int:
        [place] = self.run_directories()
        return int(json.loads((place / "started").read_text())["pid"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    made = Agent(tmp_path, free_port(), f"phalanx/test-{uuid4().hex[:8]}")
    try:
        yield made
    finally:
        if made.process is not None:
            await made.end(signal.SIGKILL)
        remove_all(made.runtime, made.cgroups)
        sys.stderr.write(made.log.read_text() if made.log.exists() else "")
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{made.cgroups}"))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


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


@pytest.fixture
async def layered_runtime(agent: Agent) -> AsyncIterator[Path]:
    """An overlay, which can't carry another one, as the agent's runtime directory."""
    for name in ("lower", "upper", "overlay-work", "runtime"):
        (agent.base / name).mkdir()
    parts = {"lowerdir": "lower", "upperdir": "upper", "workdir": "overlay-work"}
    options = ",".join(f"{key}={agent.base / name}" for key, name in parts.items())
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(agent.runtime)]
    await asyncio.to_thread(subprocess.run, mount, check=True)
    try:
        yield agent.runtime
    finally:
        if agent.process is not None:
            await agent.end(signal.SIGKILL)
        remove_all(agent.runtime, agent.cgroups)
        await asyncio.to_thread(subprocess.run, ["umount", str(agent.runtime)], check=True)


@pytest.fixture
async def master() -> AsyncIterator[FakeMaster]:
    async with FakeMaster().serve() as serving:
        yield serving


@pytest.fixture
async def ready(master: FakeMaster, agent: Agent) -> Agent:
    await agent.start(master.port)
    await master.until(lambda: master.subscribes)
    return agent


def shell(
    name: str,
    script: str,
    *,
    cpus: float = 0.1,
    mem: float = 64.0,
    **more: Any,
) -> TaskInfo:
    return from_json(
        TaskInfo,
        {
            "name": name,
            "task_id": {"value": name},
            "agent_id": {"value": AGENT.value},
            "resources": [
                json.loads(encode(resource))
                for resource in Resources.parse(f"cpus:{cpus};mem:{mem}").messages()
            ],
            "command": {"value": script},
            **more,
        },
    )


def output(agent: Agent, name: str) -> str:
    [file] = (agent.base / "work" / "slaves").glob(
        f"*/frameworks/*/executors/{name}/runs/latest/stdout"
    )
    return file.read_text()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


async def eventually(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - what is awaited happens in other processes
            await asyncio.sleep(0.02)


async def test_a_task_runs_to_its_end(master: FakeMaster, ready: Agent) -> None:
    await master.run_task(shell("hello", 'echo "$MESOS_TASK_ID in $PWD = $MESOS_SANDBOX"'))

    end = await master.reached("hello", TaskState.TASK_FINISHED)

    assert master.states("hello") == ["STARTING", "RUNNING", "FINISHED"]
    assert end.message == "Command exited with status 0"
    words = output(ready, "hello").split()
    assert words[0] == "hello"
    assert words[2] == words[4]


async def test_a_task_that_fails_says_how(master: FakeMaster, ready: Agent) -> None:
    await master.run_task(shell("status", "exit 3"))
    await master.run_task(shell("signal", "kill -USR1 $$"))

    status = await master.reached("status", TaskState.TASK_FAILED)
    by_signal = await master.reached("signal", TaskState.TASK_FAILED)

    assert status.message == "Command exited with status 3"
    assert by_signal.message == "Command terminated with signal User defined signal 1"


async def test_arguments_reach_a_command_without_shell(master: FakeMaster, ready: Agent) -> None:
    command = {"shell": False, "value": "/bin/echo", "arguments": ["echo", "a b", "$HOME"]}
    await master.run_task(shell("argv", "", command=command))

    await master.reached("argv", TaskState.TASK_FINISHED)

    assert output(ready, "argv") == "a b $HOME\n"


async def test_a_container_may_see_the_host_read_only_and_itself_alone(
    master: FakeMaster, agent: Agent
) -> None:
    await agent.start(master.port, more=("--host-filesystem=ro",))
    await master.until(lambda: master.subscribes)
    command = "touch /etc/x /usr/x; ls /proc | grep -c '^[0-9]*$'; ls -A /run"
    await master.run_task(shell("alone", command))

    await master.reached("alone", TaskState.TASK_FINISHED)

    words = output(agent, "alone").split()
    assert int(words[0]) < 8
    assert not words[1:]
    assert not Path("/etc/x").exists()
    assert not Path("/usr/x").exists()


async def test_a_container_writes_on_the_host_as_its_user(master: FakeMaster, ready: Agent) -> None:
    with TemporaryDirectory(prefix="phxtest-", dir="/var/lib") as place:
        Path(place).chmod(0o755)
        roots, nobodys = shell("roots", f"touch {place}/it"), shell("nobodys", f"touch {place}/no")
        assert nobodys.command is not None
        other = structs.replace(nobodys, command=structs.replace(nobodys.command, user="nobody"))
        await master.run_task(roots)
        await master.run_task(other)

        await master.reached("roots", TaskState.TASK_FINISHED)
        await master.reached("nobodys", TaskState.TASK_FAILED)

        assert os.listdir(place) == ["it"]


async def test_nothing_is_made_on_the_host_for_a_volume(master: FakeMaster, ready: Agent) -> None:
    missing = ready.base / "missing"
    volume = {"mode": "RW", "container_path": str(missing), "host_path": "/usr"}
    await master.run_task(shell("v", "true", container={"type": "MESOS", "volumes": [volume]}))

    status = await master.reached("v", TaskState.TASK_FAILED)

    assert f"volume '{missing}': is not there on the host" in str(status.message)
    assert not missing.exists()


@pytest.mark.parametrize("directory", ["/tmp", "/var/tmp"])
async def test_what_is_temporary_is_the_hosts(
    master: FakeMaster, ready: Agent, directory: str
) -> None:
    with TemporaryDirectory(prefix="phxtest-", dir=directory) as place:
        Path(place, "program").write_text("echo ran >$1/answer")
        await master.run_task(shell("temporary", f"sh {place}/program {place}"))

        await master.reached("temporary", TaskState.TASK_FINISHED)

        assert Path(place, "answer").read_text() == "ran\n"


async def test_volumes_are_mounted_as_asked(master: FakeMaster, ready: Agent) -> None:
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
    await master.run_task(task)

    await master.reached("volumes", TaskState.TASK_FINISHED)

    assert (shared / "file").read_text() == "word\n"
    assert output(ready, "volumes") == "word\n"


async def test_memory_beyond_the_limit_ends_a_task(master: FakeMaster, ready: Agent) -> None:
    # The hog is a child of the command's shell, which would go on after it.
    await master.run_task(shell("hog", "head -c 200m /dev/zero | tail; sleep 60", mem=32))

    end = await master.reached("hog", TaskState.TASK_FAILED)

    assert end.reason == "REASON_CONTAINER_LIMITATION_MEMORY"
    assert (end.message or "").startswith("Memory limit exceeded: Requested: 32MB Maximum Used: ")


async def test_cpu_is_shared_by_request_and_capped_by_limit(
    master: FakeMaster, ready: Agent
) -> None:
    task = shell("spin", "while :; do :; done", cpus=0.5, limits={"cpus": {"value": 0.2}})
    await master.run_task(task)
    await master.reached("spin", TaskState.TASK_RUNNING)
    [place] = ready.run_directories()
    cgroup = Path("/sys/fs/cgroup/cpu", ready.cgroups, place.name)

    await eventually(lambda: "nr_throttled 0\n" not in (cgroup / "cpu.stat").read_text())

    assert (cgroup / "cpu.shares").read_text() == "512\n"
    assert (cgroup / "cpu.cfs_quota_us").read_text() == "20000\n"


async def test_a_killed_task_may_end_by_itself(master: FakeMaster, ready: Agent) -> None:
    await master.run_task(
        shell("polite", 'trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done')
    )
    await master.reached("polite", TaskState.TASK_RUNNING)
    await eventually(lambda: "ready" in output(ready, "polite"))

    await master.kill_task("polite")
    end = await master.reached("polite", TaskState.TASK_KILLED)

    assert master.states("polite") == ["STARTING", "RUNNING", "KILLING", "KILLED"]
    assert end.healthy is None


async def test_a_task_that_ignores_its_end_is_made_to_end(master: FakeMaster, ready: Agent) -> None:
    task = shell(
        "stubborn",
        'trap "" TERM; while :; do sleep 60; done',
        kill_policy={"grace_period": {"nanoseconds": 300_000_000}},
    )
    await master.run_task(task)
    await master.reached("stubborn", TaskState.TASK_RUNNING)

    await master.kill_task("stubborn")
    end = await master.reached("stubborn", TaskState.TASK_KILLED)

    assert end.message == "Command terminated with signal Killed"
    await eventually(lambda: not ready.run_directories())


PROGRAMS = ("sh", "cat", "ls", "env", "pwd", "touch", "sleep", "echo", "rm")


def host_files() -> dict[str, bytes]:
    """A few programs of this machine with their libraries, as the files of an image."""
    paths = {f"/bin/{name}" for name in PROGRAMS}
    for path in tuple(paths):
        told = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
        paths |= {word for word in told.split() if word.startswith("/")}
    return {path.lstrip("/"): Path(path).read_bytes() for path in paths}


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar archive of programs."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def image_archive(*layers: dict[str, bytes], is_oci: bool = False, **config: object) -> bytes:
    """An image of layers, as ``docker save`` writes it or as a tar of an OCI layout."""
    packed = [tar_of(layer) for layer in layers]
    digests = [f"sha256:{digest_of(layer)}" for layer in packed]
    content = json.dumps({"config": config, "rootfs": {"type": "layers", "diff_ids": digests}})
    if not is_oci:
        names = [f"{number}/layer.tar" for number in range(len(packed))]
        manifest = [{"Config": "c.json", "RepoTags": None, "Layers": names}]
        files = dict(zip(names, packed, strict=True))
        files |= {"c.json": content.encode(), "manifest.json": json.dumps(manifest).encode()}
        return tar_of(files)
    blobs = [content.encode(), *(gzip.compress(layer) for layer in packed)]
    descriptors = [{"digest": f"sha256:{digest_of(blob)}"} for blob in blobs]
    manifest_blob = json.dumps({"config": descriptors[0], "layers": descriptors[1:]}).encode()
    index = {"manifests": [{"digest": f"sha256:{digest_of(manifest_blob)}"}]}
    files = {f"blobs/sha256/{digest_of(blob)}": blob for blob in (*blobs, manifest_blob)}
    return gzip.compress(tar_of({**files, "index.json": json.dumps(index).encode()}))


TWO_LAYERS = ({"data/old": b"old", "data/kept": b"kept"}, {"data/.wh.old": b"", "data/new": b"new"})


def in_image(name: str, image: str, script: str, **more: Any) -> TaskInfo:
    asked = {"type": "DOCKER", "docker": {"name": image}}
    return shell(name, script, container={"type": "MESOS", "mesos": {"image": asked}}, **more)


@pytest.mark.parametrize(
    "is_oci", [pytest.param(False, id="docker-save"), pytest.param(True, id="oci")]
)
async def test_a_container_of_an_image_has_its_files_and_not_the_hosts(
    master: FakeMaster, ready: Agent, is_oci: bool
) -> None:
    archive = image_archive(host_files(), *TWO_LAYERS, is_oci=is_oci, Env=["A=1", "B=1"])
    (ready.images / "team").mkdir()
    (ready.images / "team" / "tools:1.tar").write_bytes(archive)
    script = "echo $(ls /data); echo $A$B; pwd; echo $MESOS_SANDBOX; ls /usr /home; touch here"
    environment = {"variables": [{"name": "B", "value": "2"}]}
    command = {"value": script, "environment": environment}
    await master.run_task(in_image("image", "team/tools:1", "", command=command))

    await master.reached("image", TaskState.TASK_FINISHED)

    words = output(ready, "image").split()
    assert words == ["kept", "new", "12", "/mnt/mesos/sandbox", "/mnt/mesos/sandbox"]


async def test_an_image_that_is_not_there_is_named_with_where_it_was_looked_for(
    master: FakeMaster, ready: Agent
) -> None:
    await master.run_task(in_image("image", "nginx", "true"))

    end = await master.reached("image", TaskState.TASK_FAILED)

    assert end.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert f"image 'nginx': neither {ready.images}/nginx:latest.tar nor" in (end.message or "")


async def test_an_archive_that_is_no_image_is_said_to_be_none(
    master: FakeMaster, ready: Agent
) -> None:
    (ready.images / "junk.tar").write_bytes(b"not an archive" * 100)
    await master.run_task(in_image("image", "junk", "true"))

    end = await master.reached("image", TaskState.TASK_FAILED)

    assert f"image 'junk': {ready.images}/junk.tar: is no image" in (end.message or "")


async def test_containers_of_an_image_share_it_and_nothing_that_they_write(
    master: FakeMaster, ready: Agent
) -> None:
    (ready.images / "tools.tar").write_bytes(image_archive(host_files(), *TWO_LAYERS))
    script = "echo $MESOS_TASK_ID > /data/new; rm /data/kept; touch /mine; echo $(ls /data /mine*)"
    for name in ("one", "two"):
        await master.run_task(in_image(name, "tools", script))

    for name in ("one", "two"):
        await master.reached(name, TaskState.TASK_FINISHED)
        assert output(ready, name).split() == ["/mine", "/data:", "new"]
    [stored] = (ready.base / "work" / "store" / "docker").iterdir()
    assert (stored / "rootfs" / "data" / "new").read_bytes() == b"new"
    assert (stored / "rootfs" / "data" / "kept").exists()
    assert not (stored / "rootfs" / "mine").exists()
    await eventually(lambda: not ready.run_directories())


async def test_another_user_may_use_an_image(master: FakeMaster, ready: Agent) -> None:
    (ready.images / "tools.tar").write_bytes(image_archive(host_files(), *TWO_LAYERS))
    command = {"value": "cat /data/new; touch mine; ls; touch /data/x", "user": "nobody"}
    await master.run_task(in_image("user", "tools", "", command=command))

    end = await master.reached("user", TaskState.TASK_FAILED)

    assert end.message == "Command exited with status 1"
    assert output(ready, "user").split() == ["newmine", "stderr", "stdout"]


async def test_what_an_image_runs_is_run_where_it_says(master: FakeMaster, ready: Agent) -> None:
    archive = image_archive(
        host_files(), Entrypoint=["/bin/echo", "from"], Cmd=["cmd"], WorkingDir="/srv/work"
    )
    (ready.images / "app.tar").write_bytes(archive)
    bare = {"shell": False}
    await master.run_task(in_image("cmd", "app", "", command=bare))
    await master.run_task(in_image("args", "app", "", command={**bare, "arguments": ["args"]}))
    await master.run_task(in_image("pwd", "app", "pwd"))

    for name, words in (("cmd", "from cmd\n"), ("args", "from args\n"), ("pwd", "/srv/work\n")):
        await master.reached(name, TaskState.TASK_FINISHED)
        assert output(ready, name) == words


async def test_an_image_without_a_shell_runs_its_program(master: FakeMaster, ready: Agent) -> None:
    files = {name: content for name, content in host_files().items() if name != "bin/sh"}
    (ready.images / "bare.tar").write_bytes(image_archive(files, Entrypoint=["/bin/cat"]))
    # Made by runc in the layer of the container, since the image has none.
    asked = {"shell": False, "arguments": ["/etc/hosts"]}
    await master.run_task(in_image("bare", "bare", "", command=asked))
    await master.run_task(in_image("shell", "bare", "true"))

    await master.reached("bare", TaskState.TASK_FINISHED)
    refused = await master.reached("shell", TaskState.TASK_FAILED)

    assert output(ready, "bare") == Path("/etc/hosts").read_text()
    assert "the image has no /bin/sh" in (refused.message or "")


async def test_a_container_of_an_image_outlives_its_agent_and_leaves_nothing(
    master: FakeMaster, ready: Agent
) -> None:
    (ready.images / "tools.tar").write_bytes(image_archive(host_files()))
    await master.run_task(in_image("stays", "tools", "touch /mine; sleep 1000"))
    await master.run_task(in_image("goes", "tools", "sleep 1000"))
    await master.reached("stays", TaskState.TASK_RUNNING)
    await master.reached("goes", TaskState.TASK_RUNNING)
    assert "overlay" not in own_mounts(ready)

    await ready.end(signal.SIGKILL)
    await ready.start(master.port)
    await master.until(lambda: len(master.subscribes) == 2)
    await master.kill_task("goes")

    await master.reached("goes", TaskState.TASK_KILLED)
    await eventually(lambda: len(ready.run_directories()) == 1)
    assert master.states("stays")[-1] == "RUNNING"
    await ready.end(signal.SIGKILL)
    remove_all(ready.runtime, ready.cgroups)
    assert own_mounts(ready) == ""
    assert not ready.run_directories()


async def test_an_overlay_that_the_kernel_refuses_is_told_in_its_words(
    master: FakeMaster, agent: Agent, layered_runtime: Path
) -> None:
    await agent.start(master.port)
    await master.until(lambda: master.subscribes)
    (agent.images / "tools.tar").write_bytes(image_archive(host_files()))
    await master.run_task(in_image("refused", "tools", "true"))

    end = await master.reached("refused", TaskState.TASK_FAILED)

    assert end.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert "image 'tools': " in (end.message or "")
    assert "overlay" in (end.message or "")
    assert str(layered_runtime) in (end.message or "")
    await eventually(lambda: not agent.run_directories())


async def test_an_extraction_cut_short_is_removed_by_the_next_agent(
    master: FakeMaster, ready: Agent
) -> None:
    zeros = {"zeros": bytes(150 * 1024**2)}
    (ready.images / "large.tar").write_bytes(image_archive(host_files(), zeros))
    store = ready.base / "work" / "store" / "docker"
    await master.run_task(in_image("large", "large", "true"))
    await eventually(lambda: list(store.glob(".new-*/rootfs/zeros")))

    await ready.end(signal.SIGKILL)
    [left] = store.iterdir()
    await ready.start(master.port)

    end = await master.reached("large", TaskState.TASK_FAILED)
    assert end.reason == "REASON_AGENT_RESTARTED"
    assert left.name.startswith(".new-")
    assert not list(store.iterdir())
    await master.run_task(in_image("again", "large", "ls zeros /zeros"))
    await master.reached("again", TaskState.TASK_FAILED)
    assert output(ready, "again") == "/zeros\n"


def own_mounts(agent: Agent) -> str:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return "\n".join(line for line in lines if str(agent.base) in line)


async def test_what_runc_refuses_is_told_in_its_words(master: FakeMaster, ready: Agent) -> None:
    volumes = [{"mode": "RW", "container_path": "/nosuch", "host_path": "/usr"}]
    await master.run_task(shell("refused", "true", container={"type": "MESOS", "volumes": volumes}))

    end = await master.reached("refused", TaskState.TASK_FAILED)

    assert end.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert "read-only file system" in (end.message or "")


def networked(name: str, command: str, **more: Any) -> TaskInfo:
    info = {
        "name": "dcos",
        "labels": {"labels": [{"key": "app", "value": name}]},
        "port_mappings": [{"host_port": 31000, "container_port": 80, "protocol": "tcp"}],
    }
    return shell(name, command, container={"type": "MESOS", "network_infos": [info]}, **more)


CONFIG: dict[str, object] = {
    "cniVersion": "1.0.0",
    "name": "dcos",
    "type": "static",
    "capabilities": {"portMappings": True},
}


async def test_a_named_network_is_joined_through_its_plugin(
    master: FakeMaster, ready: Agent
) -> None:
    ready.add_plugin(CONFIG)
    command = (
        "ip -o address show; cat /etc/resolv.conf /etc/hosts; hostname; cat /etc/hostname;"
        " echo $MESOS_CONTAINER_IP $LIBPROCESS_IP"
    )
    await master.run_task(networked("Web.Front", command))

    end = await master.reached("Web.Front", TaskState.TASK_FINISHED)

    text = output(ready, "Web.Front")
    assert "inet 9.9.9.9/32" in text
    assert "inet 127.0.0.1/8" in text
    assert "search example\nnameserver 198.51.100.1\n" in text
    assert "9.9.9.9 web\n" in text
    assert text.endswith("web\nweb\n9.9.9.9 0.0.0.0\n")
    assert end.container_status is not None
    [network] = end.container_status.network_infos
    assert network.name == "dcos"
    assert [address.ip_address for address in network.ip_addresses] == ["9.9.9.9"]
    assert network.port_mappings[0].host_port == 31000
    given = json.loads((ready.calls / "ADD.json").read_text())
    assert given["args"]["org.apache.mesos"]["network_info"]["labels"] == {
        "labels": [{"key": "app", "value": "Web.Front"}]
    }
    assert given["runtimeConfig"]["portMappings"] == [
        {"hostPort": 31000, "containerPort": 80, "protocol": "tcp"}
    ]
    state = ready.runtime / "isolators" / "network" / "cni"
    await eventually(lambda: not list(state.iterdir()))
    add, delete = (ready.calls / "calls").read_text().splitlines()
    assert add.removeprefix("ADD") == delete.removeprefix("DEL")
    assert add.split()[2] == "eth0"


async def test_a_task_without_network_shares_the_agents(master: FakeMaster, ready: Agent) -> None:
    await master.run_task(shell("host", "readlink /proc/self/ns/net"))

    end = await master.reached("host", TaskState.TASK_FINISHED)

    assert output(ready, "host").strip() == os.readlink("/proc/self/ns/net")
    assert end.container_status is not None
    [network] = end.container_status.network_infos
    assert network.name is None
    assert network.ip_addresses[0].ip_address == "127.0.0.1"


async def test_a_plugin_that_refuses_is_quoted_and_asked_to_undo(
    master: FakeMaster, ready: Agent
) -> None:
    ready.add_plugin(CONFIG)
    (ready.calls / "refuse_add").touch()
    await master.run_task(networked("unlucky", "true"))

    end = await master.reached("unlucky", TaskState.TASK_FAILED)

    assert end.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert "no addresses left: pool 9.0.1.0/24" in (end.message or "")
    await eventually(lambda: "DEL" in (ready.calls / "calls").read_text())


async def test_an_unknown_network_is_named(master: FakeMaster, ready: Agent) -> None:
    await master.run_task(networked("nowhere", "true"))

    end = await master.reached("nowhere", TaskState.TASK_FAILED)

    assert "Unknown CNI network 'dcos'" in (end.message or "")


async def test_a_refused_detachment_is_tried_again(master: FakeMaster, ready: Agent) -> None:
    ready.add_plugin(CONFIG)
    (ready.calls / "refuse_delete").touch()
    await master.run_task(networked("sticky", "true"))
    await master.reached("sticky", TaskState.TASK_FINISHED)
    calls = ready.calls / "calls"
    await eventually(lambda: calls.read_text().count("DEL") >= 2)

    (ready.calls / "refuse_delete").unlink()

    state = ready.runtime / "isolators" / "network" / "cni"
    await eventually(lambda: not list(state.iterdir()))


async def test_a_container_outlives_its_agent(master: FakeMaster, ready: Agent) -> None:
    await master.run_task(shell("survivor", "while [ ! -e stop ]; do sleep 0.05; done; exit 7"))
    await master.reached("survivor", TaskState.TASK_RUNNING)
    init = ready.init()

    await ready.end(signal.SIGKILL)
    assert is_running(init)
    await ready.start(master.port)
    await master.until(lambda: len(master.subscribes) == 2)

    again = master.subscribes[1]
    assert again.agent_info.id == AGENT
    assert [(task.name, task.state) for task in again.tasks] == [("survivor", "TASK_RUNNING")]
    assert [framework.id for framework in again.frameworks] == [FRAMEWORK]
    [sandbox] = (ready.base / "work" / "slaves").glob("*/frameworks/*/executors/*/runs/latest")
    (sandbox / "stop").touch()
    end = await master.reached("survivor", TaskState.TASK_FAILED)
    assert end.message == "Command exited with status 7"
    assert master.states("survivor") == ["STARTING", "RUNNING", "FAILED"]


async def test_an_exit_without_an_agent_is_told_later(master: FakeMaster, ready: Agent) -> None:
    await master.run_task(shell("unseen", "while [ ! -e stop ]; do sleep 0.05; done; exit 9"))
    await master.reached("unseen", TaskState.TASK_RUNNING)
    [place] = ready.run_directories()
    [sandbox] = (ready.base / "work" / "slaves").glob("*/frameworks/*/executors/*/runs/latest")

    await ready.end(signal.SIGKILL)
    (sandbox / "stop").touch()
    await eventually(lambda: (place / "exit").exists())
    await ready.start(master.port)

    end = await master.reached("unseen", TaskState.TASK_FAILED)
    assert end.message == "Command exited with status 9"
    await eventually(lambda: not ready.run_directories())


async def test_without_checkpoints_a_task_does_not_outlive_its_agent(
    master: FakeMaster, ready: Agent
) -> None:
    ready.add_plugin({"cniVersion": "1.0.0", "name": "net", "type": "static"})
    network = {"type": "MESOS", "network_infos": [{"name": "net"}]}
    await master.run_task(shell("plain", "sleep 1000", container=network), checkpoint=False)
    await master.run_task(shell("kept", "sleep 1000"))
    await master.reached("plain", TaskState.TASK_RUNNING)
    await master.reached("kept", TaskState.TASK_RUNNING)
    await ready.end(signal.SIGKILL)

    await ready.start(master.port)

    await master.until(lambda: len(master.subscribes) > 1)
    assert [task.name for task in master.subscribes[1].tasks] == ["kept"]
    await eventually(lambda: "\nDEL " in (ready.calls / "calls").read_text())
    await eventually(lambda: len(ready.run_directories()) == 1)
    assert [status.state for status in master.of("plain")][-1] == TaskState.TASK_RUNNING


async def test_a_kill_goes_on_after_a_restart(master: FakeMaster, ready: Agent) -> None:
    policy = {"grace_period": {"nanoseconds": 600_000_000_000}}
    loop = 'trap "" TERM; while [ ! -e stop ]; do sleep 0.05; done'
    await master.run_task(shell("condemned", loop, kill_policy=policy))
    await master.reached("condemned", TaskState.TASK_RUNNING)
    [sandbox] = (ready.base / "work" / "slaves").glob("*/frameworks/*/executors/*/runs/latest")
    await master.kill_task("condemned")
    await master.reached("condemned", TaskState.TASK_KILLING)

    await ready.end(signal.SIGKILL)
    await ready.start(master.port)
    await master.until(lambda: len(master.subscribes) == 2)
    (sandbox / "stop").touch()

    await master.reached("condemned", TaskState.TASK_KILLED)


async def test_a_launch_cut_short_is_failed_and_undone(master: FakeMaster, ready: Agent) -> None:
    ready.add_plugin(CONFIG)
    (ready.calls / "hang_add").touch()
    await master.run_task(networked("halfway", "sleep 60"))
    await eventually(lambda: (ready.calls / "ADD.json").exists())

    await ready.end(signal.SIGKILL)
    (ready.calls / "hang_add").unlink()
    await ready.start(master.port)

    end = await master.reached("halfway", TaskState.TASK_FAILED)
    assert end.reason == "REASON_AGENT_RESTARTED"
    await eventually(lambda: "DEL" in (ready.calls / "calls").read_text())
    state = ready.runtime / "isolators" / "network" / "cni"
    await eventually(lambda: not list(state.iterdir()))


async def test_unacknowledged_updates_are_sent_again_after_a_restart(
    master: FakeMaster, ready: Agent
) -> None:
    master.acknowledges = False
    await master.run_task(shell("unheard", "true"))
    first = await master.reached("unheard", TaskState.TASK_STARTING)
    log = ready.base.glob(
        "work/meta/slaves/master-*/frameworks/*/executors/*/runs/*/tasks/*/task.updates"
    )
    [updates] = log
    await eventually(lambda: b"TASK_FINISHED" in updates.read_bytes())

    await ready.end(signal.SIGKILL)
    master.statuses.clear()
    master.acknowledges = True
    await ready.start(master.port)
    await master.reached("unheard", TaskState.TASK_FINISHED)

    assert master.states("unheard") == ["STARTING", "RUNNING", "FINISHED"]
    assert master.of("unheard")[0].uuid == first.uuid
    assert [task.state for task in master.subscribes[1].tasks] == ["TASK_FINISHED"]
    await eventually(lambda: not updates.exists())


async def test_a_reboot_is_the_end_of_every_container(master: FakeMaster, ready: Agent) -> None:
    await master.run_task(shell("before", "sleep 600"))
    await master.reached("before", TaskState.TASK_RUNNING)
    await ready.end(signal.SIGKILL)
    (ready.base / "work" / "meta" / "boot_id").write_text("another boot\n")

    await ready.start(master.port)

    end = await master.reached("before", TaskState.TASK_FAILED)
    assert end.reason == "REASON_AGENT_RESTARTED"
    assert end.message == "The agent's machine was rebooted"


async def test_a_stream_that_the_master_forgot_is_opened_anew(
    master: FakeMaster, ready: Agent
) -> None:
    await master.until(lambda: master.heartbeats >= 1)

    master.forget_stream()

    await master.until(lambda: len(master.subscribes) == 2)
    heard = master.heartbeats
    await master.until(lambda: master.heartbeats > heard)


async def test_the_leader_is_found_among_masters(master: FakeMaster, agent: Agent) -> None:
    async def redirect(request: web.Request) -> web.Response:
        location = f"//127.0.0.1:{master.port}{PATH}"
        return web.Response(status=307, headers={"Location": location})

    app = web.Application()
    app.router.add_post(PATH, redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        await agent.start(free_port(), runner.addresses[0][1])

        await master.until(lambda: master.subscribes)
        await master.until(lambda: master.heartbeats >= 1)
    finally:
        await runner.cleanup()


async def test_a_polite_end_of_the_agent_leaves_containers_alone(
    master: FakeMaster, ready: Agent
) -> None:
    await master.run_task(shell("stays", "sleep 600"))
    await master.reached("stays", TaskState.TASK_RUNNING)
    init = ready.init()

    status = await ready.end(signal.SIGTERM)

    assert status == 0
    assert is_running(init)


async def test_shutdown_by_the_master_takes_everything_down(
    master: FakeMaster, ready: Agent
) -> None:
    await master.run_task(shell("doomed", "sleep 600"))
    await master.reached("doomed", TaskState.TASK_RUNNING)
    init = ready.init()

    shutdown = AgentShutdown(message="marked gone")
    await master.tell(AgentEvent(type="SHUTDOWN", shutdown=shutdown))
    assert ready.process is not None
    status = await asyncio.wait_for(ready.process.wait(), PATIENCE_SECONDS)

    assert status == 1
    assert not is_running(init)
    assert [list(place.iterdir()) for place in ready.run_directories()] == []


async def test_a_framework_that_is_gone_loses_its_tasks(master: FakeMaster, ready: Agent) -> None:
    await master.run_task(shell("orphan", "sleep 600"))
    await master.reached("orphan", TaskState.TASK_RUNNING)

    order = ShutdownFramework(framework_id=FRAMEWORK)
    await master.tell(AgentEvent(type="SHUTDOWN_FRAMEWORK", shutdown_framework=order))

    await master.reached("orphan", TaskState.TASK_KILLED)


SERVER = "exec python3 -m http.server 80 --bind 127.0.0.1"
QUICK = {"delay_seconds": 0, "interval_seconds": 0.1, "timeout_seconds": 5}


@pytest.mark.parametrize(
    "check",
    [
        pytest.param({"type": "HTTP", "http": {"port": 80, "path": "/"}}, id="http"),
        pytest.param({"type": "TCP", "tcp": {"port": 80}}, id="tcp"),
        pytest.param(
            {"type": "COMMAND", "command": {"value": "grep -q 0050 /proc/net/tcp"}}, id="command"
        ),
    ],
)
async def test_health_is_seen_inside_the_containers_network(
    master: FakeMaster, ready: Agent, check: dict[str, object]
) -> None:
    ready.add_plugin(CONFIG)
    await master.run_task(networked("server", SERVER, health_check={**QUICK, **check}))

    await master.until(lambda: any(status.healthy for status in master.of("server")))

    healthy = master.of("server")[-1]
    assert healthy.state == TaskState.TASK_RUNNING
    assert healthy.reason == "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"


async def test_an_unhealthy_task_is_killed(master: FakeMaster, ready: Agent) -> None:
    check = {**QUICK, "type": "TCP", "tcp": {"port": 9}, "consecutive_failures": 2}
    task = networked("ill", "sleep 600", health_check={**check, "grace_period_seconds": 0})
    ready.add_plugin(CONFIG)
    await master.run_task(task)

    end = await master.reached("ill", TaskState.TASK_KILLED)

    assert end.healthy is False
    assert "Health check failed 2 times in a row" in (end.message or "")


async def test_the_api_shows_what_runs(master: FakeMaster, ready: Agent) -> None:
    await master.run_task(shell("shown", "echo words; sleep 600"))
    await master.reached("shown", TaskState.TASK_RUNNING)
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


async def test_an_idle_agent_is_small(master: FakeMaster, ready: Agent) -> None:
    await master.until(lambda: master.heartbeats >= 2)
    assert ready.process is not None

    status = Path(f"/proc/{ready.process.pid}/status").read_text()

    [resident] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    assert int(resident) < 80 * 1024


async def test_one_work_directory_has_one_agent(master: FakeMaster, ready: Agent) -> None:
    first = ready.process
    try:
        await ready.start(master.port)
        assert ready.process is not None

        status = await asyncio.wait_for(ready.process.wait(), PATIENCE_SECONDS)
    finally:
        ready.process = first

    assert status == 2
    assert "another agent is using it" in ready.log.read_text()


async def test_a_full_disk_ends_the_agent_and_no_container(
    master: FakeMaster, agent: Agent, small_disk: Path
) -> None:
    await agent.start(master.port)
    await master.until(lambda: master.subscribes)
    await master.run_task(shell("stays", "sleep 1000"))
    await master.reached("stays", TaskState.TASK_RUNNING)
    init = agent.init()
    (small_disk / "filler").touch()
    with suppress(OSError), (small_disk / "filler").open("ab", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass

    await master.run_task(shell("one too many", "true"))
    assert agent.process is not None
    status = await asyncio.wait_for(agent.process.wait(), PATIENCE_SECONDS)

    assert status == 1
    assert "No space left on device" in agent.log.read_text()
    assert is_running(init)
    (small_disk / "filler").unlink()
    await agent.start(master.port)
    await master.until(lambda: len(master.subscribes) == 2)
    assert [task.name for task in master.subscribes[-1].tasks] == ["stays"]


async def test_an_agent_lives_in_the_network_of_its_node(agent: Agent, ns: str) -> None:
    node = Path("/run/netns", ns)
    agent.prefix = ("nsenter", f"--net={node}")
    agent.add_plugin(CONFIG)
    show = "stat -L -c %i /proc/self/ns/net"
    async with FakeMaster().serve(node) as master:
        await agent.start(master.port)
        await master.until(lambda: master.subscribes)
        await master.run_task(shell("host", show))
        await master.run_task(networked("own", show))

        await master.reached("host", TaskState.TASK_FINISHED)
        await master.reached("own", TaskState.TASK_FINISHED)

    assert int(output(agent, "host")) == node.stat().st_ino
    assert int(output(agent, "own")) != node.stat().st_ino


async def test_what_a_command_needs_is_fetched_first(master: FakeMaster, ready: Agent) -> None:
    (ready.base / "word").write_text("fetched\n")

    def needing(name: str, file: str) -> TaskInfo:
        uris = [{"value": f"file://{ready.base}/{file}"}]
        return shell(name, "", command={"value": "cat word", "uris": uris})

    await master.run_task(needing("c1", "word"))
    await master.run_task(needing("c2", "nothing"))
    await master.reached("c1", TaskState.TASK_FINISHED)
    failed = await master.reached("c2", TaskState.TASK_FAILED)

    assert output(ready, "c1") == "fetched\n"
    assert failed.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert "Failed to fetch all URIs for container" in (failed.message or "")
    assert "nothing: No such file or directory" in (failed.message or "")


async def test_the_status_of_a_limit_has_the_limit(master: FakeMaster, ready: Agent) -> None:
    script = "import os; x = bytearray(os.urandom(1)) * (80 << 20)"
    await master.run_task(shell("c1", f"python3 -c '{script}'"))

    failed = await master.reached("c1", TaskState.TASK_FAILED)

    assert failed.limitation is not None
    assert [item.name for item in failed.limitation.resources] == ["mem"]
    assert "MEMORY STATISTICS" in (failed.message or "")
