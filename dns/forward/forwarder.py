"""Look names of others up: cache, coalescing, and a race of the two best upstreams."""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TypeGuard

import structlog

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.dns.answer.query import Query, Rcode
from phalanx.dns.answer.ready import Label
from phalanx.dns.forward.cache import MAX_ENTRIES, Cached
from phalanx.dns.forward.flight import Done, Flight
from phalanx.dns.forward.loop import PROBE_BYTES, LoopProbe, is_probe
from phalanx.dns.forward.memory import Memory
from phalanx.dns.forward.message import (
    Key,
    UpstreamReply,
    key_and_question_of,
    question_of,
)
from phalanx.dns.forward.ports import Draws
from phalanx.dns.forward.race import Race
from phalanx.dns.forward.route import parse_routes
from phalanx.dns.forward.share import MAX_FLIGHTS, MAX_WAITING, Share
from phalanx.dns.forward.upstream import Standing

log = structlog.get_logger()

TRY_SECONDS = 2.0
PATIENCE_SECONDS = 1.8  # before a client gets a stale answer (RFC 8767 §5)


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
        self._flights: dict[Key, Flight] = {}
        self._patience_seconds = patience_seconds
        self._max_flights = max_flights
        self._share = Share(max_flights, max_waiting)
        self._clock = clock
        self._draws = Draws(rng or random.SystemRandom())
        self._race = Race(self._draws, self._land, clock=clock, try_seconds=try_seconds)
        self.failures = self._race.failures
        self._probe = LoopProbe(self._draws)
        self._has_changed = asyncio.Event()  # whom we ask
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
        return {place: each.standing for place, each in self._race.upstreams.items()}

    @property
    def is_asking(self) -> bool:
        """Tell whether any upstream still owes an answer, somebody waiting for it or not."""
        return self._race.is_asking

    def check_no_loop(self, listening: Sequence[HostPort]) -> None:
        """Raise ConfigError if an upstream is one of the addresses that we listen on."""
        for upstream in self.routes.all:
            if upstream in listening:
                raise ConfigError(f"upstream: {str(upstream)!r} is an address that we listen on")

    def reroute(self, upstreams: Sequence[str], zones: Sequence[str] = ()) -> None:
        """Ask these from now on; what is under way goes on. Raises ConfigError."""
        self.routes = routes = parse_routes(upstreams, zones)
        self.asked_for = (tuple(upstreams), tuple(zones))
        self._race.forget_orders()
        if self._probe.leading_back:
            self.believe(self._probe.leading_back)
        now = self._clock()
        for flight in self._flights.values():
            self._race.redirect(flight, routes.upstreams_of(flight.question), now)
        self._race.keep_only(routes.all)
        self._probe.change()
        self._has_changed.set()
        self.rerouted()

    async def watch_loops(self) -> None:
        """Look for upstreams that lead back to us now and then, and when they change."""
        while True:
            self._has_changed.clear()
            self.probe_loops()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._probe.wait_seconds):
                    await self._has_changed.wait()

    def probe_loops(self) -> None:
        """Ask each upstream for a name that nobody else asks for: if it comes to us, it leads back.

        Who was found to lead back is asked again after enough such questions stayed away.
        """
        now = self._clock()
        before = set(self._probe.leading_back)
        for upstream, key in self._probe.questions(self.routes.all, now):
            self._race.ask_for_nobody(upstream, key, now)
        if before != self._probe.leading_back:
            self.believe(self._probe.leading_back)
            self.rerouted()

    @property
    def leading_back(self) -> Sequence[HostPort]:
        """Return the upstreams that were found to lead back to us."""
        return [place for place, each in self._race.upstreams.items() if each.leads_back]

    def believe(self, leading_back: Collection[HostPort]) -> None:
        """Leave out the upstreams that were found to lead back, and no others."""
        for place in self.routes.all:
            self._race.upstream(place).leads_back = place in leading_back
        self._race.forget_orders()

    def is_own_probe(self, question: bytes) -> bool:
        """Tell whether we ask this to find a loop; there is one, then."""
        if not is_probe(question):
            return False
        before = set(self._probe.leading_back)
        upstream = self._probe.recognised(question)
        if upstream is None:
            self.probed(question)
            return False
        self.failures[upstream, "loop"] += 1
        if upstream not in before:
            self.believe(self._probe.leading_back)
            log.warning("upstream_leads_back", upstream=str(upstream))
            self.rerouted()
        return True

    def known(self, query: Query, limit: int) -> bytes | None:
        """Return the reply if it takes no asking: from the cache, or a refusal."""
        key, question = key_and_question_of(query)
        if not self.routes.upstreams_of(question):
            return self._memory.error(query, Rcode.REFUSED)
        cached = self._memory.find(key)
        return self._from_cache(query, key, cached, limit) if _is_usable(cached) else None

    def look_up(
        self, query: Query, limit: int, client: bytes, done: Done, whose: bytes = b""
    ) -> bytes | None:
        """Return the reply, at most *limit* bytes long, if it takes no asking; else None.

        Then *done* gets *whose* and it later, once. *client* is the packed address of who
        asks. An answer whose time is over is given when upstreams fail, or take long.
        """
        key, question = key_and_question_of(query)
        routes = self.routes
        upstreams = routes.upstreams_of(question) if routes.zones else routes.default
        # A worker may be asked before it is told of the upstream that leads back.
        if (len(question) == PROBE_BYTES and self.is_own_probe(question)) or not upstreams:
            return self._memory.error(query, Rcode.REFUSED)
        now = self._clock()
        cached = self._memory.cache.find(key, now)
        if cached is not None and _is_usable(cached):
            return self._from_cache(query, key, cached, limit)
        flights = self._flights
        flight = flights.get(key)
        if not self._share.enter(client, len(flights), is_new=flight is None):
            self.events["overload"] += 1
            return self._memory.stale(query, key, limit) or self._memory.error(
                query, Rcode.SERVFAIL
            )
        self.events["forwarded" if flight is None else "coalesced"] += 1
        if flight is None:
            flight = self._start(key, question, upstreams, now)
        flight.waiting.append((query, limit, client, done, whose))
        if cached is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self._patience_seconds, self._lose_patience, flight)
        return None

    async def resolve(self, query: Query, limit: int, client: bytes = b"") -> bytes:
        """Return the reply, as look_up does, when it is there."""
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(_: bytes, reply: bytes) -> None:
            if not answered.done():
                answered.set_result(reply)

        known = self.look_up(query, limit, client, done)
        return await answered if known is None else known

    async def close(self) -> None:
        """End the lookups under way; who waits for them gets no reply."""
        await self._race.close()
        for flight in self._flights.values():
            flight.is_over = True
        self._flights.clear()

    def _from_cache(self, query: Query, key: Key, cached: Cached, limit: int) -> bytes:
        if cached.is_prefetch_due and key not in self._flights and self._has_spare_flights:
            self.events["prefetch"] += 1
            question = question_of(key)
            self._start(key, question, self.routes.upstreams_of(question), self._clock())
        return self._memory.answer(query, cached, limit)

    @property
    def _has_spare_flights(self) -> bool:
        return len(self._flights) < self._max_flights // 2

    def _start(
        self, key: Key, question: bytes, upstreams: Sequence[HostPort], now: float
    ) -> Flight:
        flight = self._flights[key] = Flight(key, question)
        self._race.start(flight, upstreams, now)
        return flight

    def _land(self, flight: Flight, reply: UpstreamReply | None, now: float) -> None:
        flight.is_over = True
        key = flight.key
        del self._flights[key]
        if reply is None:
            self._memory.cache.fail(key, now)
        else:
            self._memory.cache.put(key, reply, now)
        self._answer(flight, reply)

    def _lose_patience(self, flight: Flight) -> None:
        """Give everybody who waits what is stale; if that had to make room, they wait on."""
        if flight.waiting and self._memory.find(flight.key) is not None:
            self._answer(flight, None)

    def _answer(self, flight: Flight, reply: UpstreamReply | None) -> None:
        """Give everybody who waits the reply; without one what is stale, or SERVFAIL."""
        memory, leave = self._memory, self._share.leave
        waiting, flight.waiting = flight.waiting, []
        for query, limit, client, done, whose in waiting:
            leave(client)
            if reply is not None:
                done(whose, memory.fresh(query, reply, limit))
                continue
            found = memory.stale(query, flight.key, limit)
            done(whose, found or memory.error(query, Rcode.SERVFAIL))


def _is_usable(cached: Cached | None) -> TypeGuard[Cached]:
    """Tell whether to give what is kept without asking anew."""
    return cached is not None and not (cached.is_stale and cached.is_retry_due)


def _nobody(*_: object) -> None:
    pass
