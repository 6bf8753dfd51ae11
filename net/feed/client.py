"""The receiving end of a feed: follow one of several sources for ever."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import aiohttp
import structlog

from phalanx.core.error import ProtocolError, UnavailableError
from phalanx.mesos.recordio import RecordDecoder
from phalanx.net.feed.record import HEARTBEAT_SECONDS, Assembly, Numbered, Record, decode

log = structlog.get_logger()

SILENCE_SECONDS = 4 * HEARTBEAT_SECONDS
RETRY_SECONDS = (0.1, 2.0)  # first and longest wait between two attempts


async def follow(
    urls: Sequence[str], *, known: Numbered | None = None
) -> AsyncIterator[tuple[Numbered, Record]]:
    """Yield each new View with the record that brought it, from whichever source answers.

    *urls* are bases like ``http://198.18.0.2:5050``; a redirect is followed. A
    source that is silent for 4 s, ends, or breaks the protocol is left for the
    next one, resuming where we stand. Never ends by itself.
    """
    async with aiohttp.ClientSession() as session:
        wait = RETRY_SECONDS[0]
        attempt = 0
        while True:
            url = urls[attempt % len(urls)]
            attempt += 1
            try:
                async for numbered, record in _read(session, url, known):
                    wait = RETRY_SECONDS[0]
                    known = numbered
                    yield numbered, record
            except ProtocolError as error:
                log.warning("feed_broken", source=url, error=str(error))
                known = None
            except (aiohttp.ClientError, OSError, TimeoutError, UnavailableError) as error:
                log.info("feed_lost", source=url, error=str(error) or type(error).__name__)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, RETRY_SECONDS[1])


async def _read(
    session: aiohttp.ClientSession, url: str, known: Numbered | None
) -> AsyncIterator[tuple[Numbered, Record]]:
    at = {"parts": "yes"}
    if known is not None:
        at |= {"epoch": known.position.epoch, "sequence": str(known.position.sequence)}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=SILENCE_SECONDS)
    async with session.get(f"{url}/v1/feed", params=at, timeout=timeout) as response:
        if response.status != 200:
            raise UnavailableError(f"status {response.status}")
        log.info("feed_opened", source=url)
        decoder, assembly = RecordDecoder(), Assembly(known)
        async for chunk in response.content.iter_any():
            for raw in decoder.feed(chunk):
                record = decode(raw)
                numbered = assembly.take(record)
                if numbered is not None and numbered is not known:
                    yield numbered, record
                known = numbered
