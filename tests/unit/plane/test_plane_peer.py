"""Planes answer one another, and nobody else."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import IPv4Address

import aiohttp
import pytest
from aiohttp import web

from phalanx.core.api.error import Handler, errors_as_json
from phalanx.core.api.serve import Listener, serve
from phalanx.net.model.objects import Node
from phalanx.net.model.view import View
from phalanx.plane.api.peer import MOST_WATCHES, Peers

ANSWERS, ASKS = IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")
ELSEWHERE = IPv4Address("127.0.0.77")
ASKED = {"port": "80"}
BOTH = View().changed([Node(ANSWERS, "n1"), Node(ASKS, "n2")])


def free_port() -> int:
    with socket.socket() as made:
        made.bind((str(ANSWERS), 0))
        port: int = made.getsockname()[1]
        return port


class Pair:
    """One plane that answers and one that asks, and the View that the first has."""

    def __init__(self, port: int) -> None:
        self.view = BOTH
        self.answering = Peers(lambda: self.view, node=ANSWERS, port=port)
        self.asking = Peers(lambda: BOTH, node=ASKS, port=port)

    async def here(self, request: web.Request) -> web.Response:
        self.answering.check(request)
        return web.json_response(await request.json())


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair(free_port())
    async with AsyncExitStack() as stack:
        await made.answering.serve(stack, [web.post("/v1/trace/here", made.here)])
        yield made


async def test_a_node_is_answered(pair: Pair) -> None:
    assert await pair.asking.trace(str(ANSWERS), [ASKED, {}]) == [ASKED, {}]


async def test_who_is_no_node_is_not_answered(pair: Pair) -> None:
    pair.view = BOTH.changed((), [("node", str(ASKS))])

    assert await pair.asking.trace(str(ANSWERS), [ASKED]) == "127.0.0.2 is no node of this cluster"


async def test_a_node_that_is_not_there_is_told_of() -> None:
    asking = Peers(lambda: BOTH, node=ASKS, port=free_port())

    said = await asking.trace(str(ANSWERS), [ASKED])

    assert isinstance(said, str)
    assert "Cannot connect" in said


async def test_without_a_port_nobody_is_asked_or_answered() -> None:
    peers = Peers(lambda: BOTH, node=ASKS, port=0)
    async with AsyncExitStack() as stack:
        await peers.serve(stack, [])

    assert "--peer-port is 0" in await peers.trace(str(ANSWERS), [ASKED])


async def test_an_address_that_others_have_costs_no_more_than_traces(pair: Pair) -> None:
    async with AsyncExitStack() as stack:
        await pair.answering.serve(stack, [])

    assert await pair.asking.trace(str(ANSWERS), [ASKED]) == [ASKED]


class Desk:
    """What people on a node ask, and how many of their questions are over."""

    def __init__(self, client: aiohttp.ClientSession, node: IPv4Address) -> None:
        self._client = client
        self._query = {
            "node": str(node),
            "source": str(ELSEWHERE),
            "protocol": str(socket.IPPROTO_UDP),
        }
        self.url = ""
        self.over = asyncio.Semaphore(0)

    @web.middleware
    async def counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            self.over.release()

    async def watch(self, destination: IPv4Address = ANSWERS) -> aiohttp.ClientResponse:
        """Return the answer of a watch as soon as it has begun."""
        query = {**self._query, "destination": str(destination)}
        return await self._client.get(f"{self.url}/v1/trace/watch", params=query)


@asynccontextmanager
async def desk(peers: Peers, node: IPv4Address) -> AsyncIterator[Desk]:
    """Yield where *peers* are asked to watch on *node*."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as client:
        made = Desk(client, node)
        app = web.Application(middlewares=[made.counted, errors_as_json])
        app.add_routes(peers.routes())
        async with serve(app, Listener(str(ANSWERS), 0)) as [where]:
            made.url = f"http://{where}"
            yield made


def send() -> None:
    """Send what is watched for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.bind((str(ELSEWHERE), 0))
        sending.sendto(b"", (str(ANSWERS), 9))


async def test_a_packet_that_comes_is_seen() -> None:
    async with desk(Peers(lambda: BOTH, node=ANSWERS, port=0), ANSWERS) as asked:
        answer = await asked.watch()
        send()

        assert await answer.json() == {"arrived": True}


async def test_a_watch_without_a_namespace_is_told_of() -> None:
    async with desk(Peers(lambda: BOTH, node=ANSWERS, port=0), ANSWERS) as asked:
        answer = await asked.watch(IPv4Address("192.0.2.7"))

        assert answer.status == 404
        assert "no namespace of node 127.0.0.1 has 192.0.2.7" in await answer.text()


async def test_a_watch_whose_asker_left_counts_until_it_ends() -> None:
    async with desk(Peers(lambda: BOTH, node=ANSWERS, port=0), ANSWERS) as asked:
        for _ in range(MOST_WATCHES):
            (await asked.watch()).close()
        for _ in range(MOST_WATCHES):
            await asked.over.acquire()
        refused = await asked.watch()
        send()
        async with asyncio.timeout(60):
            while (answer := await asked.watch()).status != 200:
                await answer.read()
        send()

        assert refused.status == 503
        assert await answer.json() == {"arrived": True}


@pytest.mark.parametrize("sent", [b"1\r\n \r\n", b'4\r\n {"a\r\n', b"20\r\n {"])
async def test_a_node_that_fails_amid_a_watch_is_told_of(sent: bytes) -> None:
    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + sent)
        writer.close()

    port = free_port()
    peers = Peers(lambda: BOTH, node=ASKS, port=port)
    async with (
        await asyncio.start_server(fail, str(ANSWERS), port),
        desk(peers, ANSWERS) as asked,
    ):
        said = await (await asked.watch()).json()

    assert list(said) == ["error"]
    assert said["error"].startswith("node 127.0.0.1: Response payload is not completed")
