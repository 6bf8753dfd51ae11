"""Sends updates until they are acknowledged (reference mesos §4.5)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from phalanx.agent.task.log import UpdateRecord, append
from phalanx.agent.task.stream import Stream, latest_state, retry_seconds
from phalanx.core.error import UnavailableError
from phalanx.mesos.agent_protocol import AgentUpdate
from phalanx.mesos.v1.mesos import FrameworkID, TaskStatus

log = structlog.get_logger()

Key = tuple[str, str]  # framework id, task id
Send = Callable[[AgentUpdate], Awaitable[None]]


@dataclass(slots=True)
class _Line:
    """One task's stream with its file and its timer."""

    file: Path
    stream: Stream
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    attempt: int = 0
    timer: asyncio.TimerHandle | None = None


class UpdateSender:
    """Every task's updates on their way to the master.

    *send* raises UnavailableError when there is no master to send to; the
    update then waits for the next ``resume``. *done* is called when a task's
    last update has been acknowledged.
    """

    def __init__(self, send: Send, done: Callable[[Key], None]) -> None:
        self._send = send
        self._done = done
        self._lines: dict[Key, _Line] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._is_connected = False

    def open(self, key: Key, file: Path, stream: Stream) -> None:
        """Begin with a task, new or recovered."""
        self._lines[key] = _Line(file, stream)

    def stream(self, key: Key) -> Stream:
        """Return what is known of a task's updates."""
        line = self._lines.get(key)
        return line.stream if line else Stream()

    async def add(self, key: Key, status: TaskStatus) -> None:
        """Take a new update: onto the disk first, then out; nothing comes after a terminal one."""
        line = self._lines.get(key)
        if line is None:
            return
        async with line.lock:
            if line.stream.is_terminated:
                return
            record = UpdateRecord(type="UPDATE", update=status)
            await asyncio.to_thread(append, line.file, record)
            line.stream = line.stream.with_update(status)
            if line.stream.outstanding is status:
                self._start(key, line)

    async def acknowledge(self, key: Key, uuid: bytes) -> None:
        """Take an acknowledgement; one that is late or for nobody is ignored."""
        line = self._lines.get(key)
        if line is None:
            return
        async with line.lock:
            after = line.stream.with_acknowledgement(uuid)
            if after is line.stream:
                log.info("acknowledgement_ignored", task=key[1])
                return
            record = UpdateRecord(type="ACK", uuid=uuid)
            await asyncio.to_thread(append, line.file, record)
            line.stream = after
            if after.is_done:
                self._stop(line)
                del self._lines[key]
                self._done(key)
            else:
                self._start(key, line)

    def resume(self) -> None:
        """Send every outstanding update again: there is a new stream to a master."""
        self._is_connected = True
        for key, line in self._lines.items():
            self._start(key, line)

    def pause(self) -> None:
        """Wait for ``resume``: there is no master."""
        self._is_connected = False
        for line in self._lines.values():
            self._stop(line)

    async def close(self) -> None:
        """Stop sending; what is not acknowledged is on disk."""
        self.pause()
        for task in tuple(self._sending):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def waiting(self) -> Iterator[Key]:
        """Yield the tasks that have an update outstanding."""
        return (key for key, line in self._lines.items() if line.stream.outstanding)

    def _start(self, key: Key, line: _Line) -> None:
        """Send the outstanding update for the first time on this stream."""
        self._stop(line)
        line.attempt = 0
        self._fire(key, line)

    @staticmethod
    def _stop(line: _Line) -> None:
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None

    def _fire(self, key: Key, line: _Line) -> None:
        status = line.stream.outstanding
        if status is None or not self._is_connected:
            return
        loop = asyncio.get_running_loop()
        line.timer = loop.call_later(retry_seconds(line.attempt), self._fire, key, line)
        line.attempt += 1
        update = AgentUpdate(
            framework_id=FrameworkID(value=key[0]),
            status=status,
            latest_state=latest_state(line.stream),
        )
        task = loop.create_task(self._forward(update))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _forward(self, update: AgentUpdate) -> None:
        try:
            await self._send(update)
        except UnavailableError as error:
            log.info("update_not_sent", task=update.status.task_id.value, error=str(error))
