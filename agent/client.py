"""The agent's end of the wire to the master: find the leader, subscribe, listen, tell."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.parse import urljoin, urlsplit

import aiohttp
import structlog

from phalanx.core.config import HostPort
from phalanx.core.error import InvalidError, ProtocolError, UnavailableError
from phalanx.mesos.agent_protocol import (
    HEARTBEAT_SECONDS,
    PATH,
    STREAM_HEADER,
    AgentCall,
    AgentEvent,
)
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.v1.codec import decode, encode

log = structlog.get_logger()

SILENCE_SECONDS = 4 * HEARTBEAT_SECONDS
RETRY_SECONDS = (0.1, 2.0)  # first and longest wait between two attempts
MOST_REDIRECTS = 5
STREAM_IS_OVER = frozenset({307, 403, 503})
JSON = {"Content-Type": "application/json", "Accept": "application/json"}

Subscribe = Callable[[], AgentCall]
Take = Callable[[AgentEvent], Awaitable[None]]


def leader_url(url: str, location: str) -> str:
    """Return where a redirect leads: ``//host:port`` alone means the same path over there."""
    there = urlsplit(urljoin(url, location))
    path = PATH if there.path in ("", "/") else there.path
    return f"{there.scheme}://{there.netloc}{path}"


class MasterClient:
    """One agent's connection to whichever master leads.

    *subscribe* makes the first call anew for each attempt; *take* is given each
    event in order; *lost* is called when a stream that worked is over.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        masters: Sequence[HostPort],
        *,
        subscribe: Subscribe,
        take: Take,
        lost: Callable[[], None],
        rng: random.Random,
    ) -> None:
        self._session = session
        self._masters = masters
        self._subscribe = subscribe
        self._take = take
        self._lost = lost
        self._rng = rng
        self._url: str | None = None
        self._stream_id = ""
        self._response: aiohttp.ClientResponse | None = None
        self._connected = asyncio.Event()

    @property
    def master(self) -> str | None:
        """Return the URL of the master that we are subscribed to."""
        return self._url

    async def run(self) -> None:
        """Stay subscribed for ever."""
        wait = RETRY_SECONDS[0]
        attempt = 0
        while True:
            master = self._masters[attempt % len(self._masters)]
            attempt += 1
            try:
                async for event in self._stream(master.url + PATH):
                    wait = RETRY_SECONDS[0]
                    await self._take(event)
                reason = "the stream ended"
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            except (InvalidError, ProtocolError, UnavailableError) as error:
                reason = str(error)
            was_connected = self._url is not None
            self._url = None
            self._connected.clear()
            if was_connected:
                self._lost()
                attempt -= 1  # the same master first: it may only have dropped the stream
            log.info("master_lost", master=str(master), reason=reason)
            await asyncio.sleep(wait * self._rng.uniform(0.5, 1.0))
            wait = min(wait * 2, RETRY_SECONDS[1])

    async def _stream(self, url: str) -> AsyncIterator[AgentEvent]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=SILENCE_SECONDS)
        for _ in range(MOST_REDIRECTS):
            async with self._session.post(
                url,
                data=encode(self._subscribe()),
                headers=JSON,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status == 307:
                    url = leader_url(url, response.headers.get("Location", ""))
                    continue
                if response.status != 200:
                    text = (await response.text())[:200]
                    raise UnavailableError(f"status {response.status}: {text}")
                self._stream_id = response.headers.get(STREAM_HEADER, "")
                self._response = response
                decoder = RecordDecoder()
                async for chunk in response.content.iter_any():
                    for raw in decoder.feed(chunk):
                        event = decode(AgentEvent, raw)
                        if event.type == "SUBSCRIBED":
                            self._url = url
                            self._connected.set()
                            log.info("subscribed", master=url)
                        yield event
                return
        raise UnavailableError(f"{MOST_REDIRECTS} redirects and no leader")

    async def send(self, call: AgentCall) -> None:
        """Send a call on our stream; raise UnavailableError if it did not get there.

        A master that no longer holds our stream, or no longer leads, makes us subscribe anew.
        """
        if self._url is None:
            raise UnavailableError("no master")
        try:
            async with self._session.post(
                self._url,
                data=encode(call),
                headers={**JSON, STREAM_HEADER: self._stream_id},
                timeout=aiohttp.ClientTimeout(total=SILENCE_SECONDS),
                allow_redirects=False,
            ) as response:
                if response.status in STREAM_IS_OVER and self._response is not None:
                    self._response.close()
                if response.status not in (200, 202):
                    text = (await response.text())[:200]
                    raise UnavailableError(f"status {response.status}: {text}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnavailableError(str(error) or type(error).__name__) from error

    async def beat(self) -> None:
        """Tell the master every second that we live, for ever."""
        while True:
            await self._connected.wait()
            try:
                await self.send(AgentCall(type="HEARTBEAT"))
            except UnavailableError as error:
                log.info("heartbeat_not_sent", error=str(error))
            await asyncio.sleep(HEARTBEAT_SECONDS)
