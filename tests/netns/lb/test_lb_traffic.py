"""Connections are counted by VIP and backend."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from tests.netns.lb.lab import (
    ALL,
    BACKENDS,
    BACKENDS6,
    DNS,
    NODE,
    PORT,
    WEB,
    WEB6,
    Lab,
    answer_with,
    ask_udp,
    exchange,
    open_socket,
    put,
    run,
    service,
    service6,
)

from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.exec import Flows
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.nftables.traffic import OTHER_RULES, RULES, NftablesTraffic
from phalanx.lb.service import Backend, Endpoint, Service, Vip
from phalanx.lb.traffic import Counted, Traffic, traffic_of_nftables
from phalanx.net.nft.library import Nft
from phalanx.net.nft.watch import TableWatch

B1, B2 = (Endpoint(IPv4Address(BACKENDS[name]), PORT) for name in ("b1", "b2"))
B1_SIX = Endpoint(IPv6Address(BACKENDS6["b1"]), PORT)


@pytest.fixture
def traffic(topology: Lab) -> Iterator[NftablesTraffic]:
    nft = Nft(netns=Path("/run/netns") / topology.node)
    yield NftablesTraffic(nft)
    nft.close()


async def keep(traffic: NftablesTraffic) -> bool:
    return await Reconciler(traffic, lambda: {RULES: None}).reconcile_once()


async def test_each_connection_is_counted_once_wherever_it_comes_from(
    lab: Lab, services: NftablesServices, traffic: NftablesTraffic
) -> None:
    await keep(traffic)
    await put(services, {WEB: service(b1=1), WEB6: service6(b1=1), DNS: service(b2=1)})

    for place in ("", "client", "b1"):
        where = lab.namespace(place) if place else lab.node
        reader, writer = await lab.connect(where, WEB)
        for _ in range(3):
            await exchange(reader, writer)
        writer.close()
        await lab.ask(where, WEB6)
    with open_socket(lab.namespace("client"), socket.SOCK_DGRAM) as opened:
        opened.connect((str(DNS.address), DNS.port))
        await ask_udp(opened)
        await ask_udp(opened)

    assert await traffic.connections() == {(WEB, B1): 3, (WEB6, B1_SIX): 3, (DNS, B2): 1}


async def test_connections_to_the_node_itself_are_counted(
    lab: Lab, services: NftablesServices, traffic: NftablesTraffic
) -> None:
    await keep(traffic)
    listening = open_socket(lab.node, socket.SOCK_STREAM)
    listening.bind((NODE, 31000))
    await put(services, {WEB: Service.of([Backend(IPv4Address(NODE), 31000)])})

    async with await asyncio.start_server(answer_with("node"), sock=listening):
        await lab.ask(lab.node, WEB)
        await lab.ask(lab.namespace("client"), WEB)

    assert await traffic.connections() == {(WEB, Endpoint(IPv4Address(NODE), 31000)): 2}


async def test_what_others_put_among_the_counters_is_left_out(
    lab: Lab, services: NftablesServices, traffic: NftablesTraffic
) -> None:
    await keep(traffic)
    await put(services, {WEB: service(b1=1)})
    await lab.ask(lab.node, WEB)
    foreign = "add element inet phalanx_lb_traffic connections { 9.0.0.1 . sctp . 1 . 9.0.0.2 . 2 }"
    run("ip", "netns", "exec", lab.node, "nft", foreign)

    assert await traffic.connections() == {(WEB, B1): 1}


async def test_connections_without_a_vip_are_not_counted(
    lab: Lab, services: NftablesServices, traffic: NftablesTraffic
) -> None:
    await keep(traffic)
    await put(services, {WEB: ALL})

    await lab.ask(lab.namespace("client"), Vip(B1.address, PORT))

    assert await traffic.connections() == {}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("flush table inet phalanx_lb_traffic", id="rules-flushed"),
        pytest.param("add rule inet phalanx_lb_traffic input drop", id="rule-added"),
    ],
)
async def test_damage_is_repaired_and_counters_are_kept(
    lab: Lab, services: NftablesServices, traffic: NftablesTraffic, damage: str
) -> None:
    await keep(traffic)
    await put(services, {WEB: service(b1=1)})
    await lab.ask(lab.node, WEB)
    run("ip", "netns", "exec", lab.node, "nft", damage)
    seen = await traffic.read()

    await keep(traffic)
    await lab.ask(lab.node, WEB)

    assert seen == {}
    assert await traffic.read() == {RULES: None}
    assert await traffic.connections() == {(WEB, B1): 2}


@pytest.mark.parametrize(
    "there",
    [
        pytest.param("", id="deleted"),
        pytest.param(
            "table inet phalanx_lb_traffic { set connections { type ipv4_addr; }; }",
            id="set-of-another-form",
        ),
        pytest.param(
            "table inet phalanx_lb_traffic { set other { type ipv4_addr; }; }", id="other-set"
        ),
    ],
)
async def test_whatever_is_there_becomes_the_table(
    lab: Lab, traffic: NftablesTraffic, there: str
) -> None:
    if there:
        run("ip", "netns", "exec", lab.node, "nft", there)

    assert await keep(traffic)

    assert await traffic.read() == {RULES: None}


@pytest.mark.parametrize("is_made_here", [True, False])
async def test_data_plane_that_counts_itself_has_no_such_table(
    lab: Lab, traffic: NftablesTraffic, is_made_here: bool
) -> None:
    if is_made_here:
        await keep(traffic)
    else:
        run("ip", "netns", "exec", lab.node, "nft", "add table inet phalanx_lb_traffic")
    nft = Nft(netns=Path("/run/netns") / lab.node)
    unwanted = NftablesTraffic(nft, is_wanted=False)

    assert await unwanted.read() == {OTHER_RULES: None}
    assert await Reconciler(unwanted, dict).reconcile_once()
    nft.close()

    assert "phalanx_lb_traffic" not in run("ip", "netns", "exec", lab.node, "nft", "list tables")


async def test_counting_is_no_news_of_a_table(
    lab: Lab, services: NftablesServices, traffic: NftablesTraffic
) -> None:
    await keep(traffic)
    await put(services, {WEB: service(b1=1)})
    nft = Nft(netns=Path("/run/netns") / lab.node)
    watch = await nft.open(lambda: TableWatch("phalanx_lb_traffic"))

    await lab.ask(lab.node, WEB)
    news = watch.writers()
    watch.close()
    nft.close()

    assert await traffic.connections() == {(WEB, B1): 1}
    assert news == frozenset()


async def test_next_process_keeps_the_counters(
    lab: Lab, services: NftablesServices, traffic: NftablesTraffic
) -> None:
    await keep(traffic)
    await put(services, {WEB: service(b1=1)})
    await lab.ask(lab.node, WEB)
    nft = Nft(netns=Path("/run/netns") / lab.node)
    follower = NftablesTraffic(nft)

    await keep(follower)
    counted = await follower.connections()
    nft.close()

    assert counted == {(WEB, B1): 1}


async def test_open_connections_are_told_until_they_are_closed(
    lab: Lab, services: NftablesServices, traffic: NftablesTraffic
) -> None:
    await keep(traffic)
    await put(services, {WEB: service(b1=1), WEB6: service6(b1=1), DNS: service(b2=1)})
    read = traffic_of_nftables(traffic, Flows(netns=Path("/run/netns") / lab.node))
    client = lab.namespace("client")
    kept = [await lab.connect(where, vip) for where in (client, lab.node) for vip in (WEB, WEB6)]
    with open_socket(client, socket.SOCK_DGRAM) as opened:
        opened.connect((str(DNS.address), DNS.port))
        await ask_udp(opened)
    for reader, writer in kept:
        await exchange(reader, writer)

    unasked = await read()
    before = await read(with_open=True)
    for _, writer in kept[1:]:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(10):
        while (  # noqa: ASYNC110 - nobody is told when a connection ends
            after := await read(with_open=True)
        )[WEB, B1].active != 1:
            await asyncio.sleep(0.02)  # waits: for the backend's half of the end
    kept[0][1].close()

    assert unasked[WEB, B1] == Counted(2)
    assert before == {
        (WEB, B1): Counted(2, 2),
        (WEB6, B1_SIX): Counted(2, 2),
        (DNS, B2): Counted(1, 1),
    }
    assert after == {
        (WEB, B1): Counted(2, 1),
        (WEB6, B1_SIX): Counted(2, 0),
        (DNS, B2): Counted(1, 1),
    }


async def test_bytes_are_counted_once_wherever_client_and_backend_are(
    lab: Lab, services: NftablesServices
) -> None:
    netns = Path("/run/netns") / lab.node
    listening = open_socket(lab.node, socket.SOCK_STREAM)
    listening.bind((NODE, 31000))
    own = Service.of([Backend(IPv4Address(NODE), 31000)])
    nft = Nft(netns=netns)
    try:
        traffic = NftablesTraffic(nft, has_bytes=True)
        await keep(traffic)
        await put(services, {WEB: own, WEB6: service6(b1=1), DNS: service(b2=1)})
        read = traffic_of_nftables(traffic, Flows(netns=netns))
        volumes = []
        async with await asyncio.start_server(answer_with("node"), sock=listening):
            for where in (lab.node, lab.namespace("client")):
                before = await read()
                for vip in (WEB, WEB6):
                    reader, writer = await lab.connect(where, vip)
                    writer.write(b"x" * 50_000 + b"\n")
                    async with asyncio.timeout(5):
                        await reader.readline()
                    writer.close()
                with open_socket(where, socket.SOCK_DGRAM) as opened:
                    opened.connect((str(DNS.address), DNS.port))
                    await ask_udp(opened)
                volumes.append((before, await read()))
    finally:
        nft.close()

    ends = ((WEB, Endpoint(IPv4Address(NODE), 31000)), (WEB6, B1_SIX), (DNS, B2))
    for before, after in volumes:
        grown = [_volume(after, end, "bytes_in") - _volume(before, end, "bytes_in") for end in ends]
        back = [
            _volume(after, end, "bytes_out") - _volume(before, end, "bytes_out") for end in ends
        ]
        # Headers are a few hundredths of it, the second time would be all of it.
        assert all(50_000 < size < 80_000 for size in grown[:2])
        assert all(0 < size < 30_000 for size in back[:2])
        assert (grown[2], back[2]) == (28 + len("who"), 28 + len("b2"))


def _volume(read: Traffic, end: tuple[Vip, Endpoint], field: str) -> int:
    counted = read.get(end)
    return 0 if counted is None else getattr(counted, field)
