"""Look names of others up: cache, coalescing, and a race of the two best upstreams."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import structlog

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.dns.answer.query import Query, Rcode
from phalanx.dns.answer.reply import Body, render_reply
from phalanx.dns.answer.table import Counts
from phalanx.dns.forward.cache import MAX_ENTRIES, Cache
from phalanx.dns.forward.exchange import exchange
from phalanx.dns.forward.message import Key, UpstreamReply, key_of, render_forwarded
from phalanx.dns.forward.upstream import NEW, Standing, parse_upstream, ranked

log = structlog.get_logger()

ZONE = "."  # the zone of foreign names in counts
RACERS = 2
ROUNDS = 2
TRY_SECONDS = 2.0
MAX_FLIGHTS = 256  # questions under way; each may hold RACERS sockets
MAX_WAITING = 1024  # clients waiting for them


class Forwarder:
    """Answers queries for foreign names from upstreams, each ``ADDRESS`` or ``ADDRESS:PORT``.

    Without an upstream it refuses; when none gives a good answer, or too many
    lookups are under way, it says SERVFAIL. Raises ConfigError for an upstream
    that can't be read.
    """

    def __init__(
        self,
        upstreams: Sequence[str] = (),
        *,
        try_seconds: float = TRY_SECONDS,
        max_flights: int = MAX_FLIGHTS,
        max_waiting: int = MAX_WAITING,
        max_cached: int = MAX_ENTRIES,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.upstreams = tuple(dict.fromkeys(map(parse_upstream, upstreams)))
        self.counts: Counts = defaultdict(int)
        self.events: Counter[str] = Counter()
        self.failures: Counter[tuple[HostPort, str]] = Counter()
        self._standings: dict[HostPort, Standing] = {}
        self._flights: dict[Key, asyncio.Task[UpstreamReply | None]] = {}
        self._cache = Cache(max_cached)
        self._try_seconds = try_seconds
        self._max_flights = max_flights
        self._max_waiting = max_waiting
        self._waiting = 0
        self._clock = clock
        self._rng = rng or random.SystemRandom()

    @property
    def lookups_under_way(self) -> int:
        """Return how many questions upstreams have not answered yet."""
        return len(self._flights)

    def check_no_loop(self, listening: Sequence[HostPort]) -> None:
        """Raise ConfigError if an upstream is one of the addresses that we listen on."""
        for upstream in self.upstreams:
            if upstream in listening:
                raise ConfigError(f"upstream: {str(upstream)!r} is an address that we listen on")

    def known(self, query: Query, limit: int) -> bytes | None:
        """Return the reply if it takes no asking: from the cache, or a refusal."""
        if not self.upstreams:
            return self._error(query, Rcode.REFUSED)
        cached = self._cache.get(key_of(query), self._clock())
        if cached is None:
            return None
        self.events["cache_hit"] += 1
        return self._reply(query, cached.reply, cached.age_seconds, limit)

    async def resolve(self, query: Query, limit: int) -> bytes:
        """Return the reply, at most *limit* bytes long, asking upstreams if it is not known."""
        known = self.known(query, limit)
        if known is not None:
            return known
        key = key_of(query)
        flight = self._flights.get(key)
        is_full = flight is None and len(self._flights) >= self._max_flights
        if is_full or self._waiting >= self._max_waiting:
            self.events["overload"] += 1
            return self._error(query, Rcode.SERVFAIL)
        self.events["forwarded" if flight is None else "coalesced"] += 1
        self._waiting += 1
        try:
            reply = await asyncio.shield(flight or self._start(key))
        finally:
            self._waiting -= 1
        if reply is None:
            return self._error(query, Rcode.SERVFAIL)
        return self._reply(query, reply, 0, limit)

    def _start(self, key: Key) -> asyncio.Task[UpstreamReply | None]:
        flight = asyncio.get_running_loop().create_task(self._fetch(key))
        self._flights[key] = flight
        flight.add_done_callback(lambda _: self._flights.pop(key))
        return flight

    async def close(self) -> None:
        """End the lookups under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fetch(self, key: Key) -> UpstreamReply | None:
        """Race the two best upstreams, then the next two; None when nobody has a good answer."""
        order = ranked(self.upstreams, self._standings, self._clock())
        for turn in range(ROUNDS):
            racers = order[turn * RACERS : (turn + 1) * RACERS] or order[:RACERS]
            reply = await self._race(racers, key)
            if reply is not None:
                self._cache.put(key, reply, self._clock())
                return reply
        return None

    async def _race(self, racers: Sequence[HostPort], key: Key) -> UpstreamReply | None:
        loop = asyncio.get_running_loop()
        tries = [loop.create_task(self._try(upstream, key)) for upstream in racers]
        try:
            for done in asyncio.as_completed(tries):
                if (reply := await done) is not None:
                    return reply
            return None
        finally:
            for task in tries:
                task.cancel()
            await asyncio.gather(*tries, return_exceptions=True)

    async def _try(self, upstream: HostPort, key: Key) -> UpstreamReply | None:
        """Ask one upstream and remember how it did; None unless its answer is good."""
        started = self._clock()
        try:
            async with asyncio.timeout(self._try_seconds):
                reply = await exchange(upstream, key, self._rng.getrandbits(16))
        except TimeoutError:
            failure = "timeout"
        except (OSError, EOFError):
            failure = "unreachable"
        else:
            failure = "" if reply.is_good else "rcode"
        now = self._clock()
        standing = self._standings.get(upstream, NEW)
        if failure:
            self.failures[upstream, failure] += 1
            self._standings[upstream] = standing.failed(now)
            return None
        self._standings[upstream] = standing.succeeded(now - started, now)
        return reply

    def _reply(self, query: Query, reply: UpstreamReply, age_seconds: int, limit: int) -> bytes:
        self.counts[ZONE, reply.rcode] += 1
        return render_forwarded(query, reply, age_seconds=age_seconds, limit=limit)

    def _error(self, query: Query, rcode: Rcode) -> bytes:
        self.counts[ZONE, rcode] += 1
        return render_reply(query, rcode, Body(), flags=0)
