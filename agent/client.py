"""The agent's end of the wire to the master: find the leader, subscribe, listen, tell."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

import aiohttp
import structlog

from phalanx.core.detector import Detector
from phalanx.core.error import InvalidError, ProtocolError, UnavailableError
from phalanx.mesos.agent_protocol import (
    CALLS_PATH,
    HEARTBEAT_SECONDS,
    PATH,
    STREAM_HEADER,
    AgentCall,
    AgentEvent,
)
from phalanx.mesos.recordio import RecordDecoder, encode_record
from phalanx.mesos.v1.codec import decode, encode

log = structlog.get_logger()

SILENCE_SECONDS = 4 * HEARTBEAT_SECONDS
# Longer than silence on a stream: thousands of agents may subscribe to a new leader at once.
ANSWER_SECONDS = 20.0
# A master that lets us wait for longer is asked whether it lives: one that was stopped takes
# connections, for its kernel does, and would keep us from the next leader.
PATIENCE_SECONDS = 2.0
HEALTH_PATH = "/health"
RETRY_SECONDS = (0.1, 2.0)  # first and longest wait between two attempts
MOST_REDIRECTS = 5
MOST_WAITING_BYTES = 64 * 1024 * 1024
JSON = {"Content-Type": "application/json", "Accept": "application/json"}

Subscribe = Callable[[], AgentCall]
Take = Callable[[AgentEvent], Awaitable[None]]


def leader_url(url: str, location: str) -> str:
    """Return where a redirect leads: ``//host:port`` alone means the same path over there."""
    there = urlsplit(urljoin(url, location))
    path = PATH if there.path in ("", "/") else there.path
    return f"{there.scheme}://{there.netloc}{path}"


class Uplink:
    """Our calls on one stream: one long request, its body a record of RecordIO for each call.

    *ended* is called when the request is over: the master, or the way to it,
    will have no more of our calls.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        stream_id: str,
        *,
        ended: Callable[[], None],
    ) -> None:
        self._session = session
        self._url = url.removesuffix(PATH) + CALLS_PATH
        self._headers = {**JSON, STREAM_HEADER: stream_id}
        self._ended = ended
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()

    def send(self, call: bytes) -> None:
        """Add a call; raise UnavailableError when the master reads none for too long."""
        if self._bytes > MOST_WAITING_BYTES:
            raise UnavailableError("the master does not read our calls")
        record = encode_record(call)
        self._waiting.append(record)
        self._bytes += len(record)
        self._changed.set()

    async def run(self) -> None:
        """Send calls until the request is over."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0)
        try:
            async with self._session.post(
                self._url,
                data=self._records(),
                headers=self._headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                text = (await response.text())[:200]
                log.info("calls_refused", status=response.status, words=text)
        except (aiohttp.ClientError, OSError) as error:
            log.info("calls_not_sent", error=str(error) or type(error).__name__)
        finally:
            self._ended()

    async def _records(self) -> AsyncIterator[bytes]:
        while True:
            await self._changed.wait()
            self._changed.clear()
            taken = b"".join(self._waiting)
            self._waiting.clear()
            self._bytes = 0
            yield taken


class MasterClient:
    """One agent's connection to whichever master leads, where *detector* says to look for it.

    *subscribe* makes the first call anew for each attempt; *take* is given each
    event in order; *lost* is called when a stream that worked is over.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        detector: Detector,
        *,
        subscribe: Subscribe,
        take: Take,
        lost: Callable[[], None],
        rng: random.Random,
    ) -> None:
        self._session = session
        self._detector = detector
        self._subscribe = subscribe
        self._take = take
        self._lost = lost
        self._rng = rng
        self._url: str | None = None
        self._silent: str | None = None  # who took our connection last and answered nothing
        self._uplink: Uplink | None = None
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
            masters = await self._detector.masters()
            # Others may still send us to a leader that was stopped: not again, if there are more.
            masters = [m for m in masters if m.url + PATH != self._silent] or masters
            master = masters[attempt % len(masters)] if masters else None
            attempt += 1
            try:
                if master is None:
                    raise UnavailableError("nobody is known to lead")
                async for event in self._stream(master.url + PATH):
                    wait, self._silent = RETRY_SECONDS[0], None
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
                attempt = max(attempt - 1, 0)  # the same first: it may only have dropped the stream
            log.info("master_lost", master=master, reason=reason)
            await asyncio.sleep(wait * self._rng.uniform(0.5, 1.0))
            wait = min(wait * 2, RETRY_SECONDS[1])

    async def _stream(self, url: str) -> AsyncIterator[AgentEvent]:
        for _ in range(MOST_REDIRECTS):
            async with await self._opened(url) as response:
                if response.status == 307:
                    url = leader_url(url, response.headers.get("Location", ""))
                    continue
                if response.status != 200:
                    text = (await response.text())[:200]
                    raise UnavailableError(f"status {response.status}: {text}")
                stream_id = response.headers.get(STREAM_HEADER, "")
                uplink = Uplink(self._session, url, stream_id, ended=response.close)
                calls = asyncio.create_task(uplink.run())
                try:
                    async for event in _events(response):
                        if event.type == "SUBSCRIBED":
                            self._url, self._uplink = url, uplink
                            self._connected.set()
                            log.info("subscribed", master=url)
                        yield event
                finally:
                    self._uplink = None
                    calls.cancel()
                    with suppress(asyncio.CancelledError):
                        await calls
                return
        raise UnavailableError(f"{MOST_REDIRECTS} redirects and no leader")

    async def _opened(self, url: str) -> aiohttp.ClientResponse:
        """Return the answer to a subscription as it begins.

        Raises TimeoutError when there is none, and none to another question either.
        """
        asking = asyncio.ensure_future(
            self._session.post(
                url,
                data=encode(self._subscribe()),
                headers=JSON,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=2.0, sock_read=ANSWER_SECONDS
                ),
                allow_redirects=False,
            )
        )
        self._silent = None
        try:
            while not (await asyncio.wait({asking}, timeout=PATIENCE_SECONDS))[0]:
                health = url.removesuffix(PATH) + HEALTH_PATH
                timeout = aiohttp.ClientTimeout(total=SILENCE_SECONDS)
                async with self._session.get(health, timeout=timeout, allow_redirects=False):
                    pass  # whatever it says, somebody said it
        except BaseException as error:
            asking.cancel()
            if isinstance(error, TimeoutError):
                self._silent = url
            raise
        return await asking

    async def send(self, call: AgentCall) -> None:
        """Send a call on our stream; raise UnavailableError when there is none.

        What the master never got is noticed by the end of the stream.
        """
        if self._uplink is None:
            raise UnavailableError("no master")
        self._uplink.send(encode(call))

    async def beat(self) -> None:
        """Tell the master every second that we live, for ever."""
        while True:
            await self._connected.wait()
            try:
                await self.send(AgentCall(type="HEARTBEAT"))
            except UnavailableError as error:
                log.info("heartbeat_not_sent", error=str(error))
            await asyncio.sleep(HEARTBEAT_SECONDS)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[AgentEvent]:
    """Yield the events of a stream; raise TimeoutError when its heartbeat stops."""
    decoder = RecordDecoder()
    while True:
        async with asyncio.timeout(SILENCE_SECONDS):
            chunk = await response.content.readany()
        if not chunk:
            return
        for raw in decoder.feed(chunk):
            yield decode(AgentEvent, raw)
