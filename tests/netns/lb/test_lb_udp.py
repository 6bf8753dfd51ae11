"""Datagrams: their flows follow their backends."""

import asyncio
import contextlib
import socket
from ipaddress import IPv4Address

import pytest
from tests.netns.lb.lab import (
    DNS,
    DNS6,
    NODE,
    OWN,
    Family,
    Lab,
    Named,
    ask_udp,
    open_socket,
    put,
    run,
    service,
    service6,
)

from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.objects import Protocol


async def test_udp_follows_when_its_backend_leaves(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    await put(services, {family.dns: family.service(b1=1)})
    with open_socket(lab.namespace("client"), socket.SOCK_DGRAM, family.version) as opened:
        opened.connect((str(family.dns.address), family.dns.port))
        before = await ask_udp(opened)
        await put(services, {family.dns: family.service(b1=0, b2=1)})
        draining = await ask_udp(opened)
        await put(services, {family.dns: family.service(b2=1)})
        after = await ask_udp(opened)

    assert (before, draining, after) == ("b1", "b1", "b2")


async def test_only_flows_of_the_service_that_lost_its_backend_are_forgotten(
    lab: Lab, services: NftablesServices
) -> None:
    other = Vip(DNS.address + 1, 53, Protocol.UDP)
    await put(services, {DNS: service(b1=1), other: service(b1=1)})
    for vip in (DNS, other):
        with open_socket(lab.namespace("client"), socket.SOCK_DGRAM) as opened:
            opened.connect((str(vip.address), vip.port))
            await ask_udp(opened)

    await put(services, {DNS: service(b2=1)})
    flows = run("ip", "netns", "exec", lab.node, "conntrack", "-L", "-p", "udp")

    assert f"dst={other.address} " in flows
    assert f"dst={DNS.address} " not in flows


async def test_udp_of_many_services_follows_when_their_backends_leave(
    lab: Lab, services: NftablesServices
) -> None:
    four = [Vip(DNS.address + number, 53, Protocol.UDP) for number in range(4)]
    six = [Vip(DNS6.address + number, 53, Protocol.UDP) for number in range(2)]
    kept = Vip(DNS.address, 54, Protocol.UDP)
    before = {vip: service(b1=1, b2=0) for vip in (*four, kept)}
    before |= {vip: service6(b1=1, b2=0) for vip in six}
    await put(services, before)
    with contextlib.ExitStack() as stack:
        clients = {}
        for vip in before:
            opened = open_socket(lab.namespace("client"), socket.SOCK_DGRAM, vip.address.version)
            clients[vip] = stack.enter_context(opened)
            opened.connect((str(vip.address), vip.port))
        asked = [await ask_udp(opened) for opened in clients.values()]

        after = {vip: service(b2=1) for vip in four} | {vip: service6(b2=1) for vip in six}
        await put(services, after | {kept: service(b1=0, b2=1)})
        moved = [await ask_udp(clients[vip]) for vip in after]

        assert (set(asked), set(moved)) == ({"b1"}, {"b2"})
        assert await ask_udp(clients[kept]) == "b1"


@pytest.mark.parametrize("place", ["node", "client"])
async def test_udp_without_backend_is_refused_at_once(
    lab: Lab, services: NftablesServices, family: Family, place: str
) -> None:
    await put(services, {family.dns: Service()})
    where = lab.node if place == "node" else lab.namespace(place)

    with open_socket(where, socket.SOCK_DGRAM, family.version) as opened:
        opened.connect((str(family.dns.address), family.dns.port))
        with pytest.raises(ConnectionRefusedError):
            await ask_udp(opened)


async def test_answer_comes_from_the_vip_though_a_process_of_the_node_has_every_address(
    lab: Lab, services: NftablesServices
) -> None:
    bound = open_socket(lab.node, socket.SOCK_DGRAM)
    bound.bind(("0.0.0.0", 31000))  # as most servers do: it answers a container from the bridge
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Named("node"), sock=bound)
    await put(services, {DNS: Service.of([Backend(IPv4Address(NODE), 31000)])})

    with contextlib.closing(transport):
        for where in (lab.namespace("client"), lab.node):
            with open_socket(where, socket.SOCK_DGRAM) as opened:
                opened.connect((str(DNS.address), DNS.port))
                assert await ask_udp(opened) == "node"


async def test_nodes_own_udp_to_an_address_of_its_own_is_refused_at_once(
    lab: Lab, services: NftablesServices
) -> None:
    # The plane's routes make such an address the node's (plane/tables.py).
    run("ip", "-n", lab.node, "route", "add", "local", str(OWN.address), "dev", "lo", "src", NODE)
    own = Vip(OWN.address, 53, Protocol.UDP)
    await put(services, {own: service(b1=0)})

    with open_socket(lab.node, socket.SOCK_DGRAM) as opened:
        opened.connect((str(own.address), own.port))
        with pytest.raises(ConnectionRefusedError):
            await ask_udp(opened)
