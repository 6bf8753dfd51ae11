"""Look names of others up: cache, coalescing, and a race of the two best upstreams."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeGuard

import structlog

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.dns.answer.query import Query, Rcode
from phalanx.dns.answer.ready import Label
from phalanx.dns.forward.cache import MAX_ENTRIES, Cached
from phalanx.dns.forward.flight import Done, Flight, Group, Upstream, bystander
from phalanx.dns.forward.loop import LoopProbe, is_probe
from phalanx.dns.forward.memory import Memory
from phalanx.dns.forward.message import (
    Key,
    UpstreamReply,
    is_good_reply,
    key_of,
    parse_reply,
)
from phalanx.dns.forward.ports import Asked, Draws, Ports
from phalanx.dns.forward.route import parse_routes
from phalanx.dns.forward.share import MAX_FLIGHTS, MAX_WAITING, Share
from phalanx.dns.forward.tcp import ask_tcp
from phalanx.dns.forward.upstream import Standing, probe_due

log = structlog.get_logger()

RACERS = 2
ROUNDS = 2
TRY_SECONDS = 2.0
MAX_CONNECTIONS = 128  # to upstreams; each is a file of this process
TICK_PART = 0.05  # of a try: how late it may be found to be over
PATIENCE_SECONDS = 1.8  # before a client gets a stale answer (RFC 8767 §5)
SAMPLED_SECONDS = 0.005  # between two round trips of one upstream that count


class Forwarder:
    """Answers queries for foreign names from upstreams, each ``ADDRESS`` or ``ADDRESS:PORT``.

    *zones* have upstreams of their own, each like ``corp.example=10.0.0.1/10.0.0.2``.
    Without an upstream it refuses; when none gives a good answer, or too many
    lookups are under way, it says SERVFAIL. Raises ConfigError for an upstream
    that can't be read.
    """

    def __init__(
        self,
        upstreams: Sequence[str] = (),
        *,
        zones: Sequence[str] = (),
        try_seconds: float = TRY_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        max_flights: int = MAX_FLIGHTS,
        max_waiting: int = MAX_WAITING,
        max_cached: int = MAX_ENTRIES,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.routes = parse_routes(upstreams, zones)
        self.asked_for = (tuple(upstreams), tuple(zones))  # as they were given
        self._memory = Memory(max_cached, clock=clock)
        self.events = self._memory.events
        self.recent_replies = self._memory.recent_replies
        self.recent = self._memory.recent
        self.failures: Counter[tuple[HostPort, str]] = Counter()
        self._upstreams: dict[HostPort, Upstream] = {}
        self._groups: dict[int, Group] = {}  # by the identity of the route's upstreams
        self._flights: dict[Key, Flight] = {}
        self._tick: asyncio.TimerHandle | None = None  # while a question is under way
        self._connections: set[asyncio.Task[None]] = set()
        self._try_seconds = try_seconds
        self._patience_seconds = patience_seconds
        self._max_flights = max_flights
        self._share = Share(max_flights, max_waiting)
        self._clock = clock
        self._draws = Draws(rng or random.SystemRandom())
        self._probe = LoopProbe(self._draws)
        self.rerouted: Callable[[], None] = _nobody  # told when others are asked than before
        self.probed: Callable[[bytes], None] = _nobody  # told what another asks to find a loop

    @property
    def forwards(self) -> bool:
        """Tell whether there is anybody to ask."""
        return bool(self.routes.all)

    @property
    def lookups_under_way(self) -> int:
        """Return how many questions upstreams have not answered yet."""
        return len(self._flights)

    @property
    def cached(self) -> int:
        """Return how many answers are kept, stale ones included."""
        return len(self._memory)

    @property
    def replies(self) -> Mapping[Label, int]:
        """Return how many replies there were, by zone and rcode."""
        return self._memory.replies

    @property
    def lookups(self) -> Mapping[str, int]:
        """Return how many queries there were, by how they were served."""
        return self._memory.lookups

    @property
    def standings(self) -> Mapping[HostPort, Standing]:
        """Return what is remembered of each upstream that was asked."""
        return {place: each.standing for place, each in self._upstreams.items()}

    @property
    def is_asking(self) -> bool:
        """Tell whether any upstream still owes an answer, somebody waiting for it or not."""
        return any(upstream.is_waiting for upstream in self._upstreams.values())

    def check_no_loop(self, listening: Sequence[HostPort]) -> None:
        """Raise ConfigError if an upstream is one of the addresses that we listen on."""
        for upstream in self.routes.all:
            if upstream in listening:
                raise ConfigError(f"upstream: {str(upstream)!r} is an address that we listen on")

    def reroute(self, upstreams: Sequence[str], zones: Sequence[str] = ()) -> None:
        """Ask these from now on; what is under way goes on. Raises ConfigError."""
        self.routes = parse_routes(upstreams, zones)
        self.asked_for = (tuple(upstreams), tuple(zones))
        self._groups.clear()
        self.rerouted()
        for place in self._upstreams.keys() - set(self.routes.all):
            if not self._upstreams[place].is_waiting:
                self._upstreams.pop(place).close()

    def probe_loops(self) -> None:
        """Ask each upstream for a name that nobody else asks for: if it comes to us, it leads back.

        Who was found to lead back, and does not any more, is asked again after the next call.
        """
        for upstream, key in self._probe.questions(map(self._upstream, self.routes.all)):
            self._ask((upstream,), bystander(key), self._clock())
        self._groups.clear()
        self.rerouted()

    @property
    def leading_back(self) -> Sequence[HostPort]:
        """Return the upstreams that were found to lead back to us."""
        return [place for place, each in self._upstreams.items() if each.leads_back]

    def believe(self, leading_back: Collection[HostPort]) -> None:
        """Leave out the upstreams that another process has found to lead back, and no others."""
        for place in self.routes.all:
            self._upstream(place).leads_back = place in leading_back
        self._groups.clear()

    def is_own_probe(self, question: bytes) -> bool:
        """Tell whether we ask this to find a loop; there is one, then."""
        if not is_probe(question):
            return False
        upstream = self._probe.recognised(question)
        if upstream is None:
            self.probed(question)
            return False
        self.failures[upstream.upstream, "loop"] += 1
        self._groups.clear()
        log.warning("upstream_leads_back", upstream=str(upstream.upstream))
        self.rerouted()
        return True

    def known(self, query: Query, limit: int) -> bytes | None:
        """Return the reply if it takes no asking: from the cache, or a refusal."""
        key = key_of(query)
        if not self.routes.upstreams_of(key.question):
            return self._memory.error(query, Rcode.REFUSED)
        cached = self._memory.find(key)
        return self._from_cache(query, key, cached, limit) if _is_usable(cached) else None

    def look_up(self, query: Query, limit: int, client: bytes, done: Done) -> bytes | None:
        """Return the reply, at most *limit* bytes long, if it takes no asking; else None.

        Then *done* gets it later, once. *client* is the packed address of who
        asks. An answer whose time is over is given when upstreams fail, or take long.
        """
        key = key_of(query)
        upstreams = self.routes.upstreams_of(key.question)
        if self.is_own_probe(key.question) or not upstreams:
            return self._memory.error(query, Rcode.REFUSED)
        now = self._clock()
        cached = self._memory.find(key)
        if _is_usable(cached):
            return self._from_cache(query, key, cached, limit)
        flight = self._flights.get(key)
        if self._share.is_too_much(client, len(self._flights), is_new=flight is None):
            self.events["overload"] += 1
            return self._memory.stale(query, key, limit) or self._memory.error(
                query, Rcode.SERVFAIL
            )
        self.events["forwarded" if flight is None else "coalesced"] += 1
        if flight is None:
            flight = self._start(key, upstreams, now)
        flight.waiting.append((query, limit, client, done))
        self._share.enter(client)
        if cached is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self._patience_seconds, self._answer, flight, None)
        return None

    async def resolve(self, query: Query, limit: int, client: bytes = b"") -> bytes:
        """Return the reply, as look_up does, when it is there."""
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(reply: bytes) -> None:
            if not answered.done():
                answered.set_result(reply)

        known = self.look_up(query, limit, client, done)
        return await answered if known is None else known

    async def close(self) -> None:
        """End the lookups under way; who waits for them gets no reply."""
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        for upstream in self._upstreams.values():
            upstream.close()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        for flight in self._flights.values():
            flight.is_over = True
        self._flights.clear()
        self._upstreams.clear()
        self._groups.clear()

    def _from_cache(self, query: Query, key: Key, cached: Cached, limit: int) -> bytes:
        if cached.is_prefetch_due and key not in self._flights and self._has_spare_flights:
            self.events["prefetch"] += 1
            self._start(key, self.routes.upstreams_of(key.question), self._clock())
        return self._memory.answer(query, cached, limit)

    @property
    def _has_spare_flights(self) -> bool:
        return len(self._flights) < self._max_flights // 2

    def _start(self, key: Key, upstreams: Sequence[HostPort], now: float) -> Flight:
        """Race the two best upstreams, and later the next two."""
        flight = self._flights[key] = Flight(key, self._order(upstreams, now))
        if len(flight.order) > RACERS:
            probed = probe_due({each: each.standing for each in flight.order[RACERS:]}, now)
            if probed is not None:
                self._ask((probed,), bystander(key), now)
        self._race(flight, now)
        return flight

    def _order(self, upstreams: Sequence[HostPort], now: float) -> Sequence[Upstream]:
        group = self._groups.get(id(upstreams))
        if group is None:
            found = [self._upstream(each) for each in upstreams]
            group = self._groups[id(upstreams)] = Group(found)
        return group.order_at(now)

    def _upstream(self, place: HostPort) -> Upstream:
        found = self._upstreams.get(place)
        if found is None:
            found = self._upstreams[place] = Upstream(
                place, self._draws, heard=self._heard, failed=self._failed
            )
        return found

    def _race(self, flight: Flight, now: float) -> None:
        order, turn = flight.order, flight.turn
        racers = order[turn * RACERS : (turn + 1) * RACERS] or order[:RACERS]
        flight.left = len(racers)
        if racers:
            self._ask(racers, flight, now)
        else:  # all lead back to us; who waits is not there yet
            asyncio.get_running_loop().call_soon(self._land, flight, None)

    def _ask(self, upstreams: Sequence[Upstream], flight: Flight, now: float) -> None:
        loop = asyncio.get_running_loop()
        loop_now = loop.time()
        asked = Asked(flight, now, loop_now + self._try_seconds)
        for upstream in upstreams:
            try:
                upstream.ask(flight.rest, asked, loop_now)
            except OSError:
                loop.call_soon(self._failed, upstream, asked, "unreachable")
        if self._tick is None:
            self._tick = loop.call_later(self._try_seconds * TICK_PART, self._expire)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        upstreams = list(self._upstreams.values())
        for upstream in upstreams:
            upstream.expire(now)
        self._tick = None
        if any(upstream.is_waiting for upstream in upstreams):
            self._tick = loop.call_later(self._try_seconds * TICK_PART, self._expire)

    def _heard(self, upstream: Ports[Flight], asked: Asked[Flight], message: bytes) -> bool:
        """Tell whether *message* is the answer; who is late is heard, too, for its standing."""
        flight = asked.asker
        if flight.is_over:
            is_good = is_good_reply(message, flight.key)
            if is_good is None:
                return False
            if is_good:
                self._succeeded(upstream, asked.since)
            else:
                self._failed(upstream, asked, "rcode")
            return True
        id_ = message[0] << 8 | message[1]
        reply = parse_reply(message, flight.key, id_)
        if reply is None:
            return False
        if reply.is_truncated:
            self._ask_again(upstream, asked, id_)
        else:
            self._ended(upstream, asked, reply)
        return True

    def _ask_again(self, upstream: Ports[Flight], asked: Asked[Flight], id_: int) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            self._failed(upstream, asked, "overload")
            return

        async def ask() -> None:
            self._ended(
                upstream,
                asked,
                await ask_tcp(upstream.upstream, asked.asker.key, id_, seconds=self._try_seconds),
            )

        connection = asyncio.get_running_loop().create_task(ask())
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    def _ended(
        self, upstream: Ports[Flight], asked: Asked[Flight], result: UpstreamReply | str
    ) -> None:
        if isinstance(result, str):
            self._failed(upstream, asked, result)
        elif not result.is_good:
            self._failed(upstream, asked, "rcode")
        else:
            self._succeeded(upstream, asked.since)
            if not asked.asker.is_over:
                self._land(asked.asker, result)

    def _succeeded(self, upstream: Ports[Flight], since: float) -> None:
        assert isinstance(upstream, Upstream)
        now, standing = self._clock(), upstream.standing
        if standing.failures or not standing.at <= now < standing.at + SAMPLED_SECONDS:
            upstream.standing = standing.succeeded(now - since, now)

    def _failed(self, upstream: Ports[Flight], asked: Asked[Flight], reason: str) -> None:
        assert isinstance(upstream, Upstream)
        now = self._clock()
        self.failures[upstream.upstream, reason] += 1
        upstream.standing = upstream.standing.failed(now)
        for group in self._groups.values():
            group.until = -1.0
        flight = asked.asker
        if flight.is_over:
            return
        flight.left -= 1
        if flight.left:
            return
        flight.turn += 1
        if flight.turn < ROUNDS:
            self._race(flight, now)
        else:
            self._land(flight, None)

    def _land(self, flight: Flight, reply: UpstreamReply | None) -> None:
        flight.is_over = True
        del self._flights[flight.key]
        self._memory.keep(flight.key, reply)
        self._answer(flight, reply)

    def _answer(self, flight: Flight, reply: UpstreamReply | None) -> None:
        """Give everybody who waits the reply; without one what is stale, or SERVFAIL."""
        memory = self._memory
        waiting, flight.waiting = flight.waiting, []
        for query, limit, client, done in waiting:
            self._share.leave(client)
            if reply is None:
                found = memory.stale(query, flight.key, limit)
                done(found or memory.error(query, Rcode.SERVFAIL))
            else:
                done(memory.fresh(query, reply, limit))


def _is_usable(cached: Cached | None) -> TypeGuard[Cached]:
    """Tell whether to give what is kept without asking anew."""
    return cached is not None and not (cached.is_stale and cached.is_retry_due)


def _nobody(*_: object) -> None:
    pass
