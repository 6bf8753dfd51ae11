"""Answer with pieces that are made while the loop goes on: long reads delay nobody."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Iterator

from aiohttp import HttpVersion11, web

from phalanx.master.operator.reads import Reads
from phalanx.mesos.v1.media import Media, accepts_gzip

SLICE_SECONDS = 0.002  # of writing, before others get on
FIRST_BYTES = 32 * 1024
CHUNK_BYTES = 128 * 1024
DEAF_SECONDS = 60.0  # a reader that takes nothing for so long is cut
GZIP_LEVEL = 1
GZIP = 16 + zlib.MAX_WBITS


async def answer_pieces(
    request: web.Request, pieces: Iterator[bytes], reads: Reads, media: Media = Media.JSON
) -> web.StreamResponse:
    """Answer the joined *pieces*: at once if they are few, else chunk by chunk as they come."""
    reads.touch()
    chunks = in_slices(pieces, reads)
    first = await anext(chunks, b"")
    if len(first) < FIRST_BYTES:
        return web.Response(body=first, headers={"Content-Type": media.value})
    return await _stream(request, first, chunks, media)


async def in_slices(pieces: Iterator[bytes], reads: Reads) -> AsyncIterator[bytes]:
    """Yield the pieces joined to chunks; the loop gets on after every few milliseconds."""
    parts: list[bytes] = []
    size = 0
    wanted = FIRST_BYTES
    is_more = True
    while is_more:
        async with reads.turn:
            until = time.perf_counter() + SLICE_SECONDS
            while time.perf_counter() < until and size < wanted:
                piece = next(pieces, None)
                if piece is None:
                    is_more = False
                    break
                parts.append(piece)
                size += len(piece)
            await asyncio.sleep(0)  # the turn is over only after the loop has gone round
        if size >= wanted or not is_more:
            yield b"".join(parts)
            parts, size, wanted = [], 0, CHUNK_BYTES


async def _stream(
    request: web.Request, first: bytes, rest: AsyncIterator[bytes], media: Media
) -> web.StreamResponse:
    headers = {"Content-Type": media.value}
    callback = request.query.get("jsonp") if media is Media.JSON else None
    if callback is not None:
        headers["Content-Type"] = "text/javascript"
        first = b"%b(%b" % (callback.encode(errors="replace"), first)
    packer = None
    if accepts_gzip(request.headers.get("Accept-Encoding")):
        headers["Content-Encoding"] = "gzip"
        packer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP)
    response = web.StreamResponse(headers=headers)
    if request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    await response.prepare(request)
    if request.method == "HEAD":
        return response

    async def send(chunk: bytes) -> None:
        if packer is not None:
            chunk = await asyncio.to_thread(packer.compress, chunk)
        if chunk:
            async with asyncio.timeout(DEAF_SECONDS):
                await response.write(chunk)

    try:
        await send(first)
        async for chunk in rest:
            await send(chunk)
        if callback is not None:
            await send(b");")
        if packer is not None:
            await response.write(packer.flush())
        await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # the reader is gone
    return response
