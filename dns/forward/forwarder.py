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
from phalanx.dns.answer.reply import MAX_TCP_BYTES, Body, render_reply
from phalanx.dns.answer.table import Counts
from phalanx.dns.forward.cache import MAX_ENTRIES, Cache, Cached
from phalanx.dns.forward.exchange import Exchange
from phalanx.dns.forward.message import Key, UpstreamReply, key_of, render_forwarded
from phalanx.dns.forward.route import parse_routes
from phalanx.dns.forward.upstream import NEW, Standing, probe_due, ranked

log = structlog.get_logger()

ZONE = "."  # the zone of foreign names in counts
RACERS = 2
ROUNDS = 2
TRY_SECONDS = 2.0
PATIENCE_SECONDS = 1.8  # before a client gets a stale answer (RFC 8767 §5)
MAX_LATE = 64  # tries that go on after their race was won
MAX_RECENT = 4096  # replies that are right as bytes for the rest of a second
MAX_FLIGHTS = 256  # questions under way; each may hold RACERS sockets
MAX_WAITING = 1024  # clients waiting for them


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
        self.counts: Counts = defaultdict(int)
        self.events: Counter[str] = Counter()
        self.failures: Counter[tuple[HostPort, str]] = Counter()
        self._standings: dict[HostPort, Standing] = {}
        self._flights: dict[Key, asyncio.Task[UpstreamReply | None]] = {}
        self._tries: set[Exchange] = set()  # under way, those that lost their race included
        self._cache = Cache(max_cached)
        self._recent: dict[bytes, tuple[float, tuple[str, int], bytes]] = {}  # by all but the id
        self._try_seconds = try_seconds
        self._patience_seconds = patience_seconds
        self._max_flights = max_flights
        self._max_waiting = max_waiting
        self._waiting: Counter[bytes] = Counter()  # clients' queries, by their addresses
        self._clock = clock
        self._rng = rng or random.SystemRandom()

    @property
    def forwards(self) -> bool:
        """Tell whether there is anybody to ask."""
        return bool(self.routes.all)

    @property
    def lookups_under_way(self) -> int:
        """Return how many questions upstreams have not answered yet."""
        return len(self._flights)

    def check_no_loop(self, listening: Sequence[HostPort]) -> None:
        """Raise ConfigError if an upstream is one of the addresses that we listen on."""
        for upstream in self.routes.all:
            if upstream in listening:
                raise ConfigError(f"upstream: {str(upstream)!r} is an address that we listen on")

    def recent(self, message: bytes) -> bytes | None:
        """Return the reply to a datagram that asks as another did within the same second."""
        found = self._recent.get(message[2:])
        if found is None:
            return None
        until, label, rest = found
        if self._clock() >= until:
            del self._recent[message[2:]]
            return None
        self.counts[label] += 1
        self.events["cache_hit"] += 1
        return message[:2] + rest

    def known(self, query: Query, limit: int) -> bytes | None:
        """Return the reply if it takes no asking: from the cache, or a refusal."""
        key = key_of(query)
        if not self.routes.upstreams_of(key.question[:-4]):
            return self._error(query, Rcode.REFUSED)
        cached = self._cache.find(key, self._clock())
        if cached is None or (cached.is_stale and cached.is_retry_due):
            return None
        if cached.is_prefetch_due and key not in self._flights and self._has_spare_flights:
            self.events["prefetch"] += 1
            _ = self._start(key)  # its flight goes on by itself
        self.events["stale" if cached.is_stale else "cache_hit"] += 1
        reply = self._from_cache(query, cached, limit)
        if limit < MAX_TCP_BYTES:
            if len(self._recent) >= MAX_RECENT:
                self._recent.clear()
            label = (ZONE, cached.reply.rcode)
            self._recent[query.message[2:]] = (cached.until, label, reply[2:])
        return reply

    async def resolve(self, query: Query, limit: int, client: bytes = b"") -> bytes:
        """Return the reply, at most *limit* bytes long, asking upstreams if it is not known.

        An answer whose time is over is given when upstreams fail, or take long.
        """
        known = self.known(query, limit)
        if known is not None:
            return known
        key = key_of(query)
        flight = self._flights.get(key)
        if self._is_too_much(client, is_new=flight is None):
            self.events["overload"] += 1
            return self._stale(query, key, limit) or self._error(query, Rcode.SERVFAIL)
        self.events["forwarded" if flight is None else "coalesced"] += 1
        self._waiting[client] += 1
        flight = flight or self._start(key)
        is_kept = self._cache.find(key, self._clock()) is not None
        try:
            if is_kept:
                async with asyncio.timeout(self._patience_seconds):
                    reply = await asyncio.shield(flight)
            else:
                reply = await asyncio.shield(flight)
        except TimeoutError:
            reply = None
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]
        if reply is None:
            return self._stale(query, key, limit) or self._error(query, Rcode.SERVFAIL)
        return self._reply(query, reply, 0, limit)

    @property
    def _has_spare_flights(self) -> bool:
        return len(self._flights) < self._max_flights // 2

    def _is_too_much(self, client: bytes, *, is_new: bool) -> bool:
        """Tell whether to turn a query away; when room gets short, nobody gets beyond a share."""
        waiting = self._waiting.total()
        if waiting >= self._max_waiting or (is_new and len(self._flights) >= self._max_flights):
            return True
        clients = len(self._waiting | Counter([client]))
        own = self._waiting[client]
        is_crowded = waiting >= self._max_waiting // 2
        if is_crowded and clients > 1 and own >= self._max_waiting // (2 * clients):
            return True
        is_busy = is_new and len(self._flights) >= self._max_flights // 2
        return is_busy and clients > 1 and own >= self._max_flights // (2 * clients)

    def _stale(self, query: Query, key: Key, limit: int) -> bytes | None:
        cached = self._cache.find(key, self._clock())
        if cached is None:
            return None
        self.events["stale"] += 1
        return self._from_cache(query, cached, limit)

    def _from_cache(self, query: Query, cached: Cached, limit: int) -> bytes:
        return self._reply(query, cached.reply, cached.age_seconds, limit, is_stale=cached.is_stale)

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
        for each in self._tries:
            each.abandon()
        self._tries.clear()
        await asyncio.sleep(0)  # connections of tries close in their own tasks

    async def _fetch(self, key: Key) -> UpstreamReply | None:
        """Race the two best upstreams, then the next two; None when nobody has a good answer."""
        upstreams = self.routes.upstreams_of(key.question[:-4])
        now = self._clock()
        order = ranked(upstreams, self._standings, now)
        probed = probe_due(order[RACERS:], self._standings, now)
        if probed is not None:
            self._try(probed, key, lambda _: None)
        for turn in range(ROUNDS):
            racers = order[turn * RACERS : (turn + 1) * RACERS] or order[:RACERS]
            reply = await self._race(racers, key)
            if reply is not None:
                self._cache.put(key, reply, self._clock())
                return reply
        self._cache.fail(key, self._clock())
        return None

    async def _race(self, racers: Sequence[HostPort], key: Key) -> UpstreamReply | None:
        """Return the first good answer; who is late is still heard, for its standing."""
        won: asyncio.Future[UpstreamReply | None] = asyncio.get_running_loop().create_future()
        left = len(racers)

        def ended(reply: UpstreamReply | None) -> None:
            nonlocal left
            left -= 1
            if not won.done() and (reply is not None or not left):
                won.set_result(reply)

        tries = [self._try(upstream, key, ended) for upstream in racers]
        try:
            return await won
        finally:
            if len(self._tries) > RACERS * len(self._flights) + MAX_LATE:
                for each in tries:
                    each.abandon()
                    self._tries.discard(each)

    def _try(
        self, upstream: HostPort, key: Key, ended: Callable[[UpstreamReply | None], None]
    ) -> Exchange:
        """Ask one upstream and remember how it did; *ended* gets None unless its answer is good."""
        started = self._clock()

        def remember(result: UpstreamReply | str) -> None:
            self._tries.discard(found)
            now = self._clock()
            standing = self._standings.get(upstream, NEW)
            if not isinstance(result, str) and result.is_good:
                self._standings[upstream] = standing.succeeded(now - started, now)
                ended(result)
                return
            self.failures[upstream, result if isinstance(result, str) else "rcode"] += 1
            self._standings[upstream] = standing.failed(now)
            ended(None)

        found = Exchange(
            upstream,
            key,
            self._rng.getrandbits(16),
            seconds=self._try_seconds,
            ended=remember,
        )
        self._tries.add(found)
        return found

    def _reply(
        self,
        query: Query,
        reply: UpstreamReply,
        age_seconds: int,
        limit: int,
        *,
        is_stale: bool = False,
    ) -> bytes:
        self.counts[ZONE, reply.rcode] += 1
        return render_forwarded(
            query, reply, age_seconds=age_seconds, limit=limit, is_stale=is_stale
        )

    def _error(self, query: Query, rcode: Rcode) -> bytes:
        self.counts[ZONE, rcode] += 1
        return render_reply(query, rcode, Body(), flags=0)
