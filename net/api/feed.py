"""``GET /v1/feed``: the feed over HTTP, RecordIO of JSON records, served by master and plane."""

import asyncio
from collections.abc import Callable

from aiohttp import HttpVersion11, web

from phalanx.core.api.cut import cut
from phalanx.core.error import InvalidError
from phalanx.net.feed.record import Part, Position
from phalanx.net.feed.source import FeedSource

PATH = "/v1/feed"
LONGEST_NUMBER = 20  # digits


def feed_route(
    source: Callable[[], FeedSource], *, may_send: Callable[[], bool] = lambda: True
) -> web.RouteDef:
    """Return the route; *source* is asked anew for each reader and may raise UnavailableError.

    Each record goes out only while *may_send* says so, else the connection is
    cut: a leader that was stopped and deposed must not go on with its View.
    A reader resumes with ``?epoch=E&sequence=N``, the position of its last record,
    and says ``parts=yes`` when it can put a SNAPSHOT together from PARTs. With
    ``once=yes`` the answer ends with what there is now.
    """

    async def get_feed(request: web.Request) -> web.StreamResponse:
        position = _position(request)
        query = request.query
        frames = source().frames(position, in_parts="parts" in query, once="once" in query)
        response = web.StreamResponse(headers={"Content-Type": "application/recordio"})
        if request.version >= HttpVersion11:  # an older reader gets it until the end
            response.enable_chunked_encoding()
        await response.prepare(request)
        async for frame in frames:
            if not may_send():
                cut(request.transport)
                break
            await response.write(frame.raw)
            if isinstance(frame.record, Part):
                await asyncio.sleep(0)  # hundreds may follow, and others wait
        return response

    return web.get(PATH, get_feed, allow_head=False)  # a stream has no head to look at


def _position(request: web.Request) -> Position | None:
    epoch = request.query.get("epoch")
    if epoch is None:
        return None
    text = request.query.get("sequence", "")
    if not text.isdecimal() or len(text) > LONGEST_NUMBER:
        raise InvalidError(f"sequence: {text[:LONGEST_NUMBER]!r} is not a number that we gave")
    return Position(epoch, int(text))
