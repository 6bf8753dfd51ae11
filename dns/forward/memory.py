"""Replies that take no asking: what is cached, and what was said in just these bytes."""

from collections import Counter
from collections.abc import Callable, Mapping

from phalanx.dns.answer.query import Query, Rcode
from phalanx.dns.answer.ready import Counts, Label, Ready
from phalanx.dns.answer.reply import MAX_TCP_BYTES, RECURSION_AVAILABLE, Body, render_reply
from phalanx.dns.forward.cache import Cache, Cached
from phalanx.dns.forward.message import Key, UpstreamReply, render_forwarded

ZONE = "."  # the zone of foreign names in counts
MAX_RECENT = 4096  # replies that are right as bytes for the rest of a second


class Memory:
    """Holds upstreams' answers and renders them for clients; counts what it renders."""

    def __init__(self, max_cached: int, *, clock: Callable[[], float]) -> None:
        self.events: Counter[str] = Counter()
        self.cache = Cache(max_cached)
        self._counts = Counts()
        self._good = self._counts.cell((ZONE, Rcode.NOERROR))  # most are
        self._hits = Counts()  # of recent replies; they are cache hits, too
        self.recent_replies: dict[bytes, Ready] = {}  # by all but the id
        self._clock = clock

    def __len__(self) -> int:
        """Return how many answers are kept, stale ones included."""
        return len(self.cache)

    @property
    def replies(self) -> Mapping[Label, int]:
        """Return how many replies there were, by zone and rcode."""
        return Counter(self._counts.totals()) + Counter(self._hits.totals())

    @property
    def lookups(self) -> Mapping[str, int]:
        """Return how many queries there were, by how they were served."""
        return self.events + Counter(cache_hit=sum(self._hits.totals().values()))

    def recent(self, message: bytes, rest: bytes) -> bytes | None:
        """Return the reply to a datagram that asks as another did within the same second.

        *rest* is all of it but the id.
        """
        found = self.recent_replies.get(rest)
        if found is None:
            return None
        until, cell, _, [reply] = found
        if self._clock() >= until:
            del self.recent_replies[rest]
            return None
        cell[0] += 1
        return message[:2] + reply

    def find(self, key: Key) -> Cached | None:
        """Return what is kept, however old."""
        return self.cache.find(key, self._clock())

    def answer(self, query: Query, cached: Cached, limit: int) -> bytes:
        """Return the reply from what is kept, at most *limit* bytes long."""
        self.events["stale" if cached.is_stale else "cache_hit"] += 1
        reply = self._aged(query, cached, limit)
        is_for_one = query.edns is not None and query.edns.echo
        if limit < MAX_TCP_BYTES and not is_for_one:
            if len(self.recent_replies) >= MAX_RECENT:
                self.recent_replies.clear()
            cell = self._hits.cell((ZONE, cached.reply.rcode))
            self.recent_replies[query.message[2:]] = (cached.until, cell, 1, (reply[2:],))
        return reply

    def stale(self, query: Query, key: Key, limit: int) -> bytes | None:
        """Return the reply from what is kept, however old it is."""
        cached = self.find(key)
        if cached is None:
            return None
        self.events["stale"] += 1
        return self._aged(query, cached, limit)

    def fresh(self, query: Query, reply: UpstreamReply, limit: int) -> bytes:
        """Return the reply from what an upstream said just now."""
        if reply.rcode:
            self._counts.add((ZONE, reply.rcode))
        else:
            self._good[0] += 1
        return render_forwarded(query, reply, age_seconds=0, limit=limit)

    def _aged(self, query: Query, cached: Cached, limit: int) -> bytes:
        self._counts.add((ZONE, cached.reply.rcode))
        return render_forwarded(
            query,
            cached.reply,
            age_seconds=cached.age_seconds,
            limit=limit,
            is_stale=cached.is_stale,
        )

    def error(self, query: Query, rcode: Rcode) -> bytes:
        """Return a reply without records."""
        self._counts.add((ZONE, rcode))
        flags = 0 if rcode == Rcode.REFUSED else RECURSION_AVAILABLE
        return render_reply(query, rcode, Body(), flags=flags)
