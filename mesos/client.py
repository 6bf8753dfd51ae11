"""The client side of the v1 scheduler API: subscribe, follow the leader, call (reference mesos §1).

The stream of events and the calls use two connections, as the API wants it.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import structlog
from yarl import URL

from phalanx.core.detector import Detector
from phalanx.core.error import InvalidError, ProtocolError, UnavailableError
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.mesos import FrameworkID
from phalanx.mesos.v1.scheduler import Call, Event, Subscribe, Subscribed

log = structlog.get_logger()

PATH = "/api/v1/scheduler"
LEADER_PATH = "/redirect"  # any master answers it with 307 to the leader (reference mesos §0.4)
STREAM_HEADER = "Mesos-Stream-Id"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
MISSED_HEARTBEATS = 5
HEARTBEAT_SECONDS = 15.0  # until SUBSCRIBED says otherwise
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 3600.0  # whatever SUBSCRIBED says
CALL_SECONDS = 10.0
LOOK_SECONDS = 2.0  # between two looks at who leads, while a subscription stands
LONGEST_WORDS = 500  # bytes of an error that are told
RETRY_SECONDS = (0.1, 2.0)  # first and longest wait between two attempts
MAX_REDIRECTS = 5


def jittered_backoff(attempt: int) -> float:
    """Return how long to wait before attempt number *attempt*, the first being 0, in seconds."""
    first, longest = RETRY_SECONDS
    return min(first * float(2 ** min(attempt, 10)), longest) * random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True)
class _Stream:
    """An open subscription: where, and what every call on it must carry."""

    base: str
    stream_id: str
    framework_id: FrameworkID


class SchedulerClient:
    """One framework's connection to whichever master leads."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        detector: Detector,
        *,
        backoff: Callable[[int], float] = jittered_backoff,
        look_seconds: float = LOOK_SECONDS,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Try what *detector* says, in turn; *backoff* gives the wait after so many failures.

        While a subscription stands, who leads is looked up each *look_seconds*. *lost* is called
        whenever one ends.
        """
        self._session = session
        self._detector = detector
        self._backoff = backoff
        self._look_seconds = look_seconds
        self._lost = lost
        self._stream: _Stream | None = None
        self._calling = asyncio.Lock()

    @property
    def is_subscribed(self) -> bool:
        """Tell whether calls can be made now."""
        return self._stream is not None

    @property
    def master(self) -> str | None:
        """Return the URL of the master subscribed to, or None."""
        return None if self._stream is None else self._stream.base

    async def events(self, subscribe: Callable[[], Subscribe]) -> AsyncGenerator[Event, None]:
        """Yield events for ever, subscribing again whenever the stream ends or falls silent.

        *subscribe* is asked anew for each attempt; once a SUBSCRIBED has brought
        a framework id, its framework info must carry it. Each subscription begins
        with a SUBSCRIBED event. An ERROR event is yielded too: what it means is
        for the caller to decide.
        """
        base, turn, failures, redirects = await self._base(0), 0, 0, 0
        while True:
            try:
                async with aclosing(self._read(base, subscribe())) as stream:
                    async for event in stream:
                        failures = redirects = 0
                        yield event
                reason = "the master closed the stream"
            except _RedirectError as redirect:
                redirects += 1
                if redirects <= MAX_REDIRECTS:
                    base = redirect.base
                    continue
                reason = f"redirected {MAX_REDIRECTS} times"
            except TimeoutError:
                reason = "silence"
            except InvalidError as error:
                reason = f"an event could not be read: {error}"
            except (aiohttp.ClientError, OSError, UnavailableError, ProtocolError) as error:
                reason = str(error) or type(error).__name__
            log.info("subscription_lost", master=base, reason=reason)
            turn, redirects = turn + 1, 0
            await asyncio.sleep(self._backoff(failures))
            base = await self._base(turn)
            failures += 1

    async def _base(self, turn: int) -> str:
        """Return the URL of the master whose turn it is, once anybody may lead."""
        attempt = 0
        while not (masters := await self._detector.masters()):
            await asyncio.sleep(self._backoff(attempt))
            attempt += 1
        return masters[turn % len(masters)].url

    async def call(self, call: Call, *, in_order: bool = True) -> None:
        """Send one call; calls go out one after another, in the order of asking.

        One that needs no order goes beside the others. Raises UnavailableError when there is no
        subscription or the master can't be reached, ProtocolError when it refuses the call.
        """
        if not in_order:
            await self._call(call)
            return
        async with self._calling:
            await self._call(call)

    async def _call(self, call: Call) -> None:
        stream = self._stream
        if stream is None:
            raise UnavailableError(f"{call.type}: not subscribed")
        body = encode(_with_framework(call, stream.framework_id))
        try:
            async with self._session.post(
                f"{stream.base}{PATH}",
                data=body,
                headers={**HEADERS, STREAM_HEADER: stream.stream_id},
                timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
                allow_redirects=False,
            ) as response:
                if response.status in (200, 202):
                    return
                text = await _words(response)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"{call.type}: {reason}") from error
        if response.status in (307, 503):
            raise UnavailableError(f"{call.type}: status {response.status}")
        raise ProtocolError(f"{call.type}: status {response.status}: {text}")

    async def _read(self, base: str, subscribe: Subscribe) -> AsyncGenerator[Event, None]:
        call = Call(type="SUBSCRIBE", framework_id=subscribe.framework_info.id, subscribe=subscribe)
        silence = HEARTBEAT_SECONDS * MISSED_HEARTBEATS
        async with asyncio.timeout(CALL_SECONDS):  # an answer must begin; it ends when it will
            opened = await self._session.post(
                f"{base}{PATH}",
                data=encode(call),
                headers=HEADERS,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=None),
                allow_redirects=False,
            )
        async with opened as response:
            if response.status == 307:
                raise _RedirectError(redirected(base, response.headers.get("Location", "")))
            if response.status != 200:
                async with asyncio.timeout(CALL_SECONDS):
                    text = await _words(response)
                raise UnavailableError(f"SUBSCRIBE: status {response.status}: {text}")
            decoder = RecordDecoder()
            elsewhere = asyncio.ensure_future(self._elsewhere(base))
            try:
                while True:
                    chunk = await _next(response, silence, elsewhere)
                    if not chunk:
                        return
                    for record in decoder.feed(chunk):
                        try:
                            event = decode(Event, record)
                        except InvalidError as error:
                            if self._stream is None:
                                raise
                            # Asking again would bring the same event, and so on for ever.
                            log.warning("event_unreadable", master=base, error=str(error))
                            continue
                        if event.type == "SUBSCRIBED" and event.subscribed is not None:
                            silence = self._opened(base, response, event.subscribed)
                        yield event
            finally:
                elsewhere.cancel()
                if self._stream is not None:
                    self._stream = None
                    self._lost()
                response.close()

    async def _elsewhere(self, base: str) -> str:
        """Return who leads once it is another than when this began, asked twice.

        A master that was stopped, or whose host lost its network, closes no
        connection: its silence would be noticed after five heartbeats only.
        """
        first: str | None = None
        suspected: str | None = None
        while True:
            found = await self._leader(base)
            if first is None:
                first = found
            elif found is None or found == first:
                suspected = None
            elif found == suspected:
                log.info("another_leads", master=base, leader=found)
                return found
            else:
                suspected = found
            await asyncio.sleep(self._look_seconds)

    async def _leader(self, base: str) -> str | None:
        """Return who leads by the detector or by masters other than *base*; None if unknown."""
        masters = await self._detector.masters()
        if len(masters) == 1:
            return masters[0].url
        for master in masters:
            if master.url == base:
                continue
            with suppress(aiohttp.ClientError, OSError, ProtocolError):
                async with self._session.get(
                    f"{master.url}{LEADER_PATH}",
                    timeout=aiohttp.ClientTimeout(total=LOOK_SECONDS),
                    allow_redirects=False,
                ) as answer:
                    if answer.status == 307:
                        return redirected(master.url, answer.headers.get("Location", ""))
        return None

    def _opened(self, base: str, response: aiohttp.ClientResponse, subscribed: Subscribed) -> float:
        """Note the subscription; return how long its silence may last, in seconds."""
        stream_id = response.headers.get(STREAM_HEADER)
        if stream_id is None:
            raise ProtocolError(f"SUBSCRIBE: no {STREAM_HEADER} in the answer")
        self._stream = _Stream(base, stream_id, subscribed.framework_id)
        log.info("subscribed", master=base, framework_id=subscribed.framework_id.value)
        heartbeat = subscribed.heartbeat_interval_seconds or HEARTBEAT_SECONDS
        return max(SHORTEST_SECONDS, min(heartbeat, LONGEST_SECONDS)) * MISSED_HEARTBEATS


async def _next(
    response: aiohttp.ClientResponse, silence: float, elsewhere: asyncio.Future[str]
) -> bytes:
    """Return what comes next; raise TimeoutError for silence, _RedirectError for a new leader."""
    reading = asyncio.ensure_future(response.content.readany())
    try:
        either: set[asyncio.Future[Any]] = {reading, elsewhere}
        await asyncio.wait(either, timeout=silence, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return reading.result()
        if elsewhere.done():
            raise _RedirectError(elsewhere.result())
        raise TimeoutError
    finally:
        reading.cancel()


class _RedirectError(Exception):
    """Another master leads."""

    def __init__(self, base: str) -> None:
        super().__init__(base)
        self.base = base


def redirected(base: str, location: str) -> str:
    """Return the base URL that a leader redirect from *base* to *location* points to.

    Mesos sends ``//host:port/path``: the scheme stays. Raises ProtocolError
    when the location names no host.
    """
    try:
        target = URL(base).join(URL(location))
        if location and target.host is not None:
            return str(target.origin())
    except ValueError:
        pass  # an address that is none
    raise ProtocolError(f"redirect to {location!r}")


async def _words(response: aiohttp.ClientResponse) -> str:
    """Return the beginning of what an error says."""
    return (await response.content.read(LONGEST_WORDS)).decode(errors="replace")


def _with_framework(call: Call, framework_id: FrameworkID) -> Call:
    if call.framework_id is not None:
        return call
    return msgspec.structs.replace(call, framework_id=framework_id)
