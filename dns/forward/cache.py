"""A bounded memory of upstreams' answers; it is told the time (RFC 2308, 8767)."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from phalanx.dns.forward.message import Key, UpstreamReply

MAX_ENTRIES = 10_000
MAX_BYTES = 32 << 20  # of records and questions
STALE_SECONDS = 86400  # for which an answer may still be given after its time, if need be
STALE_RETRY_SECONDS = 30.0  # between two attempts to have a fresh one, while upstreams fail
PREFETCH_PART = 0.9  # of its lifetime; later a hot answer is fetched anew ahead of its end
PREFETCH_HITS = 2


@dataclass(slots=True)
class _Entry:
    reply: UpstreamReply
    since: float
    size: int
    hits: int = 0
    retry_at: float = 0.0


class Cached(NamedTuple):
    """An answer and how long it has been here."""

    reply: UpstreamReply
    age_seconds: int
    until: float  # the moment from which it is a second older
    is_stale: bool = False  # its time is over
    is_retry_due: bool = True  # for a stale one: upstreams have not failed just now
    is_prefetch_due: bool = False


class Cache:
    """Holds an answer for its least TTL and, as stale, for a day more.

    The one unused for longest makes room. Failures never get in, so they
    never push a good answer out.
    """

    def __init__(
        self,
        max_entries: int = MAX_ENTRIES,
        *,
        max_bytes: int = MAX_BYTES,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._stale_seconds = stale_seconds
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()  # a dict finds its first slowly

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Cached | None:
        """Return the answer to *key* if it is here and still good at *now*."""
        found = self.find(key, now)
        return None if found is None or found.is_stale else found

    def find(self, key: Key, now: float) -> Cached | None:
        """Return the answer to *key*, stale or not, None if it is not here."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age = int(now - entry.since)
        lifetime = entry.reply.lifetime_seconds
        if age >= lifetime + self._stale_seconds:
            self._forget(key)
            return None
        self._entries.move_to_end(key)
        until = entry.since + age + 1
        if age >= lifetime:
            return Cached(
                entry.reply, age, until, is_stale=True, is_retry_due=now >= entry.retry_at
            )
        entry.hits += 1
        is_due = entry.hits >= PREFETCH_HITS and age >= PREFETCH_PART * lifetime
        return Cached(entry.reply, age, until, is_prefetch_due=is_due and now >= entry.retry_at)

    def put(self, key: Key, reply: UpstreamReply, now: float) -> None:
        """Keep *reply* from *now* on, unless it must not be kept."""
        entries = self._entries
        if key in entries:
            self._forget(key)
        size = len(key) + len(reply.records)
        if reply.lifetime_seconds <= 0 or size > self._max_bytes:
            return
        while entries and (
            len(entries) >= self._max_entries or self._bytes + size > self._max_bytes
        ):
            self._bytes -= entries.popitem(last=False)[1].size
        entries[key] = _Entry(reply, now, size)
        self._bytes += size

    def fail(self, key: Key, now: float) -> None:
        """Remember that no upstream had an answer to *key*: one is not asked for again at once."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.retry_at = now + STALE_RETRY_SECONDS

    def _forget(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size
