"""A master's end of the agent protocol, an agent as a process, a plugin that gives addresses."""

import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web

from phalanx.agent.cleanup import remove_all
from phalanx.mesos.agent_protocol import (
    CALLS_PATH,
    PATH,
    STREAM_HEADER,
    AcknowledgeUpdate,
    AgentCall,
    AgentEvent,
    AgentSubscribe,
    AgentSubscribed,
)
from phalanx.mesos.recordio import RecordDecoder, encode_record
from phalanx.mesos.v1.codec import decode, encode, from_json
from phalanx.mesos.v1.mesos import AgentID, FrameworkID, TaskStatus

FRAMEWORK = FrameworkID(value="fw-0000")
AGENT = AgentID(value="master-S0")
PATIENCE_SECONDS = 30.0
RUN = "import sys; from phalanx.agent.app import main; sys.exit(main(sys.argv[1:]))"

PLUGIN = """#!/bin/sh
# A CNI plugin: each container gets an address of its own on lo of its namespace.
given=$(cat)
if [ "$CNI_COMMAND" = ADD ]; then
  count=$(( $(cat "BASE/count" 2>/dev/null || echo 0) + 1 )); echo $count > "BASE/count"
  nsenter --net="$CNI_NETNS" ip address add "9.9.9.$count/32" dev lo
  echo "{\\"cniVersion\\": \\"1.0.0\\", \\"ips\\": [{\\"address\\": \\"9.9.9.$count/24\\"}]}"
fi
echo "$CNI_COMMAND $CNI_CONTAINERID" >> "BASE/calls"
"""


class Lead:
    """The master's end of the agent protocol: one agent, everything it says is kept."""

    def __init__(self) -> None:
        self.subscribes: list[AgentSubscribe] = []
        self.statuses: list[TaskStatus] = []
        self.calls: list[AgentCall] = []
        self.times: dict[tuple[str, str], float] = {}
        self.acknowledges = True
        self.changed = asyncio.Condition()
        self.port = 0
        self._stream: web.StreamResponse | None = None
        self._stream_id = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Lead"]:
        app = web.Application()
        app.router.add_post(PATH, self._call)
        app.router.add_post(CALLS_PATH, self._calls)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
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
        assert call.subscribe is not None
        self._stream_id = uuid4().hex
        response = web.StreamResponse(headers={STREAM_HEADER: self._stream_id})
        await response.prepare(request)
        self._stream = response
        subscribed = AgentSubscribed(agent_id=AGENT, heartbeat_seconds=1.0)
        await self.tell(AgentEvent(type="SUBSCRIBED", subscribed=subscribed))
        async with self.changed:
            self.subscribes.append(call.subscribe)
            self.changed.notify_all()
        try:
            await asyncio.Event().wait()
        finally:
            if self._stream is response:
                self._stream = None
        return response

    async def _calls(self, request: web.Request) -> web.StreamResponse:
        decoder = RecordDecoder()
        async for chunk in request.content.iter_any():
            for record in decoder.feed(chunk):
                if request.headers.get(STREAM_HEADER) != self._stream_id:
                    return web.Response(status=403)
                await self._take(decode(AgentCall, record))
        return web.Response(status=202)

    async def _take(self, call: AgentCall) -> None:
        async with self.changed:
            if call.update is not None:
                status = call.update.status
                self.statuses.append(status)
                self.times.setdefault((status.task_id.value, status.state), time.monotonic())
                if self.acknowledges:
                    await self.acknowledge(status)
            elif call.type != "HEARTBEAT":
                self.calls.append(call)
            self.changed.notify_all()

    async def tell(self, event: AgentEvent) -> None:
        assert self._stream is not None
        await self._stream.write(encode_record(encode(event)))

    async def say(self, kind: str, **parts: Any) -> None:
        """Send an event given as JSON."""
        await self.tell(from_json(AgentEvent, {"type": kind, kind.lower(): parts}))

    async def acknowledge(self, status: TaskStatus) -> None:
        assert status.uuid is not None
        order = AcknowledgeUpdate(framework_id=FRAMEWORK, task_id=status.task_id, uuid=status.uuid)
        await self.tell(AgentEvent(type="ACKNOWLEDGE_UPDATE", acknowledge_update=order))

    async def acknowledge_all(self) -> None:
        """Acknowledge from now on, and what has come so far."""
        self.acknowledges = True
        for status in tuple(self.statuses):
            await self.acknowledge(status)

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), self.changed:
            await self.changed.wait_for(holds)

    def of(self, name: str) -> list[TaskStatus]:
        """What was said of a task, each update once however often it came."""
        once = {status.uuid: status for status in self.statuses}
        return [status for status in once.values() if status.task_id.value == name]

    def states(self, name: str) -> list[str]:
        return [status.state.removeprefix("TASK_") for status in self.of(name)]

    async def reached(self, name: str, state: str) -> TaskStatus:
        def found() -> list[TaskStatus]:
            return [status for status in self.of(name) if status.state == f"TASK_{state}"]

        await self.until(found)
        return found()[-1]

    async def ended(self, name: str) -> TaskStatus:
        ends = ("FINISHED", "FAILED", "KILLED", "LOST", "GONE", "DROPPED", "ERROR")
        await self.until(lambda: any(state in ends for state in self.states(name)))
        return self.of(name)[-1]

    def has_exited(self, executor: str) -> bool:
        return any(
            call.executor_exited is not None and call.executor_exited.executor_id.value == executor
            for call in self.calls
        )


@dataclass
class Node:
    """One agent process and where its things are."""

    base: Path
    port: int
    cgroups: str
    flags: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        for name in ("configs", "plugins", "work", "net"):
            (self.base / name).mkdir()
        plugin = self.base / "plugins" / "own"
        plugin.write_text(PLUGIN.replace("BASE", str(self.base / "net")))
        plugin.chmod(0o755)
        config = {"cniVersion": "1.0.0", "name": "net", "type": "own"}
        (self.base / "configs" / "net.conf").write_text(json.dumps(config))

    @property
    def log(self) -> Path:
        return self.base / "agent.log"

    @property
    def runtime(self) -> Path:
        return self.base / "runtime"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, master: int) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                RUN,
                f"--master=127.0.0.1:{master}",
                "--ip=127.0.0.1",
                f"--port={self.port}",
                f"--work-dir={self.base / 'work'}",
                f"--runtime-dir={self.runtime}",
                f"--network-cni-config-dir={self.base / 'configs'}",
                f"--network-cni-plugins-dir={self.base / 'plugins'}",
                f"--cgroups-root={self.cgroups}",
                "--resources=cpus:4;mem:4096;ports:[31000-32000]",
                *self.flags,
                stderr=log,
            )

    async def end(self, number: int) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()

    def containers(self) -> list[str]:
        return sorted(path.name for path in (self.runtime / "containers").glob("*"))

    def sandbox(self, executor: str) -> Path:
        executors = self.base / "work" / "slaves" / AGENT.value / "frameworks" / FRAMEWORK.value
        found = (executors / "executors" / executor / "runs" / "latest").resolve(strict=True)
        return found

    async def emptied(self) -> None:
        """Wait until no container, network or checkpoint of a task is left."""
        meta = self.base / "work" / "meta" / "slaves" / AGENT.value
        networks = self.runtime / "isolators" / "network" / "cni"
        places = ((meta, "frameworks/*/executors/*"), (networks, "*"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            # Other processes remove them.
            while self.containers() or any(any(top.glob(text)) for top, text in places):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def call(self, kind: str, **parts: Any) -> tuple[int, Any]:
        """Make an operator call; return the status and what was answered."""
        body = {"type": kind, kind.lower(): parts}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/api/v1", json=body) as response,
        ):
            if response.content_type == "application/json" and response.status == 200:
                raw = await response.read()
                return response.status, json.loads(raw) if raw else None
            return response.status, await response.text()


def free_port() -> int:
    """Find a port that nobody listens on, where the kernel gives none to anybody else."""
    for port in random.Random().sample(range(20000, 30000), 50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path, free_port(), f"phxtest-{uuid4().hex[:8]}")
    try:
        yield made
    finally:
        if made.process is not None:
            await made.end(signal.SIGKILL)
        remove_all(made.runtime, made.cgroups)
        sys.stderr.write(made.log.read_text() if made.log.exists() else "")
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{made.cgroups}"))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and _names(pid, str(tmp_path))]


def _names(pid: str, text: str) -> bool:
    try:
        return text in Path("/proc", pid, "cmdline").read_text()
    except OSError:
        return False


@pytest.fixture
async def lead() -> AsyncIterator[Lead]:
    async with Lead().serve() as serving:
        yield serving


@pytest.fixture
async def up(lead: Lead, node: Node) -> Node:
    """An agent that has registered."""
    await node.start(lead.port)
    await lead.until(lambda: lead.subscribes)
    return node
