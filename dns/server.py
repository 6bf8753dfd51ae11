"""The server: datagrams and connections in, replies out."""

import asyncio
import errno
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from enum import Enum
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.core.service import SocketStore
from phalanx.dns.admission import OPEN, Admission, Verdict
from phalanx.dns.answer.cookie import Cookies, new_secret
from phalanx.dns.answer.query import CLASSIC_BYTES, Query, parse_query
from phalanx.dns.answer.reply import udp_room
from phalanx.dns.answer.transfer import Transfer
from phalanx.dns.batch import Datagram, packed_of
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.listener import RECEIVE_BUFFER_BYTES, Listener, ReadyReplies
from phalanx.dns.publish import ZoneTable
from phalanx.dns.querylog import QueryLog
from phalanx.dns.stream import (
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_OF_ONE,
    Streams,
)
from phalanx.dns.watchdog import answers, answers_tcp

log = structlog.get_logger()

PORT = 53
WATCH_SECONDS = 5.0  # between two questions to ourselves, and until one has failed

LET_GO_SECONDS = (0.01, 0.05, 0.2, 0.8)  # between tries to open a place anew that is still taken

_SO_RCVBUFFORCE = 33  # goes past net.core.rmem_max, for root
_COOKIE_START = b"\0\x0a\0"  # code and upper byte of the length of an EDNS option


class Sharing(Enum):
    """Whose a place to answer at is (SO_REUSEPORT, socket(7))."""

    ALONE = "alone"
    FIRST = "first"  # nobody else's when it is opened; others of this user may join then
    JOINS = "joins"


class DnsServer:
    """Answers on every address over UDP and TCP while its context lasts.

    Datagrams about zones of ours are answered together with those that came
    with them. A name of others is the forwarder's. Who joins another process
    leaves it to that one to find upstreams that lead back.
    """

    def __init__(
        self,
        zones: ZoneTable,
        forwarder: Forwarder,
        *,
        addresses: Sequence[str],
        port: int = PORT,
        admission: Admission = OPEN,
        cookies: Cookies | None = None,
        query_log: QueryLog | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        store: SocketStore | None = None,
        sharing: Sharing = Sharing.ALONE,
        watch_seconds: float = WATCH_SECONDS,
        max_connections: int = MAX_CONNECTIONS,
        max_connections_of_one: int = MAX_CONNECTIONS_OF_ONE,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._zones = zones
        self._forwarder = forwarder
        self._addresses = addresses
        self._port = port
        self._admission = admission
        self._query_log = query_log or QueryLog()
        self._looks_at_none = admission.is_open and self._query_log.is_off
        self._cookies = cookies or Cookies(new_secret())
        self._clock = clock
        self._wall_clock = wall_clock
        self._streams = Streams(
            zones,
            forwarder,
            admission=admission,
            cookies=self._cookies,
            query_log=self._query_log,
            clock=clock,
            wall_clock=wall_clock,
            max_connections=max_connections,
            max_connections_of_one=max_connections_of_one,
            idle_seconds=idle_seconds,
        )
        self._store = store
        self._sharing = sharing
        self._watch_seconds = watch_seconds
        self._dropped = 0  # by listeners that are closed
        self.turned_away: Counter[str] = Counter()
        self.restarts = 0  # of listeners that did not answer us
        self._listeners: dict[HostPort, Listener] = {}
        self._acceptors: dict[HostPort, asyncio.Server] = {}
        self._stack = AsyncExitStack()
        self.listening: Sequence[HostPort] = ()

    async def __aenter__(self) -> Self:
        """Bind everything; raises ConfigError naming the address that can't be bound."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._forwarder.close)
            stack.push_async_callback(self._streams.close)
            self.listening = [await self._bind(stack, address) for address in self._addresses]
            self._forwarder.check_no_loop(self.listening)
            if self._store is not None:
                self._store.forget_rest()
            loop = asyncio.get_running_loop()
            watches = [self._watch_listeners()]
            if self._sharing is not Sharing.JOINS:
                watches.append(self._forwarder.watch_loops())
            for watch in watches:
                stack.callback(loop.create_task(watch).cancel)
            self._stack = stack.pop_all()
        log.info("listening", on=[str(place) for place in self.listening], protocol="dns")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close sockets and connections; lookups under way end unanswered."""
        await self._stack.aclose()

    async def _bind(self, stack: AsyncExitStack, address: str) -> HostPort:
        """Open the UDP socket and the TCP listener of one address, on one port."""
        try:
            stream = self._opened(socket.SOCK_STREAM, address, self._port)
            port: int = stream.getsockname()[1]
            place = HostPort(address, port)
            stack.callback(self._close_listener, place)
            await self._accept(place, stream)
            self._listen(place)
        except OSError as error:
            raise ConfigError(
                f"dns: listen: {address}:{self._port}: {error.strerror or error}{_hint(error)}"
            ) from error
        return place

    async def _accept(self, place: HostPort, stream: socket.socket) -> None:
        self._acceptors[place] = await asyncio.start_server(self._streams.accept, sock=stream)

    def _listen(self, place: HostPort) -> None:
        sock = self._opened(socket.SOCK_DGRAM, place.host, place.port)
        self._listeners[place] = Listener(sock, self._serve, self._ready, clock=self._clock)

    def _opened(self, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
        """Return the socket that the process before us left, or a new one."""
        found = None if self._store is None else self._store.take(kind, address, port)
        if found is None:
            found = _open(kind, address, port, joins=self._sharing is Sharing.JOINS)
            if self._store is not None:
                self._store.keep(found)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, self._sharing is not Sharing.ALONE)
        return found

    async def _watch_listeners(self) -> None:
        """Ask ourselves now and then; open a listener anew that fails twice in a row."""
        seconds = self._watch_seconds
        failed: Counter[tuple[str, HostPort]] = Counter()
        watched = (("udp", answers, self._restart_udp), ("tcp", answers_tcp, self._restart_tcp))
        while True:
            await asyncio.sleep(seconds)
            for place in self.listening:
                for protocol, is_well, restart in watched:
                    if await is_well(place, seconds):
                        failed.pop((protocol, place), None)
                        continue
                    failed[protocol, place] += 1
                    if failed[protocol, place] > 1:
                        self.restarts += 1
                        log.warning("listener_restarted", on=str(place), protocol=protocol)
                        try:
                            await _again_while_taken(partial(restart, place))
                        except OSError as error:
                            log.error("listener_not_restarted", on=str(place), error=str(error))

    def _close_listener(self, place: HostPort) -> None:
        if place in self._acceptors:
            self._acceptors.pop(place).close()
        self._close_udp(place)

    def _close_udp(self, place: HostPort) -> None:
        if place in self._listeners:
            listener = self._listeners.pop(place)
            listener.close()
            self._dropped += listener.backlog.dropped

    async def _restart_udp(self, place: HostPort) -> None:
        if self._store is not None and place in self._listeners:
            self._store.forget(socket.SOCK_DGRAM, place.host, place.port)
        self._close_udp(place)
        self._join()
        self._listen(place)

    async def _restart_tcp(self, place: HostPort) -> None:
        if place in self._acceptors:
            if self._store is not None:
                self._store.forget(socket.SOCK_STREAM, place.host, place.port)
            self._acceptors.pop(place).close()
        self._join()
        stream = self._opened(socket.SOCK_STREAM, place.host, place.port)
        await self._accept(place, stream)

    def _join(self) -> None:
        if self._sharing is Sharing.FIRST:
            self._sharing = Sharing.JOINS  # those who joined us are there

    def _ready(self) -> ReadyReplies | None:
        """Return the replies that are ready, unless each datagram is to be looked at."""
        if not self._looks_at_none:
            return None
        return self._zones.answers.usual, self._forwarder.recent_replies

    def _serve(self, waiting: list[Datagram], listener: Listener, are_new: bool) -> list[Datagram]:
        """Return the replies that are known at once; the others follow.

        Datagrams that *are_new* have no ready reply.
        """
        replies: list[Datagram] = []
        if not self._admission.is_open:
            waiting = self._admitted(waiting, replies)
        table = self._zones.answers
        reply_to = table.reply_first if are_new else table.reply
        for message, peer in waiting:
            reply = reply_to(message)
            if isinstance(reply, Query):
                reply = self._answer(reply, listener, peer)
            if reply is not None:
                replies.append((reply, peer))
        self._query_log.note(waiting, replies)
        return replies

    def _admitted(self, waiting: list[Datagram], replies: list[Datagram]) -> list[Datagram]:
        """Return who may have an answer; the others get what they earn into *replies*."""
        verdict_on, now = self._admission.verdict, self._clock()
        admit = Verdict.ADMIT
        admitted = []
        for datagram in waiting:
            message, peer = datagram
            verdict = verdict_on(packed_of(peer), now)
            if verdict is admit:
                admitted.append(datagram)
                continue
            reply = self._turn_away(message, verdict, packed_of(peer))
            self.turned_away[verdict.value] += reply is not None
            if reply is None:
                admitted.append(datagram)
            elif reply:
                replies.append((reply, peer))
        return admitted

    def _turn_away(self, message: bytes, verdict: Verdict, client: bytes) -> bytes | None:
        """Return what a client gets that asks too often or may not; empty for silence.

        None admits it after all: a cookie of ours shows that its address is not made up.
        """
        table = self._zones.answers
        if verdict is not Verdict.REFUSE and _COOKIE_START in message:
            query = parse_query(message)
            if isinstance(query, Query) and query.edns is not None and query.edns.cookie:
                shown = self._cookies.shown(query, client, self._wall_clock())
                if shown.is_ours:
                    return None
                if verdict is Verdict.CUT:
                    return table.ask_for_cookie(shown.query)
        return table.turn_away(message, verdict) or b""

    def _answer(self, query: Query, listener: Listener, peer: bytes) -> bytes | None:
        """Return the reply if it is known at once; else it is sent later."""
        client, edns = packed_of(peer), query.edns
        limit = CLASSIC_BYTES if edns is None else udp_room(edns.size)
        if edns is not None and edns.cookie:
            shown = self._cookies.shown(query, client, self._wall_clock())
            reply = self._zones.answers.reply_shown(shown, limit)
            if not isinstance(reply, Query):
                return None if isinstance(reply, Transfer) else reply  # one is for TCP only
            query = reply
        return self._forwarder.look_up(query, limit, client, listener.send_late, peer)

    @property
    def dropped(self) -> int:
        """Return how many datagrams went unanswered since more came than can be answered."""
        return self._dropped + sum(each.backlog.dropped for each in self._listeners.values())

    @property
    def waiting(self) -> int:
        """Return how many datagrams wait for their turn."""
        return sum(len(each.backlog) for each in self._listeners.values())

    @property
    def connections(self) -> int:
        """Return how many TCP connections are open."""
        return len(self._streams)


async def _again_while_taken(opened: Callable[[], Awaitable[None]]) -> None:
    """Wait until *opened* finds the place free: a service manager lets go of it in a moment.

    Raises OSError where somebody else keeps it, or for another reason.
    """
    for seconds in LET_GO_SECONDS:
        try:
            return await opened()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        await asyncio.sleep(seconds)
    return await opened()


def _open(kind: socket.SocketKind, address: str, port: int, *, joins: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:  # connections of a process before us may linger
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            with suppress(PermissionError):  # then it is the kernel's default
                sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        if joins:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def _hint(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return " by another name server, like systemd-resolved or dnsmasq; see ss -lntup"
    if error.errno == errno.EADDRNOTAVAIL:
        return "; no link of this node has it"
    return ""
