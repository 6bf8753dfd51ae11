"""A bounded memory of upstreams' answers; it is told the time."""

from dataclasses import dataclass

from phalanx.dns.forward.message import Key, UpstreamReply

MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer and how long it has been here."""

    reply: UpstreamReply
    age_seconds: int


class Cache:
    """Holds an answer for as long as its least TTL; the one unused for longest makes room."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._entries: dict[Key, tuple[UpstreamReply, float]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Cached | None:
        """Return the answer to *key* if it is here and still good at *now*."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        reply, since = entry
        age = int(now - since)
        if age >= reply.lifetime_seconds:
            return None
        self._entries[key] = entry
        return Cached(reply, age)

    def put(self, key: Key, reply: UpstreamReply, now: float) -> None:
        """Keep *reply* from *now* on, unless it must not be kept."""
        self._entries.pop(key, None)
        if reply.lifetime_seconds <= 0:
            return
        if len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (reply, now)
