"""The receiving end of a feed: follow one of several sources for ever."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence

import aiohttp
import structlog

from phalanx.core.error import ProtocolError, UnavailableError
from phalanx.mesos.recordio import RecordDecoder
from phalanx.net.feed.record import (
    HEARTBEAT_SECONDS,
    Assembly,
    Numbered,
    Part,
    Position,
    Record,
    decode,
)
from phalanx.net.model.view import View

log = structlog.get_logger()

SILENCE_SECONDS = 4 * HEARTBEAT_SECONDS
BEHIND_SECONDS = 4.0  # a source may be behind what we know before it is left
MOST_EPOCHS = 64  # that have ended and are remembered
LARGE_BYTES = 1 << 16  # of a record that a thread reads: it takes some milliseconds
RETRY_SECONDS = (0.1, 2.0)  # first and longest wait between two attempts


async def follow(
    urls: Sequence[str], *, known: Numbered | None = None, alike: View | None = None
) -> AsyncIterator[tuple[Numbered, Record]]:
    """Yield each new View with the record that brought it, from whichever source answers.

    *urls* are bases like ``http://198.18.0.2:5050``; a redirect is followed. A
    source that is silent for 4 s, ends, breaks the protocol or stays behind what
    another said is left for the next one, resuming where we stand. Views never
    go back. Never ends by itself. *alike* is a View that the first may share objects with.
    """
    past: deque[str] = deque(maxlen=MOST_EPOCHS)
    async with aiohttp.ClientSession() as session:
        wait = RETRY_SECONDS[0]
        attempt = 0
        while True:
            url = urls[attempt % len(urls)]
            attempt += 1
            begun = asyncio.get_running_loop().time()
            try:
                async for numbered, record in _read(session, url, known, past, alike):
                    if known is not None and known.position.epoch != numbered.position.epoch:
                        past.append(known.position.epoch)
                    known = numbered
                    yield numbered, record
            except ProtocolError as error:
                log.warning("feed_broken", source=url, error=str(error))
                alike, known = alike if known is None else known.view, None
            except (aiohttp.ClientError, OSError, TimeoutError, UnavailableError) as error:
                log.info("feed_lost", source=url, error=str(error) or type(error).__name__)
            if asyncio.get_running_loop().time() - begun > RETRY_SECONDS[1]:
                wait = RETRY_SECONDS[0]  # it was a good one
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, RETRY_SECONDS[1])


async def _read(
    session: aiohttp.ClientSession,
    url: str,
    known: Numbered | None,
    past: Collection[str],
    alike: View | None,
) -> AsyncIterator[tuple[Numbered, Record]]:
    at = {"parts": "yes"}
    if known is not None:
        at |= {"epoch": known.position.epoch, "sequence": str(known.position.sequence)}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=SILENCE_SECONDS)
    async with session.get(f"{url}/v1/feed", params=at, timeout=timeout) as response:
        if response.status != 200:
            raise UnavailableError(f"status {response.status}")
        log.info("feed_opened", source=url)
        behind_until = asyncio.get_running_loop().time() + BEHIND_SECONDS
        decoder, assembly = RecordDecoder(), Assembly(known, alike=alike)
        async for chunk in response.content.iter_any():
            for raw in decoder.feed(chunk):
                is_large = len(raw) > LARGE_BYTES
                record = await asyncio.to_thread(decode, raw) if is_large else decode(raw)
                numbered = assembly.take(record)
                if isinstance(record, Part):
                    await asyncio.sleep(0)  # a chunk may hold many: others have their turn
                if numbered is None or numbered is known:
                    continue
                if known is not None and _is_old(numbered.position, known.position, past):
                    if asyncio.get_running_loop().time() > behind_until:
                        raise UnavailableError(f"is behind: {numbered.position}")
                    continue
                known = numbered
                yield numbered, record


def _is_old(position: Position, known: Position, past: Collection[str]) -> bool:
    """Tell whether a View says nothing new to who has the one at *known*, after *past* epochs.

    A source may be behind another that we followed before: a relay that is slow
    or cut off. A leadership that has ended does not come back.
    """
    if position.epoch == known.epoch:
        return position.sequence <= known.sequence
    return position.epoch in past
