"""The relay and the questions a lab asks, over real sockets of this machine."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from phalanx.core.api.serve import Listener, serve
from phalanx.core.error import UnavailableError
from phalanx.labs.client import ask, get_json, get_status, get_unix_json, records
from phalanx.labs.relay import Relay, Service

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOCALHOST = "127.0.0.1"


@asynccontextmanager
async def server(name: str, leads: dict[str, str]) -> AsyncIterator[tuple[str, int]]:
    """Serve a master of which *leads* says whether it leads, and by what name."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if leads["name"] == name:
            return web.json_response({"leader": name})
        raise web.HTTPTemporaryRedirect("//elsewhere")

    app = web.Application()
    app.add_routes([web.get("/{path:.*}", answer)])
    async with serve(app, Listener(LOCALHOST, 0)) as [place]:
        assert isinstance(place, Listener)
        yield place.host, place.port


async def get_through(port: int) -> str:
    """Return what is answered through the relay on *port*."""
    reader, writer = await asyncio.open_connection(LOCALHOST, port)
    writer.write(b"GET /state HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return text


@asynccontextmanager
async def relayed(*servers: tuple[str, int]) -> AsyncIterator[int]:
    """Run a relay to *servers*; yield its port."""
    listener = await Relay(None).listen(Service("master", servers, "/v1/networks"))
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await listener.wait_closed()


async def test_relay_follows_the_leader_from_connection_to_connection() -> None:
    leads = {"name": "m1"}
    async with (
        server("m1", leads) as first,
        server("m2", leads) as second,
        relayed(first, second) as port,
    ):
        before = await get_through(port)
        leads["name"] = "m2"
        after = await get_through(port)

    assert '"leader": "m1"' in before
    assert '"leader": "m2"' in after


async def test_relay_goes_to_whoever_listens_when_nobody_leads() -> None:
    nobody = {"name": "nobody"}
    async with server("m2", nobody) as second, relayed((LOCALHOST, 1), second) as port:
        answer = await get_through(port)

    assert answer.startswith("HTTP/1.1 307")


async def test_relay_hangs_up_when_nobody_listens() -> None:
    async with relayed((LOCALHOST, 1), (LOCALHOST, 2)) as port:
        assert await get_through(port) == ""


async def test_relay_carries_a_stream_both_ways_and_its_end() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.write_eof()
        writer.close()

    upstream = await asyncio.start_server(echo, LOCALHOST, 0)
    async with relayed(upstream.sockets[0].getsockname()) as port:
        reader, writer = await asyncio.open_connection(LOCALHOST, port)
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        carried = await reader.read()
        writer.close()
    upstream.close()
    await upstream.wait_closed()

    assert len(carried) == 1_000_000


@asynccontextmanager
async def answering(handler: Handler, *more: Path) -> AsyncIterator[int]:
    """Serve *handler* on a port, which is yielded, and on unix sockets."""
    app = web.Application()
    app.add_routes([web.get("/x", handler)])
    async with serve(app, Listener(LOCALHOST, 0), *more) as [place, *_]:
        assert isinstance(place, Listener)
        yield place.port


async def test_questions_are_asked_over_tcp_and_unix_sockets(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"in_sync": True})

    socket = tmp_path / "plane.sock"
    async with answering(handler, socket) as port:
        over_tcp = await asyncio.to_thread(get_json, None, LOCALHOST, port, "/x")
        over_unix = await asyncio.to_thread(get_unix_json, socket, "/x")
        status = await asyncio.to_thread(get_status, None, LOCALHOST, port, "/none")

    assert over_tcp == over_unix == {"in_sync": True}
    assert status == 404


async def test_records_of_an_answer_are_read_to_its_end() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'15\n{"sequence": 7}15\n{"sequence": 8}')
        return response

    async with answering(handler) as port:
        found = await asyncio.to_thread(records, None, LOCALHOST, port, "/x")

    assert found == [{"sequence": 7}, {"sequence": 8}]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        pytest.param(web.Response(status=503), "answers 503", id="status"),
        pytest.param(web.Response(text="<html>"), "answers what is not JSON", id="not-json"),
    ],
)
async def test_answer_that_is_none_says_what_it_was(response: web.Response, message: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return response

    async with answering(handler) as port:
        with pytest.raises(UnavailableError, match=message):
            await asyncio.to_thread(get_json, None, LOCALHOST, port, "/x")


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="refused"):
        get_json(None, LOCALHOST, 1, "/")
    with pytest.raises(UnavailableError, match="refused"):
        ask(None, LOCALHOST, 1, "srvr")
    with pytest.raises(UnavailableError, match="refused"):
        records(None, LOCALHOST, 1, "/")
    with pytest.raises(UnavailableError, match="No such file"):
        get_unix_json(tmp_path / "none.sock", "/")
