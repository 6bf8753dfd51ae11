"""The event stream inside the process: one publisher, many readers, at most once."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from phalanx.marathon.model.moment import moment

MAX_BEHIND = 1024  # of a reader that has not read for so many seconds; a burst is not its fault
PATIENCE_SECONDS = 2.0
MOST_BEHIND = 100_000

Happening = Mapping[str, object]


class Reader:
    """One reader's queue; None in it is the end, for a reader that fell behind."""

    def __init__(self, kinds: Collection[str]) -> None:
        self._kinds = frozenset(kinds)
        self._waiting: deque[tuple[float, Happening | None]] = deque()  # with when each came
        self._arrived = asyncio.Event()

    def wants(self, kind: str) -> bool:
        """Tell whether the reader asked for events of this kind."""
        return not self._kinds or kind in self._kinds

    async def next(self) -> Happening | None:
        """Return the next event once there is one; None at the end."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()[1]

    def put(self, happening: Happening | None, now: float) -> None:
        """Let the reader have an event, or its end."""
        self._waiting.append((now, happening))
        self._arrived.set()

    def is_behind(self, now: float) -> bool:
        """Tell whether the reader is too slow for what happens."""
        unread = len(self._waiting)
        if unread < MAX_BEHIND:
            return False
        return unread >= MOST_BEHIND or now - self._waiting[0][0] > PATIENCE_SECONDS


class Bus:
    """Hands each event to every reader that wants it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._readers: set[Reader] = set()
        self.told: Counter[str] = Counter()  # by kind; of task updates also by kind and state

    def publish(self, kind: str, **fields: object) -> None:
        """Tell that something happened; never blocks."""
        self.told[kind] += 1
        if "taskStatus" in fields:
            self.told[f"{kind}:{fields['taskStatus']}"] += 1
        now = self._clock()
        happening = {**fields, "eventType": kind, "timestamp": moment(now)}
        for reader in [reader for reader in self._readers if reader.wants(kind)]:
            if reader.is_behind(now):
                self._readers.discard(reader)
                reader.put(None, now)
            else:
                reader.put(happening, now)

    def tell(self, kind: str, make: Callable[[], Mapping[str, object]]) -> None:
        """Tell that something happened; *make* gives the fields, if anybody reads them."""
        if any(reader.wants(kind) for reader in self._readers):
            self.publish(kind, **make())
        else:
            self.told[kind] += 1

    @contextmanager
    def reading(self, kinds: Collection[str] = ()) -> Iterator[Reader]:
        """Give a reader of the events of these kinds (none given: all) while the context lasts."""
        reader = Reader(kinds)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)
