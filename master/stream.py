"""The sending end of one event stream: records for one subscriber, bounded."""

import asyncio
from collections.abc import AsyncIterator, Callable

from phalanx.mesos.recordio import encode_record

MAX_BYTES = 32 * 1024 * 1024


class Stream:
    """A bounded buffer of records between the master and one subscriber.

    Whoever writes never waits. A subscriber that leaves more than *max_bytes*
    unread is dropped: the buffer is emptied and *on_drop* is called, so that
    the connection can be cut.
    """

    def __init__(self, id: str, *, max_bytes: int = MAX_BYTES) -> None:
        self.id = id
        self.on_drop: Callable[[], None] = lambda: None
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._bytes = 0
        self._is_closed = False
        self._changed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing more can be sent."""
        return self._is_closed

    def send(self, payload: bytes) -> None:
        """Add one record; nothing happens when the stream is closed."""
        if self._is_closed:
            return
        record = encode_record(payload)
        if self._parts and self._bytes + len(record) > self._max_bytes:
            self.drop()
            return
        self._parts.append(record)
        self._bytes += len(record)
        self._changed.set()

    def close(self) -> None:
        """End the stream after what is already in it."""
        self._is_closed = True
        self._changed.set()

    def drop(self) -> None:
        """End the stream at once, unread records and all."""
        self._parts.clear()
        self._bytes = 0
        self.close()
        self.on_drop()

    def take(self) -> bytes:
        """Return everything sent since the last time, and make room for more."""
        taken = b"".join(self._parts)
        self._parts.clear()
        self._bytes = 0
        return taken

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield everything sent, joined to few pieces, until the stream is closed."""
        while True:
            if self._parts:
                yield self.take()
            elif self._is_closed:
                return
            else:
                self._changed.clear()
                await self._changed.wait()
