"""Starts supervisors: one small process forks them all, cheaper than a program for each."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress

from phalanx.agent.exec import open_spawner
from phalanx.core.error import ContainerError


class Spawner:
    """The forking process, started when it is first needed, and again should it have ended.

    Supervisors outlive it, as it outlives nobody: it ends when the agent does.
    """

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._last = 0
        self._starting = asyncio.Lock()

    @property
    def is_running(self) -> bool:
        """Tell whether there is such a process."""
        return self._process is not None and self._process.returncode is None

    async def supervise(self, arguments: Sequence[str], *, timeout_seconds: float) -> bytes:
        """Start a supervisor and return what it reports; raise TimeoutError, ContainerError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_seconds):
            writer = await self._writer()
            self._last += 1
            number = self._last
            answer: asyncio.Future[bytes] = loop.create_future()
            self._waiting[number] = answer
            try:
                writer.write(json.dumps([number, *arguments]).encode() + b"\n")
                await writer.drain()
                return await answer
            except ConnectionError as error:
                raise ContainerError("supervisor: could not be started") from error
            finally:
                self._waiting.pop(number, None)

    async def _writer(self) -> asyncio.StreamWriter:
        async with self._starting:
            process = self._process
            if process is None or process.returncode is not None:
                await self.close()
                process = self._process = await open_spawner()
                self._reading = asyncio.create_task(self._read(process))
            if process.stdin is None:
                raise ContainerError("supervisor: could not be started")
            return process.stdin

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Hand each report to whoever waits for it; fail them all at the end."""
        while process.stdout is not None and (line := await process.stdout.readline()):
            number, _, told = line.partition(b" ")
            answer = self._waiting.get(int(number))
            if answer is not None and not answer.done():
                answer.set_result(told)
        await process.wait()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ContainerError("supervisor: could not be started"))

    async def close(self) -> None:
        """End the process; supervisors go on."""
        process, reading = self._process, self._reading
        self._process = self._reading = None
        if process is None or reading is None:
            return
        if process.stdin is not None:
            process.stdin.close()
            with suppress(ConnectionError):
                await process.stdin.wait_closed()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await process.wait()
