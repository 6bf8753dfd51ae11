"""The sending end of a feed: the View, the deltas that led to it, and who waits for more."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from phalanx.net.feed.record import (
    HEARTBEAT_SECONDS,
    Delta,
    Heartbeat,
    Numbered,
    Position,
    Record,
    snapshot_of,
)
from phalanx.net.model.view import View, view_delta


class FeedSource:
    """Holds the newest numbered View and serves any number of readers from it.

    Readers pull: a slow one is never waited for and never buffered for, it
    just finds its place in the history, or gets a snapshot when that has
    moved on.
    """

    def __init__(self, *, history: int = 1024) -> None:
        self._history: deque[Delta] = deque(maxlen=history)
        self._current: Numbered | None = None
        self._changed = asyncio.Event()

    @property
    def current(self) -> Numbered | None:
        """Return the newest View, or None before the first."""
        return self._current

    def publish(self, view: View, *, epoch: str) -> None:
        """Make *view* the newest of *epoch*, numbering it; an unchanged view is not news."""
        if self._current is None or self._current.position.epoch != epoch:
            self._history.clear()
            self._current = Numbered(Position(epoch, 1), view)
        else:
            upserts, removals = view_delta(self._current.view, view)
            if not upserts and not removals:
                return
            sequence = self._current.position.sequence + 1
            self._history.append(Delta(sequence, upserts, removals))
            self._current = Numbered(Position(epoch, sequence), view)
        self._wake()

    def relay(self, numbered: Numbered, record: Record) -> None:
        """Pass on a view that came by *record* from upstream, under upstream's number."""
        if isinstance(record, Delta):
            self._history.append(record)
        else:
            self._history.clear()
        self._current = numbered
        self._wake()

    async def records(self, position: Position | None) -> AsyncIterator[Record]:
        """Yield what a reader at *position* lacks, then everything new, with heartbeats.

        Before the first View only heartbeats come.
        """
        while True:
            changed, current = self._changed, self._current  # more may come while we yield
            for record in self._since(position):
                yield record
            position = None if current is None else current.position
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await changed.wait()
            except TimeoutError:
                yield Heartbeat()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _since(self, position: Position | None) -> list[Record]:
        if self._current is None:
            return []
        now = self._current.position
        if position == now:
            return []
        if position is not None and position.epoch == now.epoch:
            missing = [delta for delta in self._history if delta.sequence > position.sequence]
            if missing and missing[0].sequence == position.sequence + 1:
                return list(missing)
        return [snapshot_of(self._current)]
