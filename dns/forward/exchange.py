"""One exchange with one upstream: a fresh socket, so a fresh random source port, each time."""

import asyncio
import socket
import struct
from collections.abc import Callable

from phalanx.core.config import HostPort
from phalanx.dns.forward.message import Key, UpstreamReply, parse_reply, render_query

MAX_MESSAGE_BYTES = 65535

_LENGTH = struct.Struct("!H")


class Exchange:
    """Asks over UDP, and again over TCP when the answer was cut; says once how it ended.

    *ended* gets the answer, or a word for why there is none: ``timeout``, or
    ``unreachable`` when the upstream can't be reached or hangs up. Nothing is
    awaited for a datagram: most lookups are no more than that.
    """

    def __init__(
        self,
        upstream: HostPort,
        key: Key,
        id_: int,
        *,
        seconds: float,
        ended: Callable[[UpstreamReply | str], None],
    ) -> None:
        self._upstream = upstream
        self._key = key
        self._id = id_
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._end, "timeout")
        self._connection: asyncio.Task[None] | None = None
        self._is_over = False
        # A connected socket hears only the upstream; the rest is checked.
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._sock.connect((upstream.host, upstream.port))
            self._sock.send(render_query(key, id_))
        except OSError:
            self._loop.call_soon(self._end, "unreachable")
        else:
            self._loop.add_reader(self._sock, self._read)

    def abandon(self) -> None:
        """End without a word."""
        if not self._is_over:
            self._is_over = True
            self._timer.cancel()
            self._close()
            if self._connection is not None:
                self._connection.cancel()

    def _read(self) -> None:
        try:
            message = self._sock.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error
            self._end("unreachable")
            return
        reply = parse_reply(message, self._key, self._id)
        if reply is None:
            return
        if reply.is_truncated:
            self._close()
            self._connection = self._loop.create_task(self._ask_again())
        else:
            self._end(reply)

    async def _ask_again(self) -> None:
        result: UpstreamReply | str
        try:
            result = await _exchange_tcp(self._upstream, self._key, self._id)
        except (OSError, EOFError):
            result = "unreachable"
        self._connection = None
        self._end(result)

    def _end(self, result: UpstreamReply | str) -> None:
        if not self._is_over:
            self.abandon()
            self._ended(result)

    def _close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()


async def _exchange_tcp(upstream: HostPort, key: Key, id_: int) -> UpstreamReply:
    reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
    try:
        message = render_query(key, id_)
        writer.write(_LENGTH.pack(len(message)) + message)
        while True:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            reply = parse_reply(await reader.readexactly(length), key, id_)
            if reply is not None:
                return reply
    finally:
        writer.close()
