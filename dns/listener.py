"""The UDP side of one address: read many, answer many, be fair when it is too many."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from phalanx.dns.answer.ready import Ready
from phalanx.dns.backlog import Backlog
from phalanx.dns.batch import Batch, Datagram

BATCH = 64  # datagrams of one system call, and answered before the rest of the process runs
MAX_READS = 16  # batches read in one wakeup while more waits in the kernel
LAST_READS = 64  # batches answered at the end: more than the kernel's buffer holds
RECEIVE_BUFFER_BYTES = 1 << 20  # some 2,700 datagrams: a wait of about 20 ms behind a flood

Serve = Callable[[list[Datagram], "Listener", bool], list[Datagram]]  # are all of them new?
ReadyReplies = tuple[Mapping[bytes, Ready], Mapping[bytes, Ready]]  # those without end come first


class Listener:
    """Hands datagrams to *serve* and sends what it returns.

    Those that *ready* has a reply to need no serving; it returns None while
    each datagram is to be looked at.

    As long as one batch holds all that waits, that is all. When it does not,
    everything is read at once and answered in fair turns (see Backlog): the
    kernel's buffer drops what comes last, whoever sent it.
    """

    def __init__(
        self,
        sock: socket.socket,
        serve: Serve,
        ready: Callable[[], ReadyReplies | None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sock = sock
        self._fd = sock.fileno()
        self._serve = serve
        self._ready = ready
        self.backlog = Backlog()  # of this socket: a reply leaves from where its query came to
        self._clock = clock
        self._inbox, self._outbox = (Batch(sock.family, BATCH) for _ in range(2))
        self._late: list[Datagram] = []  # replies that came after their batch
        self._loop = asyncio.get_running_loop()
        self._is_catching_up = False
        self._is_closed = False
        self._loop.add_reader(sock, self._drain)

    def close(self) -> None:
        """Answer what waits, as far as it is known at once, and close the socket.

        What a flood brings meanwhile goes unanswered: it would never end.
        One that was closed under us is left: its number may be another's by now.
        """
        self._loop.remove_reader(self._fd)
        self._is_closed = self.sock.fileno() < 0
        if self._is_closed:
            return
        for _ in range(LAST_READS):
            count = self._inbox.receive(self._fd)
            if not count:
                break
            waiting = self._inbox.datagrams(range(count))
            self._outbox.send(self._fd, self._serve(waiting, self, False))
        while self.backlog:
            turn = self.backlog.take(BATCH, self._clock())
            self._outbox.send(self._fd, self._serve(turn, self, False))
        self._is_closed = True
        self.sock.close()

    def send_late(self, peer: bytes, reply: bytes) -> None:
        """Send a reply that took asking; those of one moment go together."""
        if not self._late:
            self._loop.call_soon(self._flush)
        self._late.append((reply, peer))

    def _flush(self) -> None:
        late, self._late = self._late, []
        if not self._is_closed:
            self._outbox.send(self._fd, late)

    def _drain(self) -> None:
        count = self._inbox.receive(self._fd)
        if count < BATCH and not self._is_catching_up:
            self._answer(count)
            return
        self._put_aside(count)
        if not self._is_catching_up:
            self._is_catching_up = True
            self._catch_up()

    def _answer(self, count: int) -> None:
        """Answer what was received, in its place where the reply is ready."""
        inbox, ready = self._inbox, self._ready()
        left: Sequence[int] = range(count)
        if ready is not None:
            usual, recent = ready
            left = inbox.reply(count, usual, recent, self._clock() if recent else 0.0)
            waiting = inbox.datagrams(left)
            inbox.send_back(self._fd, count, left)
        else:
            waiting = inbox.datagrams(left)
        if waiting:
            replies = self._serve(waiting, self, ready is not None)
            if replies:
                self._outbox.send(self._fd, replies)

    def _put_aside(self, count: int) -> None:
        """Read on until nothing waits in the kernel."""
        backlog, now = self.backlog, self._clock()
        for _ in range(MAX_READS):
            backlog.put(self._inbox.datagrams(range(count)), now)
            if count < BATCH:
                return
            count = self._inbox.receive(self._fd)

    def _catch_up(self) -> None:
        """Answer one batch of those put aside, and come again while there are more."""
        if self._is_closed:
            return
        turn = self.backlog.take(BATCH, self._clock())
        self._outbox.send(self._fd, self._serve(turn, self, False))
        self._is_catching_up = bool(self.backlog)
        if self._is_catching_up:
            self._loop.call_soon(self._catch_up)
