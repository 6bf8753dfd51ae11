"""A node with its containers, and a data plane in its namespace."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.netns.lb.lab import (
    BACKENDS,
    BACKENDS6,
    CLIENT,
    CLIENT6,
    FAMILIES,
    NODE,
    NODE6,
    PORT,
    Family,
    Lab,
    Named,
    answer_with,
    open_socket,
    run,
)

from phalanx.lb.exec import Flows
from phalanx.lb.nftables.services import NftablesServices
from phalanx.net.nft.library import Nft


@pytest.fixture(params=FAMILIES, ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture
def topology(ns: str) -> Iterator[Lab]:
    """Build node, bridge and containers as the plane does."""
    made: list[str] = []
    try:
        run("ip", "netns", "exec", ns, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        run("ip", "netns", "exec", ns, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        no_dad = ("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        run("ip", "netns", "exec", ns, *no_dad)
        run("ip", "-n", ns, "address", "add", f"{NODE}/32", "dev", "lo")
        run("ip", "-n", ns, "link", "add", "phx-1024", "type", "bridge")
        run("ip", "-n", ns, "address", "add", "9.0.1.1/24", "dev", "phx-1024")
        run("ip", "-n", ns, "address", "add", f"{NODE6}/128", "dev", "lo", "nodad")
        run("ip", "-n", ns, "address", "add", "fd01:b::1/64", "dev", "phx-1024", "nodad")
        run("ip", "-n", ns, "link", "set", "phx-1024", "up")
        route = ("local", "11.0.0.0/8", "dev", "lo", "src", NODE)
        run("ip", "-n", ns, "route", "add", *route)
        route6 = ("local", "fd01:c::/64", "dev", "lo", "src", NODE6)
        run("ip", "-n", ns, "route", "add", *route6)
        for name, address in {**BACKENDS, "client": CLIENT}.items():
            inside = f"{ns}-{name}"
            run("ip", "netns", "add", inside)
            made.append(inside)
            run("ip", "netns", "exec", inside, *no_dad)
            peer = ("peer", "name", "eth0", "netns", inside)
            run("ip", "-n", ns, "link", "add", f"phxv{name}", "type", "veth", *peer)
            run("ip", "-n", ns, "link", "set", f"phxv{name}", "master", "phx-1024", "up")
            run("bridge", "-n", ns, "link", "set", "dev", f"phxv{name}", "hairpin", "on")
            run("ip", "-n", inside, "link", "set", "lo", "up")
            run("ip", "-n", inside, "address", "add", f"{address}/24", "dev", "eth0")
            six = BACKENDS6.get(name, CLIENT6)
            run("ip", "-n", inside, "address", "add", f"{six}/64", "dev", "eth0", "nodad")
            run("ip", "-n", inside, "link", "set", "eth0", "up")
            run("ip", "-n", inside, "route", "add", "default", "via", "9.0.1.1")
            run("ip", "-n", inside, "route", "add", "default", "via", "fd01:b::1")
        yield Lab(ns)
    finally:
        for inside in made:
            run("ip", "netns", "delete", inside)


@pytest.fixture
async def lab(topology: Lab) -> AsyncIterator[Lab]:
    """Start a TCP and a UDP server in every backend."""
    async with contextlib.AsyncExitStack() as stack:
        for (name, address), version in (
            *((each, 4) for each in BACKENDS.items()),
            *((each, 6) for each in BACKENDS6.items()),
        ):
            inside = topology.namespace(name)
            listening = open_socket(inside, socket.SOCK_STREAM, version)
            listening.bind((address, PORT))
            server = await asyncio.start_server(answer_with(name), sock=listening)
            await stack.enter_async_context(server)
            bound = open_socket(inside, socket.SOCK_DGRAM, version)
            bound.bind((address, PORT))
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                partial(Named, name), sock=bound
            )
            stack.callback(transport.close)
        yield topology


@pytest.fixture
def services(topology: Lab) -> Iterator[NftablesServices]:
    netns = Path("/run/netns") / topology.node
    nft = Nft(netns=netns)
    services = NftablesServices(nft, node=IPv4Address(NODE), flows=Flows(netns=netns))
    try:
        yield services
    finally:
        services.close()
        nft.close()
