"""Services under real connections: a node, its bridge, three backends and a client on it."""

import asyncio
import contextlib
import json
import socket
from collections import Counter
from ipaddress import IPv4Address

import pytest
from tests.netns.lb.lab import (
    ALL,
    BACKENDS,
    BOUND,
    CLIENT,
    DNS,
    DNS6,
    NODE,
    OWN,
    TIMES,
    WEB,
    Lab,
    answer_with,
    ask_udp,
    exchange,
    is_even,
    open_socket,
    put,
    run,
    service,
    service6,
)

from phalanx.core.reconcile.delta import Delta
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.objects import Protocol


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("", id="from-the-node"),
        pytest.param("client", id="from-a-container"),
        pytest.param("b1", id="from-a-backend-itself-too"),
    ],
)
async def test_connections_spread_evenly(lab: Lab, services: NftablesServices, place: str) -> None:
    await put(services, {WEB: ALL})

    counts = await lab.asked(lab.namespace(place) if place else lab.node, WEB, TIMES)

    assert is_even(counts), counts


async def test_bridge_netfilter_makes_no_difference(lab: Lab, services: NftablesServices) -> None:
    await put(services, {WEB: ALL})
    key = "net/bridge/bridge-nf-call-iptables"
    was = ("ip", "netns", "exec", lab.node, "sysctl", "-n", "-e", key)
    other = "0" if run(*was).strip() == "1" else "1"

    run("ip", "netns", "exec", lab.node, "sysctl", "-q", "-e", "-w", f"{key}={other}")
    counts = await lab.asked(lab.namespace("b1"), WEB, TIMES)

    assert is_even(counts), counts


async def test_clients_are_not_told_of_a_shorter_way(lab: Lab, services: NftablesServices) -> None:
    await put(services, {WEB: service(b1=1)})
    client = lab.namespace("client")
    key = "net/bridge/bridge-nf-call-iptables"
    run("ip", "netns", "exec", lab.node, "sysctl", "-q", "-e", "-w", f"{key}=0")

    await lab.asked(client, WEB, 20)
    names, values = (
        line.split()
        for line in run("ip", "netns", "exec", client, "cat", "/proc/net/snmp").splitlines()
        if line.startswith("Icmp:")
    )

    assert dict(zip(names, values, strict=True))["InRedirects"] == "0"


async def test_backend_on_the_host_network_is_reached(lab: Lab, services: NftablesServices) -> None:
    listening = open_socket(lab.node, socket.SOCK_STREAM)
    listening.bind((NODE, 31000))
    await put(services, {WEB: Service.of([Backend(IPv4Address(NODE), 31000)])})

    async with await asyncio.start_server(answer_with("node"), sock=listening):
        from_node = await lab.ask(lab.node, WEB)
        from_container = await lab.ask(lab.namespace("client"), WEB)

    assert from_node == ("node", NODE)
    assert from_container == ("node", CLIENT)


async def test_weights_are_shares(lab: Lab, services: NftablesServices) -> None:
    await put(services, {WEB: service(b1=2, b2=1)})

    counts = await lab.asked(lab.node, WEB, TIMES)

    assert abs(counts["b1"] - 200) <= BOUND
    assert counts["b1"] + counts["b2"] == TIMES


async def test_node_keeps_its_address_and_a_hairpin_gets_the_bridges(
    lab: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB: service(b1=1)})

    from_node = await lab.ask(lab.node, WEB)
    from_bridge = await lab.ask(lab.namespace("client"), WEB)
    from_itself = await lab.ask(lab.namespace("b1"), WEB)

    assert from_node == ("b1", NODE)
    assert from_bridge == ("b1", "9.0.1.1")
    assert from_itself == ("b1", "9.0.1.1")


async def test_client_behind_another_link_keeps_its_address(
    lab: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB: service(b1=1)})
    client = lab.namespace("client")
    run("ip", "-n", lab.node, "link", "set", "phxvclient", "nomaster")
    run("ip", "-n", lab.node, "address", "add", "9.0.2.1/24", "dev", "phxvclient")
    run("ip", "-n", client, "address", "flush", "dev", "eth0")
    run("ip", "-n", client, "address", "add", "9.0.2.20/24", "dev", "eth0")
    run("ip", "-n", client, "route", "add", "default", "via", "9.0.2.1")

    answer = await lab.ask(client, WEB)

    assert answer == ("b1", "9.0.2.20")


async def test_http_client_reaches_the_service(lab: Lab, services: NftablesServices) -> None:
    listening = open_socket(lab.namespace("b2"), socket.SOCK_STREAM)
    listening.bind((BACKENDS["b2"], 80))

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
        await writer.drain()
        writer.close()

    await put(services, {WEB: Service.of([Backend(IPv4Address(BACKENDS["b2"]), 80)])})

    async with await asyncio.start_server(page, sock=listening):
        curl = ("ip", "netns", "exec", lab.namespace("client"), "curl", "-sS", "-m", "5")
        answer = await asyncio.to_thread(run, *curl, f"http://{WEB.address}/")

    assert answer == "hello\n"


async def test_draining_backend_keeps_connections_and_gets_no_new_ones(
    lab: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB: service(b1=1)})
    reader, writer = await lab.connect(lab.namespace("client"), WEB)
    await exchange(reader, writer)

    await put(services, {WEB: service(b1=0, b2=1)})
    counts = await lab.asked(lab.namespace("client"), WEB, 50)
    still = await exchange(reader, writer)
    writer.close()

    assert counts == {"b2": 50}
    assert still[0] == "b1"


async def test_connections_outlive_their_service(lab: Lab, services: NftablesServices) -> None:
    await put(services, {WEB: ALL})
    reader, writer = await lab.connect(lab.node, WEB)
    before = await exchange(reader, writer)

    await services.apply(Delta({}, frozenset((WEB,))))
    after = await exchange(reader, writer)
    writer.close()

    assert after == before


async def test_removed_backend_gets_no_new_connections(
    lab: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB: ALL})

    await put(services, {WEB: service(b1=1, b3=1)})
    counts = await lab.asked(lab.node, WEB, TIMES)

    assert set(counts) == {"b1", "b3"}
    assert abs(counts["b1"] - TIMES / 2) <= BOUND + 3


async def test_removed_backend_gives_up_its_slots_and_the_others_keep_theirs(
    lab: Lab, services: NftablesServices
) -> None:
    listing = ("ip", "netns", "exec", lab.node, "nft", "-j", "list", "map", "inet", "phalanx_lb")

    def slot_table() -> dict[int, str]:
        found = json.loads(run(*listing, "slots"))["nftables"][1]["map"]["elem"]
        return {key["concat"][3]: value["concat"][0] for key, value in found}

    await put(services, {WEB: ALL})
    before = slot_table()
    await put(services, {WEB: service(b2=1, b3=1)})
    after = slot_table()

    kept = {slot for slot, address in before.items() if address != BACKENDS["b1"]}
    assert len(kept) == 4
    assert {slot: after[slot] for slot in kept} == {slot: before[slot] for slot in kept}
    assert Counter(after.values()) == {BACKENDS["b2"]: 4, BACKENDS["b3"]: 4}


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(service(b1=0, b2=0), id="all-draining"),
        pytest.param(Service(), id="no-backend"),
    ],
)
@pytest.mark.parametrize("place", ["node", "client"])
@pytest.mark.parametrize("vip", [WEB, OWN], ids=["leased-address", "own-address"])
async def test_service_without_eligible_backend_refuses_at_once(
    lab: Lab, services: NftablesServices, wanted: Service, place: str, vip: Vip
) -> None:
    run("ip", "-n", lab.node, "route", "add", "203.0.113.0/24", "via", BACKENDS["b3"])
    await put(services, {vip: wanted})
    where = lab.node if place == "node" else lab.namespace(place)

    with pytest.raises(ConnectionRefusedError):
        await lab.ask(where, vip)


async def test_leased_address_without_service_never_reaches_the_node(
    lab: Lab, services: NftablesServices
) -> None:
    await put(services, {WEB: ALL})
    listening = open_socket(lab.node, socket.SOCK_STREAM)
    listening.bind(("0.0.0.0", 5050))

    async with await asyncio.start_server(answer_with("node"), sock=listening):
        direct = await lab.ask(lab.node, Vip(IPv4Address(NODE), 5050))
        with pytest.raises(ConnectionRefusedError):
            await lab.ask(lab.node, Vip(IPv4Address("11.0.0.9"), 5050))

    assert direct[0] == "node"


async def test_udp_follows_when_its_backend_leaves(lab: Lab, services: NftablesServices) -> None:
    await put(services, {DNS: service(b1=1)})
    with open_socket(lab.namespace("client"), socket.SOCK_DGRAM) as opened:
        opened.connect((str(DNS.address), DNS.port))
        before = await ask_udp(opened)
        await put(services, {DNS: service(b1=0, b2=1)})
        draining = await ask_udp(opened)
        await put(services, {DNS: service(b2=1)})
        after = await ask_udp(opened)

    assert (before, draining, after) == ("b1", "b1", "b2")


async def test_only_flows_of_the_service_that_lost_its_backend_are_forgotten(
    lab: Lab, services: NftablesServices
) -> None:
    other = Vip(IPv4Address("11.0.0.3"), 53, Protocol.UDP)
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
    lab: Lab, services: NftablesServices, place: str
) -> None:
    await put(services, {DNS: Service()})
    where = lab.node if place == "node" else lab.namespace(place)

    with open_socket(where, socket.SOCK_DGRAM) as opened:
        opened.connect((str(DNS.address), DNS.port))
        with pytest.raises(ConnectionRefusedError):
            await ask_udp(opened)


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


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("flush table inet phalanx_lb", id="rules-flushed"),
        pytest.param("delete table inet phalanx_lb", id="table-deleted"),
        pytest.param("flush map inet phalanx_lb slots", id="slots-flushed"),
        pytest.param("flush chain inet phalanx_lb prerouting", id="chain-flushed"),
        pytest.param("add rule inet phalanx_lb balance drop", id="rule-added"),
        pytest.param("flush set inet phalanx_lb services_8", id="services-flushed"),
        pytest.param(
            "delete element inet phalanx_lb services_8 { 11.0.0.1 . tcp . 80 }",
            id="element-deleted",
        ),
        pytest.param(
            "add element inet phalanx_lb services_32 { 11.0.0.1 . tcp . 80 }",
            id="element-in-two-sets",
        ),
        pytest.param(
            "add element inet phalanx_lb refused { 11.0.0.1 . tcp . 80 }", id="element-added"
        ),
        pytest.param(
            "add element inet phalanx_lb slots { 11.7.7.7 . tcp . 80 . 0 : 9.0.1.11 . 1 }",
            id="foreign-element",
        ),
        pytest.param(
            "delete element inet phalanx_lb slots { 11.0.0.1 . tcp . 80 . 0 }",
            id="slot-deleted",
        ),
        pytest.param("flush map inet phalanx_lb fingerprint", id="fingerprint-lost"),
    ],
)
async def test_damage_is_repaired(lab: Lab, services: NftablesServices, damage: str) -> None:
    wanted = {WEB: ALL}
    loop = Reconciler(services, lambda: wanted)
    await loop.reconcile_once()
    listing = ("ip", "netns", "exec", lab.node, "nft", "list", "table", "inet", "phalanx_lb")
    before = run(*listing)
    run("ip", "netns", "exec", lab.node, "nft", damage)
    seen = await services.read()

    repaired = await loop.reconcile_once()

    assert seen != wanted
    assert repaired
    assert await services.read() == wanted
    assert run(*listing).splitlines()[-100:] == before.splitlines()[-100:]
    assert is_even(await lab.asked(lab.namespace("client"), WEB, TIMES))


async def test_tables_of_others_are_left_alone(lab: Lab, services: NftablesServices) -> None:
    foreign = "table inet mine { chain input { type filter hook input priority 0; counter; }; }"
    run("ip", "netns", "exec", lab.node, "nft", foreign)
    listing = ("ip", "netns", "exec", lab.node, "nft", "-s", "list", "table", "inet", "mine")
    before = run(*listing)

    await put(services, {WEB: ALL})
    run("ip", "netns", "exec", lab.node, "nft", "flush table inet phalanx_lb")
    await Reconciler(services, lambda: {WEB: ALL}).reconcile_once()

    assert run(*listing) == before
