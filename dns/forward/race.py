"""The race of two upstreams for one answer, then of the next two; no task or timer for each."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from phalanx.core.config import HostPort
from phalanx.dns.batch import PeerBatch
from phalanx.dns.forward.flight import Flight, Group, Upstream, bystander
from phalanx.dns.forward.message import Key, UpstreamReply, is_good_reply, parse_reply
from phalanx.dns.forward.ports import MAIL_SLOTS, Asked, Draws, Pending, Ports
from phalanx.dns.forward.tcp import ask_tcp
from phalanx.dns.forward.upstream import Standing, probe_due

RACERS = 2
ROUNDS = 2
MAX_CONNECTIONS = 128  # to upstreams; each is a file of this process
TICK_PART = 0.05  # of a try: how late it may be found to be over
SAMPLED_SECONDS = 0.005  # between two round trips of one upstream that count

Landed = Callable[[Flight, UpstreamReply | None, float], None]


class Race:
    """Asks upstreams for flights; *landed* gets each with a good answer, or None, and the time.

    *landed* is not called from within ``start``.
    """

    def __init__(
        self, draws: Draws, landed: Landed, *, clock: Callable[[], float], try_seconds: float
    ) -> None:
        self._draws = draws
        self._landed = landed
        self._clock = clock
        self._try_seconds = try_seconds
        self._mail = PeerBatch(MAIL_SLOTS)  # of all ports: nothing stays in it
        self._groups: dict[int, Group] = {}  # by the identity of the route's upstreams
        self._loop: asyncio.AbstractEventLoop | None = None  # to ask for it is a system call
        self._tick: asyncio.TimerHandle | None = None  # while a question is under way
        self._connections: set[asyncio.Task[None]] = set()
        self._leaving: set[HostPort] = set()  # upstreams that are forgotten when they owe nothing
        self.upstreams: dict[HostPort, Upstream] = {}  # that were asked
        self.failures: Counter[tuple[HostPort, str]] = Counter()

    @property
    def is_asking(self) -> bool:
        """Tell whether any upstream still owes an answer, somebody waiting for it or not."""
        return any(upstream.is_waiting for upstream in self.upstreams.values())

    def upstream(self, place: HostPort) -> Upstream:
        """Return the upstream at *place*."""
        found = self.upstreams.get(place)
        if found is None:
            found = self.upstreams[place] = Upstream(
                place, self._draws, self._mail, heard=self._hear, failed=self._failed
            )
        return found

    def forget_orders(self) -> None:
        """Rank the upstreams anew before the next question."""
        self._groups.clear()

    def keep_only(self, places: Iterable[HostPort]) -> None:
        """Forget the other upstreams, each once it owes no answer.

        No flight may turn to them any more.
        """
        self._leaving = self.upstreams.keys() - set(places)
        self._forget_leaving()

    def _forget_leaving(self) -> None:
        for place in list(self._leaving):
            if not self.upstreams[place].is_waiting:
                self._leaving.discard(place)
                self.upstreams.pop(place).close()

    def redirect(self, flight: Flight, upstreams: Sequence[HostPort], now: float) -> None:
        """Let a flight turn to these when those who are asked now have failed."""
        flight.order = self._order_of(upstreams, now)

    def start(self, flight: Flight, upstreams: Sequence[HostPort], now: float) -> None:
        """Race the two best upstreams, and later the next two."""
        flight.order = order = self._order_of(upstreams, now)
        if len(order) == RACERS:  # as it mostly is
            flight.left = RACERS
            self._ask(order, flight, now)
            return
        if len(order) > RACERS:
            probed = probe_due({each: each.standing for each in order[RACERS:]}, now)
            if probed is not None:
                self._ask((probed,), bystander(flight.key), now)
        self._run(flight, now)

    def _order_of(self, upstreams: Sequence[HostPort], now: float) -> Sequence[Upstream]:
        group = self._groups.get(id(upstreams))
        if group is None:
            found = [self.upstream(each) for each in upstreams]
            group = self._groups[id(upstreams)] = Group(found)
        return group.order_at(now)

    def ask_for_nobody(self, place: HostPort, key: Key, now: float) -> None:
        """Ask one upstream; nobody waits for the answer."""
        self._ask((self.upstream(place),), bystander(key), now)

    async def close(self) -> None:
        """Forget all questions."""
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        for upstream in self.upstreams.values():
            upstream.close()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._loop = None
        self.upstreams.clear()
        self._leaving.clear()
        self._groups.clear()

    def _run(self, flight: Flight, now: float) -> None:
        order, turn = flight.order, flight.turn
        racers = order[turn * RACERS : (turn + 1) * RACERS] or order[:RACERS]
        flight.left = len(racers)
        if racers:
            self._ask(racers, flight, now)
        else:  # all lead back to us; who waits is not there yet
            asyncio.get_running_loop().call_soon(self._landed, flight, None, now)

    def _ask(self, upstreams: Sequence[Upstream], flight: Flight, now: float) -> None:
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        loop_now = loop.time()
        asked = (flight, now, loop_now + self._try_seconds)
        key = flight.key
        for upstream in upstreams:
            try:
                upstream.ask(key, asked, loop_now)
            except OSError:
                loop.call_soon(self._failed, upstream, asked, "unreachable")
        if self._tick is None:
            self._tick = loop.call_later(self._try_seconds * TICK_PART, self._expire)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        upstreams = list(self.upstreams.values())
        for upstream in upstreams:
            upstream.expire(now)
        self._forget_leaving()
        self._tick = None
        if any(upstream.is_waiting for upstream in upstreams):
            self._tick = loop.call_later(self._try_seconds * TICK_PART, self._expire)

    def _hear(
        self, upstream: Ports[Flight], pending: Pending[Flight], messages: Sequence[bytes]
    ) -> None:
        """Take what came to one port; who is late is heard, too, for its standing.

        What is no answer to a question that is *pending* by its id counts for nothing.
        """
        now = self._clock()
        counted: Standing | None = None  # in which an answer of this moment counts already
        for message in messages:
            id_ = message[:2]
            asked = pending.get(id_)
            if asked is None:
                continue
            flight, since, _ = asked
            if flight.is_over:
                is_good = is_good_reply(message, flight.question)
                if is_good is None:
                    continue
                del pending[id_]
                if not is_good:
                    self._failed(upstream, asked, "rcode")
                elif upstream.standing is not counted:
                    counted = self._succeeded(upstream, since, now)
                continue
            reply = parse_reply(message, flight.question)
            if reply is None:
                continue
            del pending[id_]
            if reply.is_truncated:
                self._ask_again(upstream, asked, id_)
            elif reply.rcode == 0 or reply.is_good:
                if upstream.standing is not counted:
                    counted = self._succeeded(upstream, since, now)
                self._landed(flight, reply, now)
            else:
                self._failed(upstream, asked, "rcode")

    def _ask_again(self, upstream: Ports[Flight], asked: Asked[Flight], id_: bytes) -> None:
        """Ask over TCP for an answer that was cut."""
        if len(self._connections) >= MAX_CONNECTIONS:
            self._failed(upstream, asked, "overload")
            return

        async def ask() -> None:
            flight, since, _ = asked
            result = await ask_tcp(upstream.upstream, flight.key, id_, seconds=self._try_seconds)
            if isinstance(result, str):
                self._failed(upstream, asked, result)
            elif not result.is_good:
                self._failed(upstream, asked, "rcode")
            else:
                now = self._clock()
                self._succeeded(upstream, since, now)
                if not flight.is_over:
                    self._landed(flight, result, now)

        connection = asyncio.get_running_loop().create_task(ask())
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    def _succeeded(self, upstream: Ports[Flight], since: float, now: float) -> Standing:
        standing = upstream.standing
        if standing.failures or not standing.at <= now < standing.at + SAMPLED_SECONDS:
            standing = upstream.standing = standing.succeeded(now - since, now)
        return standing

    def _failed(self, upstream: Ports[Flight], asked: Asked[Flight], reason: str) -> None:
        now = self._clock()
        self.failures[upstream.upstream, reason] += 1
        upstream.standing = upstream.standing.failed(now)
        for group in self._groups.values():
            group.until = -1.0
        flight = asked[0]
        if flight.is_over:
            return
        flight.left -= 1
        if flight.left:
            return
        flight.turn += 1
        if flight.turn < ROUNDS:
            self._run(flight, now)
        else:
            self._landed(flight, None, now)
