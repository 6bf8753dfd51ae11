"""A trace of many packets: each node is asked once, and nobody's event loop waits for it."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from tests.unit.isolation.policies import BLUE, DCOS

from phalanx.core.api.error import errors_as_json
from phalanx.net.isolation.desired import desired_isolation
from phalanx.net.model.objects import Node, SubnetLease, Task, TaskPhase
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element
from phalanx.net.nft.library import Nft
from phalanx.plane.api.peer import Peers
from phalanx.plane.api.trace import MOST, TraceApi

NAMED = {"source": None, "destination": None}  # what is called otherwise in another question
ME, OTHER = IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")


def containers(app: str, network: str, node: IPv4Address, subnet: str) -> Iterable[Task]:
    for number in range(10, 16):
        name = f"{app}-{number}"
        address = IPv4Address(f"{subnet}.{number}")
        yield Task(
            "f", name, name, "a", node, TaskPhase.RUNNING,
            addresses=(address,), networks=(network,), discovery_name=app,
        )  # fmt: skip


VIEW = View().changed(
    [
        *(DCOS, BLUE),
        *(Node(ME, "n1"), Node(OTHER, "n2")),
        SubnetLease("dcos", ME, IPv4Network("9.0.1.0/24")),
        SubnetLease("blue", OTHER, IPv4Network("10.20.2.0/24")),
        *containers("web", "dcos", ME, "9.0.1"),
        *containers("db", "blue", OTHER, "10.20.2"),
    ]
)


class Plane:
    """A node's plane as far as traces go, and in which threads it computed what walls hold."""

    def __init__(self, node: IPv4Address, port: int, nft: Nft) -> None:
        self.threads: list[threading.Thread] = []
        self.asked: list[int] = []  # about how many packets, each time
        self.peers = Peers(lambda: VIEW, node=node, port=port)
        self.api = TraceApi(lambda: VIEW, self._elements, node=node, nft=nft, peers=self.peers)

    def _elements(self, view: View) -> Iterable[Element]:
        self.threads.append(threading.current_thread())
        return desired_isolation(view)

    def routes_for_nodes(self) -> Iterable[web.RouteDef]:
        """Return the real ones, each request noted."""
        [route] = self.api.routes_for_nodes()

        async def noted(request: web.Request) -> web.StreamResponse:
            self.asked.append(len((await request.json())["packets"]))
            return await route.handler(request)

        return [web.route(route.method, route.path, noted)]


class Cluster:
    """Two planes; people ask the first."""

    def __init__(self, nft: Nft) -> None:
        with socket.socket() as made:
            made.bind((str(OTHER), 0))
            self.port: int = made.getsockname()[1]
        self.first, self.second = (Plane(node, self.port, nft) for node in (ME, OTHER))

    async def trace(self, source: str, destination: str) -> list[dict[str, Any]]:
        app = web.Application(middlewares=[errors_as_json])
        app.add_routes(self.first.api.routes())
        query = {"source": source, "destination": destination, "port": "80"}
        async with (
            TestClient(TestServer(app)) as client,
            client.get("/v1/trace", params=query) as answer,
        ):
            packets: list[dict[str, Any]] = (await answer.json())["packets"]
            return packets


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    nft = Nft()
    yield Cluster(nft)
    nft.close()


def said_of(packets: Iterable[dict[str, Any]], node: IPv4Address) -> list[str | None]:
    return [hop["unread"] for p in packets for hop in p["hops"] if hop["node"] == str(node)]


async def test_another_node_is_asked_once_about_all_packets(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        await cluster.second.peers.serve(stack, cluster.second.routes_for_nodes())

        packets = await cluster.trace("web", "db")

    ends = {(p["source"]["address"], p["destination"]["address"]) for p in packets}
    assert len(ends) == len(packets) == MOST
    assert cluster.second.asked == [MOST]
    assert said_of(packets, OTHER) == [None] * MOST


async def test_each_packet_gets_the_answer_about_itself(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        await cluster.second.peers.serve(stack, cluster.second.routes_for_nodes())

        packets = await cluster.trace("web", "db")
        [alone] = await cluster.trace("web-12", "db-11")

    assert [p for p in packets if p["source"]["address"] == "9.0.1.12"][1] | NAMED == alone | NAMED


async def test_a_dead_node_is_tried_once(cluster: Cluster) -> None:
    tried = []

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append(writer.get_extra_info("peername")[0])
        writer.close()

    async with await asyncio.start_server(hang_up, str(OTHER), cluster.port):
        packets = await cluster.trace("web", "db")

    assert tried == [str(ME)]
    unread = said_of(packets, OTHER)
    assert len(unread) == MOST
    assert all(unread)


async def test_a_large_view_is_looked_through_beside_the_loop(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        await cluster.second.peers.serve(stack, cluster.second.routes_for_nodes())
        await cluster.trace("web", "db")

    for plane in (cluster.first, cluster.second):
        [thread] = plane.threads  # once for all packets
        assert thread is not threading.current_thread()


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"packets": []},
        {"packets": ["x"]},
        {"packets": [{}] * (MOST + 1)},
        {"packets": [{"port": 80}]},
    ],
)
async def test_what_is_no_list_of_packets_is_refused(cluster: Cluster, body: object) -> None:
    app = web.Application(middlewares=[errors_as_json])
    app.add_routes(cluster.first.api.routes_for_nodes())
    async with (
        TestClient(TestServer(app)) as client,
        client.post("/v1/trace/here", json=body) as answer,
    ):
        assert answer.status == 400
        assert "packets" in (await answer.json())["error"]
