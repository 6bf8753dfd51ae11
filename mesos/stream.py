"""The sending end of one event stream: records for one subscriber, bounded."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from phalanx.mesos.recordio import encode_record
from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.media import RECORDIO, Media, encode_as

MAX_BYTES = 32 * 1024 * 1024


class Record:
    """A message framed at most once per content type, however many streams it goes to."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._framed: dict[Media, bytes] = {}

    def framed(self, media: Media) -> bytes:
        """Return the message as a record of *media*."""
        record = self._framed.get(media)
        if record is None:
            record = self._framed[media] = encode_record(encode_as(media, self._message))
        return record


class Stream:
    """A bounded buffer of records for one subscriber.

    Whoever writes never waits. A subscriber that leaves more than *max_bytes*
    unread is dropped: the buffer is emptied and *on_drop* is called, so that
    the connection can be cut. *media* is how this subscriber wants its
    messages; *is_recordio* whether it asked for the framing by name.
    """

    def __init__(
        self,
        id: str,
        *,
        media: Media = Media.JSON,
        is_recordio: bool = False,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.id = id
        self.media = media
        self.is_recordio = is_recordio
        self.on_drop: Callable[[], None] = lambda: None
        self._max_bytes = max_bytes
        self._parts: deque[bytes] = deque()
        self._bytes = 0
        self._is_closed = False
        self._changed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing more can be sent."""
        return self._is_closed

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that say what the stream carries (reference mesos §0.3)."""
        if self.is_recordio:
            return {"Content-Type": RECORDIO, "Message-Content-Type": self.media.value}
        return {"Content-Type": self.media.value}

    def send(self, what: Message | Record | bytes) -> None:
        """Add one record; nothing happens when the stream is closed.

        A message is written as this stream's *media*; a Record is written once
        for all streams of a kind; bytes are a payload that is already written.
        """
        if self._is_closed:
            return
        if isinstance(what, Record):
            record = what.framed(self.media)
        elif isinstance(what, bytes):
            record = encode_record(what)
        else:
            record = encode_record(encode_as(self.media, what))
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

    async def records(self) -> AsyncIterator[bytes]:
        """Yield each record sent, framed, until the stream is closed."""
        while True:
            if self._parts:
                record = self._parts.popleft()
                self._bytes -= len(record)
                yield record
            elif self._is_closed:
                return
            else:
                self._changed.clear()
                await self._changed.wait()
