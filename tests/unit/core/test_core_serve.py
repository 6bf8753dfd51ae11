"""What is on its way to somebody when a server ends: sent after all, or never."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop
from aiohttp import web

from phalanx.core.api.serve import Listener, serve
from phalanx.core.error import ConfigError

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BYTES = 200_000  # more than a reader's window takes, less than a writer's buffers hold


async def unread(*, must_cut: bool) -> socket.socket:
    """Return the connection of a client that has read nothing when its server ended."""
    is_written = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        assert request.transport is not None
        end = request.transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * BYTES)
        await response.write(b"x" * BYTES)
        is_written.set()
        await asyncio.Event().wait()
        return response

    app = web.Application()
    app.router.add_get("/", stream)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    async with serve(app, Listener("127.0.0.1", 0), must_cut=lambda: must_cut) as [place]:
        assert isinstance(place, Listener)
        client.connect((place.host, place.port))
        client.sendall(HEAD)
        async with asyncio.timeout(10):
            await is_written.wait()
    return client


async def test_who_takes_its_time_with_a_request_is_not_waited_for() -> None:
    app = web.Application()
    is_over = asyncio.Event()

    async def long(request: web.Request) -> web.Response:
        await is_over.wait()
        return web.Response(text="long")

    async def short(request: web.Request) -> web.Response:
        return web.Response(text="short")

    app.router.add_get("/", long)
    app.router.add_get("/short", short)
    async with serve(app, Listener("127.0.0.1", 0), idle_seconds=0.2) as [place]:
        assert isinstance(place, Listener)
        ends = [await asyncio.open_connection(place.host, place.port) for _ in range(4)]
        (nothing, _), (half, slow), (kept, client), (working, patient) = ends
        slow.write(HEAD[:10])
        client.write(HEAD.replace(b"/", b"/short", 1))
        patient.write(HEAD)
        async with asyncio.timeout(10):
            assert await nothing.read() == b""
            assert await half.read() == b""
            assert (await kept.read()).endswith(b"short")
        is_over.set()
        async with asyncio.timeout(10):
            assert b"200 OK" in await working.readline()
        for _, writer in ends:
            writer.close()


def read_all(client: socket.socket) -> int:
    """Return how many bytes come until the connection ends; raise as it is reset."""
    with client:
        size = 0
        while data := client.recv(65536):
            size += len(data)
        return size


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_what_is_on_its_way_arrives_after_the_end(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        client = runner.run(unread(must_cut=False))

    assert read_all(client) > BYTES


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_what_is_on_its_way_is_forgotten_by_who_must_not_be_heard(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        client = runner.run(unread(must_cut=True))

    with pytest.raises(ConnectionResetError):
        read_all(client)


@pytest.mark.parametrize(
    ("head", "is_logged"),
    [
        pytest.param(b"\x16\x03\x01\x00\xa5" * 20 + b"\r\n\r\n", False, id="tls"),
        pytest.param(b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n", False, id="long-line"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            False,
            id="bad-chunk",
        ),
        pytest.param(HEAD, True, id="a-bug-of-ours"),
    ],
)
async def test_only_errors_of_ours_are_logged(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    head: bytes,
    is_logged: bool,
) -> None:
    async def fail(request: web.Request) -> web.Response:
        await request.read()
        raise ZeroDivisionError

    app = web.Application()
    app.router.add_route("*", "/", fail)
    async with serve(app, Listener("127.0.0.1", 0)) as [place]:
        assert isinstance(place, Listener)
        reader, writer = await asyncio.open_connection(place.host, place.port)
        writer.write(head)
        status = (await reader.readline()).split()[1]
        writer.close()

    assert status == (b"500" if is_logged else b"400")
    assert not caplog.records
    assert ("ZeroDivisionError" in capfd.readouterr().err) == is_logged


async def test_the_socket_of_another_process_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "own.sock"
    async with serve(web.Application(), path):
        before = path.stat().st_ino
        with pytest.raises(ConfigError, match="another process listens"):
            async with serve(web.Application(), path):
                pass
        assert path.stat().st_ino == before


@pytest.mark.parametrize("is_full", [False, True], ids=["it answers", "nobody else fits"])
async def test_a_process_that_takes_no_connection_listens_all_the_same(
    tmp_path: Path, *, is_full: bool
) -> None:
    path = tmp_path / "own.sock"
    with socket.socket(socket.AF_UNIX) as other, ExitStack() as stack:
        other.bind(str(path))
        other.listen(0)
        while is_full:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            try:
                waiting.connect(str(path))
            except BlockingIOError:
                break
        with pytest.raises(ConfigError, match="another process listens"):
            async with serve(web.Application(), path):
                pass


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "own.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async with serve(web.Application(), path):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
