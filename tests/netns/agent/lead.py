"""A master's end of the agent protocol, for tests of an agent as a process."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import web

from phalanx.agent.namespace import open_socket
from phalanx.mesos.agent_protocol import (
    CALLS_PATH,
    PATH,
    STREAM_HEADER,
    AcknowledgeUpdate,
    AgentCall,
    AgentEvent,
    AgentSubscribe,
    AgentSubscribed,
    KillTask,
    RunTask,
)
from phalanx.mesos.recordio import RecordDecoder, encode_record
from phalanx.mesos.v1.codec import decode, encode, from_json
from phalanx.mesos.v1.mesos import (
    AgentID,
    Capability,
    FrameworkID,
    FrameworkInfo,
    TaskID,
    TaskInfo,
    TaskStatus,
)

FRAMEWORK = FrameworkID(value="fw-0000")
AGENT = AgentID(value="master-S0")
PATIENCE_SECONDS = 60.0


class Lead:
    """The master's end of the agent protocol: one agent, everything it says is kept."""

    def __init__(self) -> None:
        self.subscribes: list[AgentSubscribe] = []
        self.statuses: list[TaskStatus] = []
        self.calls: list[AgentCall] = []
        self.times: dict[tuple[str, str], float] = {}
        self.heartbeats = 0
        self.acknowledges = True
        self.changed = asyncio.Condition()
        self.port = 0
        self._stream: web.StreamResponse | None = None
        self._stream_id = ""

    @asynccontextmanager
    async def serve(self, network: Path | None = None) -> AsyncIterator["Lead"]:
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
            elif call.type == "HEARTBEAT":
                self.heartbeats += 1
            else:
                self.calls.append(call)
            self.changed.notify_all()

    async def tell(self, event: AgentEvent) -> None:
        assert self._stream is not None
        await self._stream.write(encode_record(encode(event)))

    async def say(self, kind: str, **parts: Any) -> None:
        """Send an event given as JSON."""
        await self.tell(from_json(AgentEvent, {"type": kind, kind.lower(): parts}))

    def forget_stream(self) -> None:
        """Know the agent's stream no more, as a master that was started anew."""
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
        """Wait for a state, spelled with or without ``TASK_``."""
        wanted = f"TASK_{state.removeprefix('TASK_')}"

        def found() -> list[TaskStatus]:
            return [status for status in self.of(name) if status.state == wanted]

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
