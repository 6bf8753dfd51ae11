"""Planes answer one another, and nobody else."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from ipaddress import IPv4Address

import pytest
from aiohttp import web

from phalanx.net.model.objects import Node
from phalanx.net.model.view import View
from phalanx.plane.api.peer import Peers

ANSWERS, ASKS = IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")
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
