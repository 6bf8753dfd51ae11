"""The TCP side: connections, how many there may be, and what is said on one (RFC 7766)."""

import asyncio
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from phalanx.dns.admission import Admission, Verdict, packed_address
from phalanx.dns.answer.cookie import Cookies
from phalanx.dns.answer.query import KEEPALIVE, Query
from phalanx.dns.answer.reply import MAX_TCP_BYTES
from phalanx.dns.answer.transfer import Transfer
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.querylog import QueryLog

MAX_CONNECTIONS = 256
MAX_CONNECTIONS_OF_ONE = 32  # so that one client that holds them open leaves room for others
MAX_LOOKUPS_OF_ONE = 64  # under way on one connection; it is not read from meanwhile
IDLE_SECONDS = 10.0
PATIENCE_SECONDS = 2.0  # of silence that a connection may allow itself when there is no room left

_LENGTH = struct.Struct("!H")
_TIMEOUT = struct.Struct("!HHH")  # code, length, tenths of a second


class Streams:
    """Answers on the connections that it accepts, until it is closed.

    A connection may carry several queries at once; replies come in the order
    in which they are known (RFC 7766 §6.2.1.1).
    """

    def __init__(
        self,
        zones: ZoneTable,
        forwarder: Forwarder,
        *,
        admission: Admission,
        cookies: Cookies,
        query_log: QueryLog,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        max_connections: int = MAX_CONNECTIONS,
        max_connections_of_one: int = MAX_CONNECTIONS_OF_ONE,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._zones = zones
        self._forwarder = forwarder
        self._admission = admission
        self._cookies = cookies
        self._query_log = query_log
        self._wall_clock = wall_clock
        self._max_connections = max_connections
        self._max_connections_of_one = max_connections_of_one
        self._idle_seconds = idle_seconds
        self._clock = clock
        # Whose each is and when it last said something whole; who did so last comes last.
        self._open: dict[asyncio.Task[None], tuple[bytes, float]] = {}

    def __len__(self) -> int:
        """Return how many connections are open."""
        return len(self._open)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends, or close it at once when there is no room for it."""
        task = asyncio.current_task()
        client = _address_of(writer)
        if task is None or not self._has_room_for(client):
            writer.close()
            return
        self._open[task] = (client, self._clock())
        try:
            # Whoever cancels this task is ourselves; asyncio would log each one as a failure.
            with suppress(asyncio.CancelledError):
                async with asyncio.TaskGroup() as group:
                    with suppress(OSError, EOFError, TimeoutError):  # the client left, or is silent
                        await self._converse(reader, writer, group, client)
        finally:
            self._open.pop(task, None)
            writer.close()

    async def close(self) -> None:
        """End every connection."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _has_room_for(self, client: bytes) -> bool:
        held = sum(other == client for other, _ in self._open.values())
        if held >= self._max_connections_of_one:
            return False
        return len(self._open) < self._max_connections or self._make_room()

    def _make_room(self) -> bool:
        """End the connection that has been silent for longest, if that is long; tell whether."""
        task, (_, since) = next(iter(self._open.items()))
        if self._clock() - since < PATIENCE_SECONDS:
            return False
        del self._open[task]
        task.cancel()
        return True

    def _has_spoken(self, client: bytes) -> None:
        task = asyncio.current_task()
        if task is not None and self._open.pop(task, None) is not None:
            self._open[task] = (client, self._clock())

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        group: asyncio.TaskGroup,
        client: bytes,
    ) -> None:
        """Answer the queries of one connection until it ends or is idle for too long."""
        may_ask = self._admission.may_ask(client)
        may_transfer = self._admission.may_transfer(client)
        room = asyncio.Semaphore(MAX_LOOKUPS_OF_ONE)
        while True:
            async with asyncio.timeout(self._idle_seconds):
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                message = await reader.readexactly(length)
                await writer.drain()
            self._has_spoken(client)
            reply: bytes | Query | Transfer | None
            if may_ask:
                reply = self._reply(message, client, may_transfer=may_transfer)
            else:
                reply = self._zones.answers.turn_away(message, Verdict.REFUSE)
            known = reply if isinstance(reply, bytes) else None
            self._query_log.note_stream(message, client, known)
            if isinstance(reply, Query):
                await room.acquire()
                group.create_task(self._look_up(reply, writer, room, client))
            elif isinstance(reply, Transfer):
                await self._transfer(reply, writer)
            elif reply is not None:
                writer.write(_LENGTH.pack(len(reply)) + reply)

    def _reply(
        self, message: bytes, client: bytes, *, may_transfer: bool
    ) -> bytes | Query | Transfer | None:
        """Return the reply, or the query for others with the options that its reply carries."""
        table = self._zones.answers
        query = table.reply_tcp(message, may_transfer=may_transfer)
        if not isinstance(query, Query) or query.edns is None:
            return query
        if query.edns.wants_keepalive:
            query = query._replace(edns=query.edns._replace(echo=self._keepalive()))
        if query.edns is not None and query.edns.cookie:
            shown = self._cookies.shown(query, client, self._wall_clock())
            return table.reply_shown(shown, MAX_TCP_BYTES, may_transfer=may_transfer)
        return table.reply_query(query, MAX_TCP_BYTES, may_transfer=may_transfer)

    def _keepalive(self) -> bytes:
        """Return the option that says how long a connection may be idle (RFC 7828 §3.1)."""
        return _TIMEOUT.pack(KEEPALIVE, 2, min(int(self._idle_seconds * 10), 0xFFFF))

    async def _look_up(
        self, query: Query, writer: asyncio.StreamWriter, room: asyncio.Semaphore, client: bytes
    ) -> None:
        try:
            reply = await self._forwarder.resolve(query, MAX_TCP_BYTES, client)
        finally:
            room.release()
        writer.write(_LENGTH.pack(len(reply)) + reply)

    async def _transfer(self, transfer: Transfer, writer: asyncio.StreamWriter) -> None:
        """Send a whole zone, as fast as the client takes it; a client that stalls is left."""
        for message in transfer.messages():
            writer.write(_LENGTH.pack(len(message)) + message)
            async with asyncio.timeout(self._idle_seconds):
                await writer.drain()
            await asyncio.sleep(0)


def _address_of(writer: asyncio.StreamWriter) -> bytes:
    peer = writer.get_extra_info("peername")  # None for a client that has left already
    return packed_address(peer[0]) if peer else b""
