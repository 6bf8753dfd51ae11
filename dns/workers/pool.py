"""The plane's side of its workers: started, told, counted, and started anew when they end."""

import asyncio
import socket
import sys
from collections.abc import Callable, Collection, Sequence

import msgspec
import structlog

from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.tally import Tally, summed
from phalanx.dns.workers.message import (
    LENGTH,
    FromWorker,
    Probed,
    Route,
    Start,
    framed,
    parse_from_worker,
    publish_change,
    publish_whole,
)
from phalanx.dns.zones.ledger import HeldVips
from phalanx.net.model.view import Ref, View, view_delta

log = structlog.get_logger()

MAX_WORKERS = 64
SILENCE_SECONDS = 30.0  # longer than 100,000 names take to be built on a busy node
RETRY_SECONDS = (0.05, 5.0)  # first and longest wait before one that ended is started anew
WELL_SECONDS = 10.0  # one that lived for longer is started anew at once
END_SECONDS = 3.0  # for a worker to end by itself


class WorkerPool:
    """Keeps *count* processes that answer where ours does, and know what it knows.

    *start* makes what a worker is told first. A worker holds its own copy of
    the View, its own cache and connections, its own count of each client's
    queries; cookies' secrets, upstreams and found loops are everybody's.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[], Start],
        zones: ZoneTable,
        forwarder: Forwarder,
    ) -> None:
        self._count = count
        self._start = start
        self._zones = zones
        self._forwarder = forwarder
        self.silence_seconds = SILENCE_SECONDS  # of a worker, after which it is killed
        self._view: View | None = None
        self._held: HeldVips | None = None
        self._open: dict[int, tuple[asyncio.StreamWriter, Tally]] = {}  # by process id
        self._ended = Tally()
        if count:
            zones.published = self._publish
            forwarder.rerouted = self._route

    @property
    def pids(self) -> Sequence[int]:
        """Return the processes that have been heard of."""
        return tuple(pid for pid, (_, tally) in self._open.items() if tally is not _UNHEARD)

    def tallies(self) -> Sequence[Tally]:
        """Return what the workers counted, those that ended included."""
        return [self._ended, *(tally for _, tally in self._open.values())]

    async def run(self) -> None:
        """Keep the workers until cancelled; they end with us."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._keep())

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        wait = RETRY_SECONDS[0]
        while True:
            began = loop.time()
            try:
                await self._live()
            except OSError as error:
                log.error("dns_worker_not_started", error=str(error))
            if loop.time() - began > WELL_SECONDS:
                wait = RETRY_SECONDS[0]
            await asyncio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS[1])

    async def _live(self) -> None:
        """Start one worker and hear it to its end."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "phalanx.dns.workers.worker",
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                )
            except OSError:
                writer.close()
                raise
        self._open[process.pid] = (writer, _UNHEARD)
        try:
            self._greet(writer)
            await self._hear(process, reader)
        finally:
            _, tally = self._open.pop(process.pid)
            self._ended = summed([self._ended, tally]).ended()
            writer.close()
            await _end(process)

    def _greet(self, writer: asyncio.StreamWriter) -> None:
        start = msgspec.structs.replace(self._start(), awaits_view=self._view is not None)
        writer.write(framed(start))
        writer.write(framed(self._routes()))
        if self._view is not None:
            serial = self._zones.ledger.serial
            writer.write(framed(publish_whole(self._view, self._held, serial)))

    async def _hear(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader
    ) -> None:
        """Take what a worker says until it ends; one that says nothing for too long is killed."""
        pid = process.pid
        try:
            while message := await self._next(reader):
                if isinstance(message, Probed):
                    self._forwarder.is_own_probe(message.question)
                else:
                    self._open[pid] = (self._open[pid][0], message)
            log.warning("dns_worker_silent", pid=pid)
            process.kill()  # at once: what comes to its sockets waits for nobody
        except (EOFError, OSError, msgspec.DecodeError) as error:
            log.warning("dns_worker_ended", pid=pid, error=str(error))

    async def _next(self, reader: asyncio.StreamReader) -> FromWorker | None:
        """Return what a worker says next, None when it says nothing for too long."""
        reading = asyncio.ensure_future(_read(reader))
        try:
            for _turn in range(2):  # if it is we who stood still, the first time-out says nothing
                done, _ = await asyncio.wait({reading}, timeout=self.silence_seconds / 2)
                if done:
                    return parse_from_worker(await reading)
            return None
        finally:
            reading.cancel()

    def _publish(self, view: View, held: HeldVips | None, touched: Collection[Ref] | None) -> None:
        before, was_held = self._view, self._held
        self._view, self._held = view, held
        if not self._open:
            return
        serial = self._zones.ledger.serial
        if before is None:
            self._tell(framed(publish_whole(view, held, serial)))
            return
        if touched is None:
            upserts, removals = view_delta(before, view)
            touched = [*((each.kind, each.key) for each in upserts), *removals]
        is_held_new = held is not was_held and held != was_held
        change = publish_change(view, touched, held, serial, is_held_new=is_held_new)
        self._tell(framed(change))

    def _route(self) -> None:
        self._tell(framed(self._routes()))

    def _routes(self) -> Route:
        upstreams, zones = self._forwarder.asked_for
        return Route(upstreams, zones, tuple(map(str, self._forwarder.leading_back)))

    def _tell(self, message: bytes) -> None:
        for writer, _ in self._open.values():
            writer.write(message)


async def _read(reader: asyncio.StreamReader) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return await reader.readexactly(length)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Wait for a worker whose socket is closed; one that is stuck is killed."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


_UNHEARD = Tally()
