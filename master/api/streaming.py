"""Answer a request with an event stream."""

import asyncio
import socket
from collections.abc import Callable, Mapping

from aiohttp import HttpVersion11, web

from phalanx.master.stream import Stream

# A host that loses power says no goodbye; what it leaves unacknowledged this long ends its stream.
DEAF_SECONDS = 60


async def respond(
    request: web.Request,
    stream: Stream,
    *,
    headers: Mapping[str, str],
    heartbeat: bytes,
    every_seconds: float,
    on_end: Callable[[], None],
) -> web.StreamResponse:
    """Send what comes through *stream* until either side ends it, with heartbeats between.

    *on_end* is called in any case.
    """
    _notice_death(request)
    response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
    if request.version >= HttpVersion11:  # an older reader gets it until the end
        response.enable_chunked_encoding()
    stream.on_drop = lambda: _abort(request)
    beating = asyncio.ensure_future(_beat(stream, heartbeat, every_seconds))
    try:
        await response.prepare(request)
        async for chunk in stream.chunks():
            await response.write(chunk)
        await response.write_eof()
    except ConnectionError:
        pass  # the subscriber is gone; on_end knows what that means
    finally:
        beating.cancel()
        on_end()
    return response


async def _beat(stream: Stream, heartbeat: bytes, every_seconds: float) -> None:
    while not stream.is_closed:
        await asyncio.sleep(every_seconds)
        stream.send(heartbeat)


def _notice_death(request: web.Request) -> None:
    """Let the kernel end the connection once its other end has been deaf for too long."""
    end = None if request.transport is None else request.transport.get_extra_info("socket")
    if end is not None:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAF_SECONDS * 1000)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
