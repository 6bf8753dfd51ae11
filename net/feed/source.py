"""The sending end of a feed: the View, the deltas that led to it, and who waits for more."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from phalanx.mesos.recordio import encode_record
from phalanx.net.feed.record import (
    HEARTBEAT_SECONDS,
    Delta,
    Heartbeat,
    Numbered,
    Position,
    Record,
    encode,
    parts_of,
    snapshot_of,
)
from phalanx.net.model.view import View, view_delta

BASE_SECONDS = 30.0  # how long the bytes of a whole View are kept for the next reader


class Frame:
    """A record and, once anybody has asked, its bytes on the wire: written once for all readers."""

    __slots__ = ("_raw", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self._raw: bytes | None = None

    @property
    def raw(self) -> bytes:
        """Return the record in RecordIO's framing."""
        if self._raw is None:
            self._raw = encode_record(encode(self.record))
        return self._raw


class _Base(NamedTuple):
    """A whole View from which new readers go on with the history."""

    numbered: Numbered
    forms: dict[bool, Sequence[Frame]]  # in parts, and in one


HEARTBEAT = Frame(Heartbeat())


class FeedSource:
    """Holds the newest numbered View and serves any number of readers from it.

    Readers pull: a slow one is never waited for and never buffered for, it
    just finds its place in the history, or gets a snapshot when that has
    moved on.
    """

    def __init__(self, *, history: int = 1024) -> None:
        self._history: deque[Frame] = deque(maxlen=history)  # deltas, up to the current View
        self._current: Numbered | None = None
        self._base: _Base | None = None
        self._changed = asyncio.Event()

    @property
    def current(self) -> Numbered | None:
        """Return the newest View, or None before the first."""
        return self._current

    def publish(
        self, view: View, *, epoch: str, only: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Make *view* the newest of *epoch*, numbering it; an unchanged view is not news.

        *only* names, for some fields, all keys that changed since the view that was published last.
        """
        if self._current is None or self._current.position.epoch != epoch:
            self._follow(Numbered(Position(epoch, 1), view), None)
            return
        upserts, removals = view_delta(self._current.view, view, only)
        if upserts or removals:
            sequence = self._current.position.sequence + 1
            delta = Delta(sequence, upserts, removals)
            self._follow(Numbered(Position(epoch, sequence), view), delta)

    def relay(self, numbered: Numbered, record: Record) -> None:
        """Pass on a view that came by *record* from upstream, under upstream's number."""
        self._follow(numbered, record if isinstance(record, Delta) else None)

    async def records(self, position: Position | None) -> AsyncIterator[Record]:
        """Yield what a reader at *position* lacks, then everything new, with heartbeats.

        Before the first View only heartbeats come.
        """
        async for frame in self.frames(position):
            yield frame.record

    async def frames(
        self, position: Position | None, *, in_parts: bool = False, once: bool = False
    ) -> AsyncIterator[Frame]:
        """Yield the same as frames; a whole View *in parts* for who can put them together.

        With *once* only what the reader lacks now.
        """
        while True:
            changed, current = self._changed, self._current  # more may come while we yield
            for frame in self._since(position, in_parts=in_parts):
                yield frame
            if once:
                return
            position = None if current is None else current.position
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await changed.wait()
            except TimeoutError:
                yield HEARTBEAT

    def _follow(self, numbered: Numbered, delta: Delta | None) -> None:
        """Make *numbered* the newest View, which *delta* led to, or None, and wake all readers."""
        if delta is None:
            self._history.clear()
            self._base = None
        else:
            self._history.append(Frame(delta))
        self._current = numbered
        self._changed.set()
        self._changed = asyncio.Event()

    def _since(self, position: Position | None, *, in_parts: bool) -> Sequence[Frame]:
        if self._current is None:
            return []
        if position is not None and (deltas := self._deltas(position)) is not None:
            return deltas
        return self._whole(self._current, in_parts=in_parts)

    def _deltas(self, position: Position) -> Sequence[Frame] | None:
        """Return the deltas that a reader at *position* lacks; None if some of them are gone."""
        assert self._current is not None
        now = self._current.position
        lacks = now.sequence - position.sequence
        if position.epoch != now.epoch or not 0 <= lacks <= len(self._history):
            return None
        return list(islice(reversed(self._history), lacks))[::-1]

    def _whole(self, current: Numbered, *, in_parts: bool) -> Sequence[Frame]:
        """Return a whole View and the deltas since: many readers that come at once share it."""
        deltas = None if self._base is None else self._deltas(self._base.numbered.position)
        if self._base is None or deltas is None:
            deltas = ()
            self._base = _Base(current, {})
            asyncio.get_running_loop().call_later(BASE_SECONDS, self._let_go, self._base)
        numbered, forms = self._base
        if in_parts not in forms:
            records = parts_of(numbered) if in_parts else [snapshot_of(numbered)]
            forms[in_parts] = [Frame(record) for record in records]
        return [*forms[in_parts], *deltas]

    def _let_go(self, base: _Base) -> None:
        """Free the bytes of a whole View."""
        if self._base is base:
            self._base = None
