"""Clients outside of the cluster, who route VIPs through a node."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest
from tests.netns.lb.lab import (
    NODE,
    NODE6,
    OWN,
    PORT,
    WEB,
    WEB6,
    Lab,
    answer_with,
    open_socket,
    put,
    run,
    service,
    service6,
)

from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip

PEER = "198.18.0.2"
FAR, FAR6 = "9.0.7.7", "fd01:b::7:7"
OUTSIDE, OUTSIDE6 = "192.0.2.20", "fd01:e::20"


@pytest.fixture
async def far(lab: Lab) -> AsyncIterator[Lab]:
    """Move the client outside; put a backend behind the tunnel that knows the node only."""
    node, client, there = lab.node, lab.namespace("client"), lab.namespace("far")
    run("ip", "-n", node, "link", "set", "phxvclient", "nomaster")
    run("ip", "-n", node, "address", "add", "192.0.2.1/24", "dev", "phxvclient")
    run("ip", "-n", node, "address", "add", "fd01:e::1/64", "dev", "phxvclient", "nodad")
    run("ip", "-n", client, "address", "flush", "dev", "eth0", "scope", "global")
    run("ip", "-n", client, "address", "add", f"{OUTSIDE}/24", "dev", "eth0")
    run("ip", "-n", client, "address", "add", f"{OUTSIDE6}/64", "dev", "eth0", "nodad")
    run("ip", "-n", client, "route", "replace", "default", "via", "192.0.2.1")
    run("ip", "-n", client, "-6", "route", "replace", "default", "via", "fd01:e::1")
    run("ip", "netns", "add", there)
    try:
        peer = ("peer", "name", "eth0", "netns", there)
        run("ip", "-n", node, "link", "add", "phx-vxlan", "type", "veth", *peer)
        run("ip", "-n", node, "link", "set", "phx-vxlan", "up")
        run("ip", "-n", there, "link", "set", "eth0", "up")
        for address, length, home, flags in ((FAR, 32, NODE, ()), (FAR6, 128, NODE6, ("nodad",))):
            run("ip", "-n", there, "address", "add", f"{address}/{length}", "dev", "eth0", *flags)
            run("ip", "-n", there, "route", "add", f"{home}/{length}", "dev", "eth0")
            route = (f"{address}/{length}", "dev", "phx-vxlan", "src", home)
            run("ip", "-n", node, "route", "add", *route)
        # A node answers for its IPv6 address in no neighbour discovery but its link's own.
        [link] = json.loads(run("ip", "-n", node, "-j", "link", "show", "phx-vxlan"))
        neighbour = (NODE6, "lladdr", link["address"], "dev", "eth0")
        run("ip", "-n", there, "neighbour", "add", *neighbour)
        async with contextlib.AsyncExitStack() as stack:
            for address, version in ((FAR, 4), (FAR6, 6)):
                listening = open_socket(there, socket.SOCK_STREAM, version)
                listening.bind((address, PORT))
                server = await asyncio.start_server(answer_with("far"), sock=listening)
                await stack.enter_async_context(server)
            yield lab
    finally:
        run("ip", "netns", "delete", there)


@pytest.fixture
async def peer(far: Lab) -> AsyncIterator[Lab]:
    """Put another node behind a link of the underlay; it knows the way to this node only."""
    node, there = far.node, far.namespace("peer")
    run("ip", "netns", "add", there)
    try:
        link = ("link", "add", "under0", "type", "veth", "peer", "name", "eth0", "netns", there)
        run("ip", "-n", node, *link)
        run("ip", "-n", node, "link", "set", "under0", "up")
        run("ip", "-n", there, "link", "set", "eth0", "up")
        run("ip", "-n", there, "address", "add", f"{PEER}/32", "dev", "eth0")
        run("ip", "-n", there, "route", "add", f"{NODE}/32", "dev", "eth0")
        run("ip", "-n", node, "route", "add", f"{PEER}/32", "dev", "under0", "src", NODE)
        listening = open_socket(there, socket.SOCK_STREAM)
        listening.bind((PEER, PORT))
        async with await asyncio.start_server(answer_with("peer"), sock=listening):
            yield far
    finally:
        run("ip", "netns", "delete", there)


def far_service(address: str) -> Service:
    return Service.of([Backend(ip_address(address), PORT)])


async def test_client_keeps_its_address_at_a_backend_of_this_node(
    far: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB: service(b1=1), WEB6: service6(b1=1)})

    assert await far.ask(far.namespace("client"), WEB) == ("b1", OUTSIDE)
    assert await far.ask(far.namespace("client"), WEB6) == ("b1", OUTSIDE6)


async def test_node_lends_its_address_for_a_backend_of_another(
    far: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB: far_service(FAR), WEB6: far_service(FAR6)})

    assert await far.ask(far.namespace("client"), WEB) == ("far", NODE)
    assert await far.ask(far.namespace("client"), WEB6) == ("far", NODE6)


@pytest.mark.parametrize("vip", [WEB, OWN], ids=["leased-address", "own-address"])
async def test_node_lends_its_address_for_a_task_on_the_network_of_another(
    peer: Lab, services: NftablesServices, vip: Vip
) -> None:
    await put(services, {vip: far_service(PEER)})

    assert await peer.ask(peer.namespace("client"), vip) == ("peer", NODE)


async def test_what_others_translate_keeps_its_source(
    peer: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB: far_service(PEER)})
    chain = (
        "chain c { type nat hook prerouting priority -90; ip daddr 192.0.2.1 dnat to 198.18.0.2; };"
    )
    run("ip", "netns", "exec", peer.node, "nft", f"table ip other {{ {chain} }}")
    there = peer.namespace("peer")
    run("ip", "-n", there, "route", "add", "192.0.2.0/24", "via", NODE, "dev", "eth0", "onlink")

    assert await peer.ask(peer.namespace("client"), Vip(ip_address("192.0.2.1"), PORT)) == (
        "peer",
        OUTSIDE,
    )


async def test_container_keeps_its_address_at_a_backend_of_another_node(
    far: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB: far_service(FAR)})
    there = far.namespace("far")
    run("ip", "-n", there, "route", "add", "9.0.1.0/24", "via", NODE, "dev", "eth0", "onlink")

    assert await far.ask(far.namespace("b1"), WEB) == ("far", "9.0.1.11")
