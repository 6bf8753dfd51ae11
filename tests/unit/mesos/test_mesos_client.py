"""The scheduler's client against a server that answers strangely, and then well."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.core.api.serve import Listener, serve
from phalanx.core.config import HostPort
from phalanx.core.detector import Detector, Listed
from phalanx.mesos.client import SchedulerClient
from phalanx.mesos.recordio import encode_record
from phalanx.mesos.v1.codec import encode
from phalanx.mesos.v1.mesos import FrameworkID, FrameworkInfo
from phalanx.mesos.v1.scheduler import Error, Event, Subscribe, Subscribed

SUBSCRIBED = Event(
    type="SUBSCRIBED",
    subscribed=Subscribed(framework_id=FrameworkID(value="f"), heartbeat_interval_seconds=15.0),
)
GOOD = (
    b"HTTP/1.1 200 OK\r\nMesos-Stream-Id: s\r\nContent-Type: application/json\r\n\r\n"
    + encode_record(encode(SUBSCRIBED))
)
STRANGE = {
    "garbage": b"\x00\xff\r\n\r\n",
    "nothing": b"",
    "page": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    "no-stream-id": GOOD.replace(b"Mesos-Stream-Id", b"X"),
    "not-json": b"HTTP/1.1 200 OK\r\nMesos-Stream-Id: s\r\n\r\n3\nabc",
    "wrong-event": b'HTTP/1.1 200 OK\r\nMesos-Stream-Id: s\r\n\r\n24\n{"subscribed":{"a":"b"}}',
    "no-location": b"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\n\r\n",
    "bad-location": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: //[x\r\n\r\n",
    "port-out-of-range": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: //x:99999\r\n\r\n",
    "no-text": b"HTTP/1.1 400 Bad\r\nContent-Type: text/plain; charset=nosuch\r\n\r\n\xff\xfe",
    "endless-length": b"HTTP/1.1 200 OK\r\nMesos-Stream-Id: s\r\n\r\n" + b"9" * 100,
    "cut": GOOD[:-5],
    "bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad-gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nMesos-Stream-Id: s\r\n\r\n99999",
    "unauthorized": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 17\r\n\r\n401 Unauthorized.",
}


async def first_event(strange: bytes, kind: str = "SUBSCRIBED") -> Event:
    """Return the first event of a kind that a client hears whose master answers *strange* once."""
    answers = [strange]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answers.pop() if answers else GOOD)
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as session, asyncio.timeout(20):
        detector = Listed([HostPort("127.0.0.1", port)])
        client = SchedulerClient(session, detector, backoff=lambda _: 0.0)
        info = FrameworkInfo(user="u", name="n")
        async with aclosing(client.events(lambda: Subscribe(framework_info=info))) as events:
            async for event in events:
                if event.type == kind:
                    return event
    raise AssertionError("the events ended")


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
async def test_a_strange_answer_is_left_for_the_next(strange: bytes) -> None:
    assert await first_event(strange) == SUBSCRIBED


async def test_an_event_that_cannot_be_read_is_passed_over() -> None:
    bad = encode_record(b'{"type":"UPDATE","update":{"status":{"state":"TASK_DANCING"}}}')
    last = Event(type="ERROR", error=Error(message="enough"))

    assert await first_event(GOOD + bad + encode_record(encode(last)), "ERROR") == last


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_any_answer_is_left_for_the_next(rest: bytes, is_stream: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nMesos-Stream-Id: s\r\n\r\n" if is_stream else b"HTTP/1.1 "

    assert asyncio.run(first_event(head + rest)) == SUBSCRIBED


class Told:
    """A detector that says what it was told last."""

    def __init__(self, host: HostPort) -> None:
        self.host: HostPort | None = host

    async def masters(self) -> Sequence[HostPort]:
        return () if self.host is None else (self.host,)


class SilentMasters:
    """Masters that subscribe everybody, then say nothing, and send callers to *leader*."""

    def __init__(self) -> None:
        self.leader: HostPort | None = None
        self.subscribed: list[int] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/api/v1/scheduler", self._subscribe)
        app.router.add_get("/redirect", self._redirect)
        return app

    async def _subscribe(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.subscribed.append(request.transport.get_extra_info("sockname")[1])
        response = web.StreamResponse(headers={"Mesos-Stream-Id": "s"})
        await response.prepare(request)
        await response.write(encode_record(encode(SUBSCRIBED)))
        await asyncio.Event().wait()
        return response

    async def _redirect(self, request: web.Request) -> web.Response:
        if self.leader is None:
            return web.Response(status=503)
        return web.Response(status=307, headers={"Location": f"//{self.leader}"})


async def subscribed_after_a_change(is_listed: bool) -> tuple[list[int], list[int]]:
    """Return where a client was subscribed whose master falls silent as another is elected."""
    masters = SilentMasters()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(20))
        hosts = []
        for _ in range(3):
            listener = Listener("127.0.0.1", 0)
            (bound,) = await stack.enter_async_context(serve(masters.app(), listener))
            assert isinstance(bound, Listener)
            hosts.append(HostPort("127.0.0.1", bound.port))
        told = Told(hosts[0])
        detector: Detector = Listed(hosts) if is_listed else told
        masters.leader = hosts[0]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        client = SchedulerClient(session, detector, backoff=lambda _: 0.0, look_seconds=0.05)
        info = FrameworkInfo(user="u", name="n")
        events = client.events(lambda: Subscribe(framework_info=info))
        async with aclosing(events):
            await anext(events)
            waiting = asyncio.ensure_future(anext(events))
            for leader in (hosts[0], None):  # the same one, and nobody: no reason to leave
                told.host = masters.leader = leader
                done, _ = await asyncio.wait({waiting}, timeout=0.3)
                assert not done
            told.host = masters.leader = hosts[2]  # not the next in the list
            await waiting
    return masters.subscribed, [host.port for host in hosts]


@pytest.mark.parametrize("is_listed", [False, True], ids=["detected", "listed"])
async def test_a_silent_master_is_left_as_soon_as_another_leads(is_listed: bool) -> None:
    subscribed, ports = await subscribed_after_a_change(is_listed)

    assert subscribed == [ports[0], ports[2]]
