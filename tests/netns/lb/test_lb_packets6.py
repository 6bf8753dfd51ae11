"""Services of IPv6 under real connections."""

import asyncio
import socket
from ipaddress import IPv6Address

import pytest
from tests.netns.lb.lab import (
    ALL,
    ALL6,
    DNS6,
    NODE6,
    OWN6,
    TIMES,
    WEB,
    WEB6,
    Lab,
    answer_with,
    ask_udp,
    exchange,
    is_even,
    open_socket,
    put,
    run,
    service6,
)

from phalanx.core.reconcile.delta import Delta
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("", id="from-the-node"),
        pytest.param("client", id="from-a-container"),
        pytest.param("b1", id="from-a-backend-itself-too"),
    ],
)
async def test_connections_spread_evenly(lab: Lab, services: NftablesServices, place: str) -> None:
    await put(services, {WEB6: ALL6, WEB: ALL})

    counts = await lab.asked(lab.namespace(place) if place else lab.node, WEB6, TIMES)

    assert is_even(counts), counts


async def test_node_keeps_its_address_and_a_hairpin_gets_the_bridges(
    lab: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB6: service6(b1=1)})

    from_node = await lab.ask(lab.node, WEB6)
    from_bridge = await lab.ask(lab.namespace("client"), WEB6)
    from_itself = await lab.ask(lab.namespace("b1"), WEB6)

    assert from_node == ("b1", NODE6)
    assert from_bridge == ("b1", "fd01:b::1")
    assert from_itself == ("b1", "fd01:b::1")


async def test_client_behind_another_link_keeps_its_address(
    lab: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB6: service6(b1=1)})
    client = lab.namespace("client")
    run("ip", "-n", lab.node, "link", "set", "phxvclient", "nomaster")
    run("ip", "-n", lab.node, "address", "add", "fd01:e::1/64", "dev", "phxvclient", "nodad")
    run("ip", "-n", client, "-6", "address", "flush", "dev", "eth0", "scope", "global")
    run("ip", "-n", client, "address", "add", "fd01:e::20/64", "dev", "eth0", "nodad")
    run("ip", "-n", client, "-6", "route", "replace", "default", "via", "fd01:e::1")

    answer = await lab.ask(client, WEB6)

    assert answer == ("b1", "fd01:e::20")


async def test_service_by_an_address_of_its_own_is_reached_from_containers(
    lab: Lab, services: NftablesServices
) -> None:
    await put(services, {OWN6: service6(b2=1)})

    assert (await lab.ask(lab.namespace("client"), OWN6))[0] == "b2"


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(service6(b1=0, b2=0), id="all-draining"),
        pytest.param(Service(), id="no-backend"),
    ],
)
@pytest.mark.parametrize("place", ["node", "client"])
@pytest.mark.parametrize("vip", [WEB6, OWN6], ids=["leased-address", "own-address"])
async def test_service_without_eligible_backend_refuses_at_once(
    lab: Lab, services: NftablesServices, wanted: Service, place: str, vip: Vip
) -> None:
    run("ip", "-n", lab.node, "route", "add", "fd01:f::/64", "via", "fd01:b::13")
    await put(services, {vip: wanted})
    where = lab.node if place == "node" else lab.namespace(place)

    with pytest.raises(ConnectionRefusedError):
        await lab.ask(where, vip)


async def test_leased_address_without_service_never_reaches_the_node(
    lab: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB6: ALL6})
    listening = open_socket(lab.node, socket.SOCK_STREAM, 6)
    listening.bind(("::", 5050))

    async with await asyncio.start_server(answer_with("node"), sock=listening):
        direct = await lab.ask(lab.node, Vip(IPv6Address(NODE6), 5050))
        with pytest.raises(ConnectionRefusedError):
            await lab.ask(lab.node, Vip(IPv6Address("fd01:c::9"), 5050))

    assert direct[0] == "node"


async def test_draining_backend_keeps_connections_and_gets_no_new_ones(
    lab: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB6: service6(b1=1)})
    reader, writer = await lab.connect(lab.namespace("client"), WEB6)
    await exchange(reader, writer)

    await put(services, {WEB6: service6(b1=0, b2=1)})
    counts = await lab.asked(lab.namespace("client"), WEB6, 20)
    await services.apply(Delta({}, frozenset((WEB6,))))
    still = await exchange(reader, writer)
    writer.close()

    assert counts == {"b2": 20}
    assert still[0] == "b1"


async def test_udp_follows_when_its_backend_leaves(lab: Lab, services: NftablesServices) -> None:
    await put(services, {DNS6: service6(b1=1)})
    with open_socket(lab.namespace("client"), socket.SOCK_DGRAM, 6) as opened:
        opened.connect((str(DNS6.address), DNS6.port))
        before = await ask_udp(opened)
        await put(services, {DNS6: service6(b1=0, b2=1)})
        draining = await ask_udp(opened)
        await put(services, {DNS6: service6(b2=1)})
        after = await ask_udp(opened)

    assert (before, draining, after) == ("b1", "b1", "b2")


@pytest.mark.parametrize("place", ["node", "client"])
async def test_udp_without_backend_is_refused_at_once(
    lab: Lab, services: NftablesServices, place: str
) -> None:
    await put(services, {DNS6: Service()})
    where = lab.node if place == "node" else lab.namespace(place)

    with open_socket(where, socket.SOCK_DGRAM, 6) as opened:
        opened.connect((str(DNS6.address), DNS6.port))
        with pytest.raises(ConnectionRefusedError):
            await ask_udp(opened)


async def test_damage_is_repaired(lab: Lab, services: NftablesServices) -> None:
    wanted = {WEB6: ALL6, OWN6: Service.of([Backend(IPv6Address("fd01:b::11"), 1, 0)])}
    loop = Reconciler(services, lambda: wanted)
    await loop.reconcile_once()
    run("ip", "netns", "exec", lab.node, "nft", "flush map inet phalanx_lb slots6")
    run("ip", "netns", "exec", lab.node, "nft", "flush set inet phalanx_lb refused6")
    seen = await services.read()

    assert await loop.reconcile_once()

    assert not any(service.is_whole for service in seen.values())
    assert await services.read() == wanted
    assert is_even(await lab.asked(lab.namespace("client"), WEB6, TIMES))
