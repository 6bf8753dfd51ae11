"""Services under real connections: a node, its bridge, three backends and a client on it."""

import asyncio
import json
import socket
from collections import Counter
from ipaddress import ip_address

import pytest
from tests.netns.lb.lab import (
    BOUND,
    FAMILIES,
    IP4,
    PORT,
    TIMES,
    Family,
    Lab,
    answer_with,
    exchange,
    is_even,
    open_socket,
    put,
    run,
)

from phalanx.core.reconcile.delta import Delta
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip, spell


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("", id="from-the-node"),
        pytest.param("client", id="from-a-container"),
        pytest.param("b1", id="from-a-backend-itself-too"),
    ],
)
async def test_connections_spread_evenly(
    lab: Lab, services: NftablesServices, family: Family, place: str
) -> None:
    await put(services, {each.web: each.all() for each in FAMILIES})

    counts = await lab.asked(lab.namespace(place) if place else lab.node, family.web, TIMES)

    assert is_even(counts), counts


async def test_bridge_netfilter_makes_no_difference(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    await put(services, {family.web: family.all()})
    key = f"net/bridge/bridge-nf-call-ip{'6' if family.version == 6 else ''}tables"
    was = ("ip", "netns", "exec", lab.node, "sysctl", "-n", "-e", key)
    other = "0" if run(*was).strip() == "1" else "1"

    run("ip", "netns", "exec", lab.node, "sysctl", "-q", "-e", "-w", f"{key}={other}")
    counts = await lab.asked(lab.namespace("b1"), family.web, TIMES)

    assert is_even(counts), counts


async def test_clients_are_not_told_of_a_shorter_way(lab: Lab, services: NftablesServices) -> None:
    # Of IPv4: a redirect of IPv6 names the backend's own address, not the VIP, and is right.
    await put(services, {IP4.web: IP4.service(b1=1)})
    client = lab.namespace("client")
    key = "net/bridge/bridge-nf-call-iptables"
    run("ip", "netns", "exec", lab.node, "sysctl", "-q", "-e", "-w", f"{key}=0")

    await lab.asked(client, IP4.web, 20)
    counters = run("ip", "netns", "exec", client, "nstat", "-asz", "-j", "IcmpInRedirects")

    assert json.loads(counters)["kernel"] == {"IcmpInRedirects": 0}


async def test_backend_on_the_host_network_is_reached(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    listening = open_socket(lab.node, socket.SOCK_STREAM, family.version)
    listening.bind((family.node, 31000))
    await put(services, {family.web: Service.of([Backend(ip_address(family.node), 31000)])})

    async with await asyncio.start_server(answer_with("node"), sock=listening):
        from_node = await lab.ask(lab.node, family.web)
        from_container = await lab.ask(lab.namespace("client"), family.web)

    assert from_node == ("node", family.node)
    assert from_container == ("node", family.client)


async def test_weights_are_shares(lab: Lab, services: NftablesServices, family: Family) -> None:
    await put(services, {family.web: family.service(b1=2, b2=1)})

    counts = await lab.asked(lab.node, family.web, TIMES)

    assert abs(counts["b1"] - 200) <= BOUND
    assert counts["b1"] + counts["b2"] == TIMES


async def test_node_keeps_its_address_and_a_hairpin_gets_the_bridges(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    await put(services, {family.web: family.service(b1=1)})

    from_node = await lab.ask(lab.node, family.web)
    from_bridge = await lab.ask(lab.namespace("client"), family.web)
    from_itself = await lab.ask(lab.namespace("b1"), family.web)

    assert from_node == ("b1", family.node)
    assert from_bridge == ("b1", family.bridge)
    assert from_itself == ("b1", family.bridge)


@pytest.mark.parametrize("kind", ["web", "own"], ids=["leased-address", "own-address"])
async def test_client_behind_another_link_keeps_its_address(
    lab: Lab, services: NftablesServices, family: Family, kind: str
) -> None:
    vip: Vip = getattr(family, kind)
    await put(services, {vip: family.service(b1=1)})
    client, version = lab.namespace("client"), f"-{family.version}"
    here, there = family.beyond
    no_check = ("nodad",) if family.version == 6 else ()
    run("ip", "-n", lab.node, "link", "set", "phxvclient", "nomaster")
    run("ip", "-n", lab.node, "address", "add", here, "dev", "phxvclient", *no_check)
    run("ip", "-n", client, version, "address", "flush", "dev", "eth0", "scope", "global")
    run("ip", "-n", client, "address", "add", there, "dev", "eth0", *no_check)
    way = ("default", "via", here.partition("/")[0])
    run("ip", "-n", client, version, "route", "replace", *way)

    answer = await lab.ask(client, vip)

    assert answer == ("b1", there.partition("/")[0])


async def test_service_by_an_address_of_its_own_is_reached_from_containers(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    await put(services, {family.own: family.service(b2=1)})

    assert (await lab.ask(lab.namespace("client"), family.own))[0] == "b2"


async def test_http_client_reaches_the_service(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    address = family.backends["b2"]
    listening = open_socket(lab.namespace("b2"), socket.SOCK_STREAM, family.version)
    listening.bind((address, 80))

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
        await writer.drain()
        writer.close()

    await put(services, {family.web: Service.of([Backend(ip_address(address), 80)])})
    host = f"[{family.web.address}]" if family.version == 6 else str(family.web.address)

    async with await asyncio.start_server(page, sock=listening):
        curl = ("ip", "netns", "exec", lab.namespace("client"), "curl", "-gsS", "-m", "5")
        answer = await asyncio.to_thread(run, *curl, f"http://{host}/")

    assert answer == "hello\n"


async def test_draining_backend_keeps_connections_and_gets_no_new_ones(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    await put(services, {family.web: family.service(b1=1)})
    reader, writer = await lab.connect(lab.namespace("client"), family.web)
    await exchange(reader, writer)

    await put(services, {family.web: family.service(b1=0, b2=1)})
    counts = await lab.asked(lab.namespace("client"), family.web, 50)
    await put(services, {family.web: family.service(b1=0)})
    still = await exchange(reader, writer)
    writer.close()

    assert counts == {"b2": 50}
    assert still[0] == "b1"


@pytest.mark.parametrize("place", ["node", "client"])
async def test_connections_outlive_their_service(
    lab: Lab, services: NftablesServices, family: Family, place: str
) -> None:
    await put(services, {family.web: family.all()})
    where = lab.node if place == "node" else lab.namespace(place)
    reader, writer = await lab.connect(where, family.web)
    before = await exchange(reader, writer)

    await services.apply(Delta({}, frozenset((family.web,))))
    after = await exchange(reader, writer)
    writer.close()

    assert after == before


async def test_removed_backend_gets_no_new_connections(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    await put(services, {family.web: family.all()})

    await put(services, {family.web: family.service(b1=1, b3=1)})
    counts = await lab.asked(lab.node, family.web, TIMES)

    assert set(counts) == {"b1", "b3"}
    assert abs(counts["b1"] - TIMES / 2) <= BOUND + 3


async def test_removed_backend_gives_up_its_slots_and_the_others_keep_theirs(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    listing = ("ip", "netns", "exec", lab.node, "nft", "-j", "list", "map", "inet", "phalanx_lb")
    name = "slots6" if family.version == 6 else "slots"

    def slot_table() -> dict[int, str]:
        found = json.loads(run(*listing, name))["nftables"][1]["map"]["elem"]
        return {key["concat"][3]: value["concat"][0] for key, value in found}

    await put(services, {family.web: family.all()})
    before = slot_table()
    await put(services, {family.web: family.service(b2=1, b3=1)})
    after = slot_table()

    kept = {slot for slot, address in before.items() if address != family.backends["b1"]}
    assert len(kept) == 4
    assert {slot: after[slot] for slot in kept} == {slot: before[slot] for slot in kept}
    assert Counter(after.values()) == {family.backends["b2"]: 4, family.backends["b3"]: 4}


@pytest.mark.parametrize("weights", [{"b1": 0, "b2": 0}, {}], ids=["all-draining", "no-backend"])
@pytest.mark.parametrize("place", ["node", "client"])
@pytest.mark.parametrize("kind", ["web", "own"], ids=["leased-address", "own-address"])
async def test_service_without_eligible_backend_refuses_at_once(
    lab: Lab,
    services: NftablesServices,
    family: Family,
    weights: dict[str, int],
    place: str,
    kind: str,
) -> None:
    vip: Vip = getattr(family, kind)
    way = ("via", family.backends["b3"])
    run("ip", "-n", lab.node, "route", "add", family.behind_b3, *way)
    await put(services, {vip: family.service(**weights)})
    where = lab.node if place == "node" else lab.namespace(place)

    with pytest.raises(ConnectionRefusedError):
        await lab.ask(where, vip)


async def test_leased_address_without_service_never_reaches_the_node(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    await put(services, {family.web: family.all()})
    listening = open_socket(lab.node, socket.SOCK_STREAM, family.version)
    listening.bind(("", 5050))

    async with await asyncio.start_server(answer_with("node"), sock=listening):
        direct = await lab.ask(lab.node, Vip(ip_address(family.node), 5050))
        for where in (lab.node, lab.namespace("client")):
            with pytest.raises(ConnectionRefusedError):
                await lab.ask(where, Vip(family.unused, 5050))

    assert direct[0] == "node"


async def test_mapped_port_of_the_node_takes_nothing_of_a_vip(
    lab: Lab, services: NftablesServices, family: Family
) -> None:
    # As Docker's and our own CNI plugins map ports: of whatever is an address of the node.
    word = "ip" if family.version == 4 else "ip6"
    to = f"{word} to {spell(ip_address(family.backends['b3']))}:{PORT}"
    mapped = f"meta nfproto ipv{family.version} fib daddr type local tcp dport 80 dnat {to}"
    hooks = "".join(
        f"chain {hook} {{ type nat hook {hook} priority -100; {mapped}; }};"
        for hook in ("prerouting", "output")
    )
    run("ip", "netns", "exec", lab.node, "nft", f"table inet others {{ {hooks} }}")
    refused = Vip(family.web.address + 1, 80)
    await put(services, {family.web: family.service(b1=1), refused: family.service(b1=0)})

    for where in (lab.node, lab.namespace("client")):
        own = await lab.ask(where, Vip(ip_address(family.node), 80))
        asked = await lab.ask(where, family.web)
        for vip in (refused, Vip(family.unused, 80)):
            with pytest.raises(ConnectionRefusedError):
                await lab.ask(where, vip)
        assert (own[0], asked[0]) == ("b3", "b1")
