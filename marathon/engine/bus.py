"""The event stream inside the process: one publisher, many readers, at most once."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from phalanx.marathon.model.moment import moment

MAX_BEHIND = 1024

Happening = Mapping[str, object]


class Reader:
    """One reader's queue; None in it is the end, for a reader that fell behind."""

    def __init__(self, kinds: Collection[str]) -> None:
        self._kinds = frozenset(kinds)
        self.queue: asyncio.Queue[Happening | None] = asyncio.Queue()

    def wants(self, kind: str) -> bool:
        """Tell whether the reader asked for events of this kind."""
        return not self._kinds or kind in self._kinds


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
        happening = {**fields, "eventType": kind, "timestamp": moment(self._clock())}
        for reader in [reader for reader in self._readers if reader.wants(kind)]:
            if reader.queue.qsize() >= MAX_BEHIND:
                self._readers.discard(reader)
                reader.queue.put_nowait(None)
            else:
                reader.queue.put_nowait(happening)

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
