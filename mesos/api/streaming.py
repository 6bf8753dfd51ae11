"""Event streams out, record streams in."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

from aiohttp import ClientPayloadError, HttpVersion11, web

from phalanx.core.api.cut import cut
from phalanx.core.error import InvalidError, ProtocolError
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.media import Media, decode_as

M = TypeVar("M", bound=Message)

# A host that loses power says no goodbye; what it leaves unacknowledged this long ends its stream.
DEAF_SECONDS = 60
MAX_RECORD_BYTES = 4 * 1024 * 1024

# Whether what we send is still ours to say; a server without it always may.
MAY_SEND: web.AppKey[Callable[[], bool]] = web.AppKey("may_send")


async def respond(
    request: web.Request,
    stream: Stream,
    *,
    headers: Mapping[str, str] | None = None,
    preamble: AsyncIterator[bytes] | None = None,
    heartbeat: Message | bytes | None = None,
    every_seconds: float = 15.0,
    on_end: Callable[[], None],
) -> web.StreamResponse:
    """Send what comes through *stream* until either side ends it, with heartbeats between.

    *preamble* goes before everything that comes through the stream, which meanwhile keeps it.
    The stream itself says its content type. *on_end* is called in any case.
    Each piece is sent only while the application's MAY_SEND, if it has one, says
    so: a leader that was stopped and deposed must not go on with what it had to say,
    nor its kernel with what is on its way.
    """
    may_send = request.app.get(MAY_SEND, _always)
    _notice_death(request)
    response = web.StreamResponse(headers={**stream.headers, **(headers or {})})
    if request.version >= HttpVersion11:  # an older reader gets it until the end
        response.enable_chunked_encoding()
    stream.on_drop = lambda: _abort(request)
    beating = None
    if heartbeat is not None:
        beating = asyncio.ensure_future(_beat(stream, heartbeat, every_seconds))
    try:
        await response.prepare(request)
        if preamble is not None:
            async for chunk in preamble:
                if not may_send():
                    stream.drop()
                    break
                await response.write(chunk)
        # Each record is one chunk, as in Mesos: there are clients that take one for the other.
        async for record in stream.records():
            if not may_send():
                stream.drop()
                break
            await response.write(record)
        await response.write_eof()
    except ConnectionError:
        pass  # the subscriber is gone; on_end knows what that means
    finally:
        if beating is not None:
            beating.cancel()
        if not may_send():
            cut(request.transport)
        on_end()
    return response


async def read_records(
    request: web.Request, *, max_bytes: int = MAX_RECORD_BYTES
) -> AsyncIterator[bytes]:
    """Yield the records of a request that is a stream itself, each as it becomes whole.

    No more is read from the connection than the caller has asked for. Raises
    InvalidError for a length that is none or is over *max_bytes*, and when the
    stream ends within a record.
    """
    decoder = RecordDecoder(max_bytes=max_bytes)
    try:
        async for chunk in request.content.iter_any():
            for record in decoder.feed(chunk):
                yield record
    except ProtocolError as error:
        raise InvalidError(f"Failed to decode record: {error}") from error
    except (ClientPayloadError, web.RequestPayloadError) as error:
        raise InvalidError(f"Failed to read request body: {error}") from error
    if decoder.is_amid:
        raise InvalidError("Received EOF while reading request body")


async def read_calls(
    request: web.Request, kind: type[M], media: Media, *, max_bytes: int = MAX_RECORD_BYTES
) -> AsyncIterator[M]:
    """Yield the calls of a request that is a stream itself; raise InvalidError as in any call."""
    async for record in read_records(request, max_bytes=max_bytes):
        yield decode_as(media, kind, record)


def _always() -> bool:
    return True


async def _beat(stream: Stream, heartbeat: Message | bytes, every_seconds: float) -> None:
    while not stream.is_closed:
        await asyncio.sleep(every_seconds)
        stream.send(heartbeat)


def _notice_death(request: web.Request) -> None:
    """Let the kernel end the connection once its other end has been deaf for too long."""
    end = None if request.transport is None else request.transport.get_extra_info("socket")
    if end is not None and end.family != socket.AF_UNIX:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAF_SECONDS * 1000)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
