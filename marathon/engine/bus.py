"""The event stream inside the process: one publisher, many readers, at most once."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

import msgspec

from phalanx.marathon.model.moment import moment

MAX_BEHIND = 1024  # events kept for readers however old they are
PATIENCE_SECONDS = 2.0  # for which they are kept however many: a burst is no reader's fault
MOST_BEHIND = 100_000
MOST_BYTES = 64 * 1024 * 1024  # kept for readers that are behind: a plan may have megabytes
MOST_AT_ONCE = 256  # events that a reader gets together
# For each reader, after which those that wait hear of more: to wake one takes half of this.
REST_SECONDS = 2e-4
MOST_REST_SECONDS = 0.5
_HEAVY = ("original", "target")

Fields = Mapping[str, object]


class Happening:
    """One event; its bytes are made once for all readers, as soon as one asks for them."""

    __slots__ = ("_heavy", "_light", "at", "fields", "kind")

    def __init__(self, kind: str, fields: Fields, at: float) -> None:
        self.kind = kind
        self.fields = fields
        self.at = at
        self._heavy: bytes | None = None
        self._light: bytes | None = None

    @property
    def size(self) -> int:
        """Return how many bytes were made."""
        return len(self._heavy or b"") + len(self._light or b"")

    def framed(self, *, is_light: bool) -> bytes:
        """Return the event as the stream has it; a light one without its plan's groups."""
        if is_light and isinstance(plan := self.fields.get("plan"), dict):
            if self._light is None:
                small = {key: value for key, value in plan.items() if key not in _HEAVY}
                self._light = self._frame({**self.fields, "plan": small})
            return self._light
        if self._heavy is None:
            self._heavy = self._frame(self.fields)
        return self._heavy

    def _frame(self, fields: Fields) -> bytes:
        return b"event: %b\r\ndata: %b\r\n\r\n" % (self.kind.encode(), msgspec.json.encode(fields))


class Reader:
    """One reader's place among the events; *drop* is called when it lost it."""

    def __init__(self, bus: "Bus", kinds: Collection[str], drop: Callable[[], None]) -> None:
        self._bus = bus
        self._kinds = frozenset(kinds)
        self.at = bus.end
        self.drop = drop

    def wants(self, kind: str) -> bool:
        """Tell whether the reader asked for events of this kind."""
        return not self._kinds or kind in self._kinds

    async def next(self) -> Sequence[Happening] | None:
        """Return the next events once there are any; None for a reader that fell behind."""
        while True:
            found = self._bus.since(self.at)
            if found is None:
                return None
            self.at += len(found)
            wanted = [happening for happening in found if self.wants(happening.kind)]
            if wanted:
                return wanted
            if not found:
                await self._bus.more()


class Bus:
    """Keeps what happened for a while, for every reader to follow at its own pace.

    A reader is dropped when it is further behind than what is kept: 1,024 events, and all of
    the last two seconds. What it costs to publish does not depend on how many read.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._readers: set[Reader] = set()
        self._kept: deque[Happening] = deque()
        self._first = 0  # the number of the oldest that is kept
        self._looked_at = 0.0
        self._arrived = asyncio.Event()
        self._waking: asyncio.TimerHandle | None = None
        self.told: Counter[str] = Counter()  # by kind; of task updates also by kind and state

    @property
    def end(self) -> int:
        """Return the number of the event that comes next."""
        return self._first + len(self._kept)

    def publish(self, kind: str, **fields: object) -> None:
        """Tell that something happened; never blocks."""
        self.told[kind] += 1
        if "taskStatus" in fields:
            self.told[f"{kind}:{fields['taskStatus']}"] += 1
        if not self._readers:
            return
        now = self._clock()
        whole = {**fields, "eventType": kind, "timestamp": moment(now)}
        self._kept.append(Happening(kind, whole, now))
        self._trim(now)
        if self._waking is None:
            rest = min(MOST_REST_SECONDS, REST_SECONDS * len(self._readers))
            self._waking = asyncio.get_running_loop().call_later(rest, self._wake)

    def tell(self, kind: str, make: Callable[[], Fields]) -> None:
        """Tell that something happened; *make* gives the fields, if anybody reads them."""
        if any(reader.wants(kind) for reader in self._readers):
            self.publish(kind, **make())
        else:
            self.told[kind] += 1

    @property
    def kept(self) -> int:
        """Return how many events are kept."""
        return len(self._kept)

    @contextmanager
    def reading(
        self, kinds: Collection[str] = (), *, drop: Callable[[], None] = lambda: None
    ) -> Iterator[Reader]:
        """Give a reader of the events of these kinds (none given: all) while the context lasts.

        *drop* is called once it is too far behind to go on, whatever it is waiting for.
        """
        reader = Reader(self, kinds, drop)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            if not self._readers:
                self._first = self.end
                self._kept.clear()

    def since(self, number: int) -> Sequence[Happening] | None:
        """Return some events from *number* on, in their order; None if it is no longer kept."""
        lacks = self.end - number
        if number < self._first:
            return None
        if lacks > MOST_AT_ONCE:
            begin = number - self._first
            return list(islice(self._kept, begin, begin + MOST_AT_ONCE))
        return list(islice(reversed(self._kept), lacks))[::-1]

    async def more(self) -> None:
        """Return soon after something has happened."""
        await self._arrived.wait()

    def _wake(self) -> None:
        self._waking = None
        self._arrived.set()
        self._arrived = asyncio.Event()

    def _trim(self, now: float) -> None:
        """Let go of what is kept for too long, and now and then of all that everybody has."""
        while len(self._kept) > MAX_BEHIND and (
            len(self._kept) > MOST_BEHIND or now - self._kept[0].at > PATIENCE_SECONDS
        ):
            self._let_go()
        if 0 <= now - self._looked_at < PATIENCE_SECONDS:
            return
        self._looked_at = now
        read = min(reader.at for reader in self._readers)
        while self._first < read:
            self._let_go()
        size = sum(happening.size for happening in self._kept)
        while size > MOST_BYTES:
            size -= self._let_go().size
        for reader in [reader for reader in self._readers if reader.at < self._first]:
            self._readers.discard(reader)
            reader.drop()

    def _let_go(self) -> Happening:
        self._first += 1
        return self._kept.popleft()
