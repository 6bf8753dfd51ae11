"""Sockets to one upstream: ports of the kernel's choice, drawn anew again and again (RFC 5452)."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from phalanx.core.config import HostPort

PORTS = 8  # that queries choose from, at random
USES = 128  # of one port, after which another takes its place
LIFE_SECONDS = 2.0  # likewise
MAX_RETIRED = 32  # ports that still wait for late answers
MAX_MESSAGE_BYTES = 4096  # of a datagram; we tell upstreams that 1232 will do

Asker = TypeVar("Asker")

_ID = struct.Struct("!H")


class Asked(NamedTuple, Generic[Asker]):
    """One question on its way: who asks, since when, until when; both of the caller's clocks."""

    asker: Asker
    since: float
    until: float


class _Port(Generic[Asker]):
    def __init__(self, sock: socket.socket, until: float) -> None:
        self.sock = sock
        self.until = until
        self.left = USES
        self.pending: dict[int, Asked[Asker]] = {}


class Draws:
    """Random numbers of 32 bits: a generator of the kernel's is asked for many at once."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._left: list[int] = []

    def next(self) -> int:
        """Return the next one."""
        if not self._left:
            many = self._rng.getrandbits(32 * 256).to_bytes(4 * 256, "big")
            self._left = memoryview(many).cast("I").tolist()
        return self._left.pop()


class Ports(Generic[Asker]):
    """Asks one upstream over UDP; each question has a random id and a random port of several.

    *heard* gets each message that carries the id of a question under way on
    the port it came to, and tells whether it is the answer. *failed* gets the
    questions that came to nothing, and ``timeout`` or ``unreachable``. A
    connected socket hears nobody but the upstream.
    """

    def __init__(
        self,
        upstream: HostPort,
        draws: Draws,
        *,
        heard: Callable[["Ports[Asker]", Asked[Asker], bytes], bool],
        failed: Callable[["Ports[Asker]", Asked[Asker], str], None],
    ) -> None:
        self.upstream = upstream
        self._draws = draws
        self._heard = heard
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._open: list[_Port[Asker] | None] = [None] * PORTS
        self._retired: list[_Port[Asker]] = []

    @property
    def is_waiting(self) -> bool:
        """Tell whether any question is under way."""
        return any(port.pending for port in self._all())

    def ask(self, rest: bytes, asked: Asked[Asker], now: float) -> None:
        """Send the query whose bytes behind the id are *rest*; *now* is of the loop's clock.

        Raises OSError when the upstream can't be reached.
        """
        draw = self._draws.next()
        number = (draw >> 16) % PORTS
        port = self._open[number]
        if port is None or not port.left or now >= port.until:
            port = self._drawn_anew(number, now)
        port.left -= 1
        id_ = draw & 0xFFFF
        while id_ in port.pending:
            id_ = self._draws.next() & 0xFFFF
        port.sock.send(_ID.pack(id_) + rest)
        port.pending[id_] = asked

    def expire(self, now: float) -> None:
        """Fail the questions whose time is over at *now*, by the clock of their ``until``."""
        for port in self._all():
            over = []
            for id_, asked in port.pending.items():
                if asked.until > now:
                    break  # they stand in the order of their times
                over.append(id_)
            for id_ in over:
                self._failed(self, port.pending.pop(id_), "timeout")
        for port in [each for each in self._retired if not each.pending]:
            self._retired.remove(port)
            self._close_port(port)

    def close(self) -> None:
        """Forget every question, without a word."""
        for port in self._all():
            port.pending.clear()
            self._close_port(port)
        self._open = [None] * PORTS
        self._retired.clear()

    def _all(self) -> list[_Port[Asker]]:
        return [*(port for port in self._open if port is not None), *self._retired]

    def _drawn_anew(self, number: int, now: float) -> _Port[Asker]:
        self._retire(number)
        family = socket.AF_INET6 if ":" in self.upstream.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect((self.upstream.host, self.upstream.port))
        except OSError:
            sock.close()
            raise
        port = self._open[number] = _Port[Asker](sock, now + LIFE_SECONDS)
        self._loop.add_reader(sock, self._read, port)
        return port

    def _retire(self, number: int) -> None:
        port, self._open[number] = self._open[number], None
        if port is None:
            return
        if not port.pending:
            self._close_port(port)
            return
        self._retired.append(port)
        if len(self._retired) > MAX_RETIRED:
            oldest = self._retired.pop(0)
            for asked in oldest.pending.values():
                self._loop.call_soon(self._failed, self, asked, "timeout")
            self._close_port(oldest)

    def _read(self, port: _Port[Asker]) -> None:
        pending = port.pending
        while True:
            try:
                message = port.sock.recv(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error: nobody is there
                while pending:
                    self._failed(self, pending.popitem()[1], "unreachable")
                return
            if len(message) >= _ID.size:
                id_ = message[0] << 8 | message[1]
                asked = pending.get(id_)
                if asked is not None and self._heard(self, asked, message):
                    pending.pop(id_, None)
            if not pending:
                return

    def _close_port(self, port: _Port[Asker]) -> None:
        if port.sock.fileno() >= 0:
            self._loop.remove_reader(port.sock)
            port.sock.close()
