"""Sockets to one upstream: ports of the kernel's choice, drawn anew again and again (RFC 5452)."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from phalanx.core.config import HostPort
from phalanx.dns.batch import PeerBatch
from phalanx.dns.forward.upstream import NEW

PORTS = 8  # that the queries of one moment choose from, at random
USES = 128  # of one port, after which another takes its place
LIFE_SECONDS = 2.0  # likewise
MAX_RETIRED = 32  # ports that still wait for late answers
MAIL_SLOTS = 32  # datagrams of one system call

Asker = TypeVar("Asker")

_IDS = struct.Struct("2s" * 256)


# One question on its way: who asks, since when, until when; both of the caller's clocks.
Asked = tuple[Asker, float, float]
Pending = dict[bytes, Asked[Asker]]  # by id, in the order of their ends


class _Port(Generic[Asker]):
    def __init__(self, sock: socket.socket, until: float) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.until = until
        self.left = USES
        self.pending: Pending[Asker] = {}


class Draws:
    """Random numbers and ids: a generator of the kernel's is asked for many at once."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._left: list[int] = []
        self._ids: list[bytes] = []

    def next(self) -> int:
        """Return 32 random bits."""
        if not self._left:
            many = self._rng.getrandbits(32 * 256).to_bytes(4 * 256, "big")
            self._left = memoryview(many).cast("I").tolist()
        return self._left.pop()

    def id(self) -> bytes:
        """Return two random bytes."""
        ids = self._ids
        if not ids:
            ids += _IDS.unpack(self._rng.getrandbits(8 * _IDS.size).to_bytes(_IDS.size, "big"))
        return ids.pop()


class Ports(Generic[Asker]):
    """Asks one upstream over UDP; each question has a random id and a random port of several.

    The questions of one moment leave together, by one port.
    *heard* gets the messages that came to a port, and the questions under way
    on it, from which it takes those that are answered. *failed* gets the
    questions that came to nothing, and ``timeout`` or ``unreachable``. A
    connected socket hears nobody but the upstream.
    """

    def __init__(
        self,
        upstream: HostPort,
        draws: Draws,
        mail: PeerBatch,
        *,
        heard: Callable[["Ports[Asker]", Pending[Asker], Sequence[bytes]], None],
        failed: Callable[["Ports[Asker]", Asked[Asker], str], None],
    ) -> None:
        self.upstream = upstream
        self.standing = NEW  # what we remember of it
        self._draws = draws
        self._draw_id = draws.id
        self._mail = mail
        self._heard = heard
        self._failed = failed
        self._loop = asyncio.get_running_loop()  # to ask for it is a system call
        self._open: list[_Port[Asker] | None] = [None] * PORTS
        self._retired: list[_Port[Asker]] = []
        self._leaving: _Port[Asker] | None = None  # by which the questions of this moment go
        self._messages: list[bytes] = []  # they themselves

    @property
    def is_waiting(self) -> bool:
        """Tell whether any question is under way."""
        return any(port.pending for port in self._all())

    def ask(self, rest: bytes, asked: Asked[Asker], now: float) -> None:
        """Send the query whose bytes behind the id are *rest*; *now* is of the loop's clock.

        It leaves with the others of this moment. Raises OSError when there is no way to the
        upstream.
        """
        port = self._leaving
        while port is None or not port.left:
            self._send()
            port = self._leaving  # whoever was told of a failure may have asked anew meanwhile
            if port is None:
                port = self._leaving = self._drawn(now)
                self._loop.call_soon(self._send)
        port.left -= 1
        pending = port.pending
        id_ = self._draw_id()
        while id_ in pending:
            id_ = self._draw_id()
        pending[id_] = asked
        self._messages.append(id_ + rest)

    def _send(self) -> None:
        port, self._leaving = self._leaving, None
        if port is None:
            return
        messages, self._messages = self._messages, []
        for number in self._mail.send_messages(port.fd, messages):
            asked = port.pending.pop(messages[number][:2], None)
            if asked is not None:
                self._failed(self, asked, "unreachable")

    def _drawn(self, now: float) -> _Port[Asker]:
        number = self._draws.next() % PORTS
        port = self._open[number]
        if port is None or not port.left or now >= port.until:
            port = self._drawn_anew(number, now)
        return port

    def expire(self, now: float) -> None:
        """Fail the questions whose time is over at *now*, by the clock of their ``until``."""
        for port in self._all():
            over = []
            for id_, (_, __, until) in port.pending.items():
                if until > now:
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
        self._leaving = None
        self._messages = []

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
        try:
            messages = self._mail.messages(port.fd)
        except OSError:  # an ICMP error: nobody is there
            while pending:
                self._failed(self, pending.popitem()[1], "unreachable")
            return
        self._heard(self, pending, messages)

    def _close_port(self, port: _Port[Asker]) -> None:
        if port.sock.fileno() >= 0:
            self._loop.remove_reader(port.sock)
            port.sock.close()
