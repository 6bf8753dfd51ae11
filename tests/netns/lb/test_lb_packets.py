"""Services under real connections: a node, its bridge, three backends and a client on it."""

import asyncio
import contextlib
import json
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import netns as namespaces

from phalanx.core.reconcile.delta import Delta
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.exec import Flows
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.library import Nft

NODE = "198.18.0.1"
BACKENDS = {"b1": "9.0.1.11", "b2": "9.0.1.12", "b3": "9.0.1.13"}
CLIENT = "9.0.1.20"
WEB = Vip(IPv4Address("11.0.0.1"), 80)
DNS = Vip(IPv4Address("11.0.0.2"), 53, Protocol.UDP)
OWN = Vip(IPv4Address("203.0.113.7"), 443)
PORT = 8080


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def open_socket(namespace: str, kind: socket.SocketKind) -> socket.socket:
    """Open a socket that lives in *namespace*, from a thread that moves there and ends."""
    opened: list[socket.socket] = []

    def work() -> None:
        namespaces.setns(namespace)
        opened.append(socket.socket(socket.AF_INET, kind))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    opened[0].setblocking(False)
    return opened[0]


class Lab:
    """A node's namespace and what stands in the containers on its bridge."""

    def __init__(self, node: str) -> None:
        self.node = node

    def namespace(self, name: str) -> str:
        return f"{self.node}-{name}"

    async def connect(
        self, where: str, vip: Vip
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opened = open_socket(where, socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_connect(opened, (str(vip.address), vip.port))
        except BaseException:
            opened.close()
            raise
        return await asyncio.open_connection(sock=opened)

    async def ask(self, where: str, vip: Vip) -> tuple[str, str]:
        """Connect from *where*; return the name of the backend and the source that it saw."""
        reader, writer = await self.connect(where, vip)
        try:
            return await exchange(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    async def asked(self, where: str, vip: Vip, times: int) -> Counter[str]:
        return Counter([(await self.ask(where, vip))[0] for _ in range(times)])


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, str]:
    writer.write(b"who\n")
    async with asyncio.timeout(5):
        line = await reader.readline()
    name, source = line.decode().split()
    return name, source


async def ask_udp(opened: socket.socket) -> str:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(opened, b"who")
    async with asyncio.timeout(5):
        return (await loop.sock_recv(opened, 100)).decode()


class Named(asyncio.DatagramProtocol):
    """Answers every datagram with its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._name.encode(), addr)


def answer_with(
    name: str,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = writer.get_extra_info("peername")[0]
        with contextlib.suppress(ConnectionError):
            while await reader.readline():
                writer.write(f"{name} {source}\n".encode())
                await writer.drain()
        writer.close()

    return serve


@pytest.fixture
def topology(ns: str) -> Iterator[Lab]:
    """Build node, bridge and containers as the plane does."""
    made: list[str] = []
    try:
        run("ip", "netns", "exec", ns, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        run("ip", "-n", ns, "address", "add", f"{NODE}/32", "dev", "lo")
        run("ip", "-n", ns, "link", "add", "phx-1024", "type", "bridge")
        run("ip", "-n", ns, "address", "add", "9.0.1.1/24", "dev", "phx-1024")
        run("ip", "-n", ns, "link", "set", "phx-1024", "up")
        route = ("local", "11.0.0.0/8", "dev", "lo", "src", NODE)
        run("ip", "-n", ns, "route", "add", *route)
        for name, address in {**BACKENDS, "client": CLIENT}.items():
            inside = f"{ns}-{name}"
            run("ip", "netns", "add", inside)
            made.append(inside)
            peer = ("peer", "name", "eth0", "netns", inside)
            run("ip", "-n", ns, "link", "add", f"phxv{name}", "type", "veth", *peer)
            run("ip", "-n", ns, "link", "set", f"phxv{name}", "master", "phx-1024", "up")
            run("bridge", "-n", ns, "link", "set", "dev", f"phxv{name}", "hairpin", "on")
            run("ip", "-n", inside, "link", "set", "lo", "up")
            run("ip", "-n", inside, "address", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", inside, "link", "set", "eth0", "up")
            run("ip", "-n", inside, "route", "add", "default", "via", "9.0.1.1")
        yield Lab(ns)
    finally:
        for inside in made:
            run("ip", "netns", "delete", inside)


@pytest.fixture
async def lab(topology: Lab) -> AsyncIterator[Lab]:
    """Start a TCP and a UDP server in every backend."""
    async with contextlib.AsyncExitStack() as stack:
        for name, address in BACKENDS.items():
            inside = topology.namespace(name)
            listening = open_socket(inside, socket.SOCK_STREAM)
            listening.bind((address, PORT))
            server = await asyncio.start_server(answer_with(name), sock=listening)
            await stack.enter_async_context(server)
            bound = open_socket(inside, socket.SOCK_DGRAM)
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
    services = NftablesServices(nft, flows=Flows(netns=netns))
    try:
        yield services
    finally:
        services.close()
        nft.close()


def service(**weights: int) -> Service:
    return Service.of(
        Backend(IPv4Address(BACKENDS[name]), PORT, weight) for name, weight in weights.items()
    )


async def put(services: NftablesServices, wanted: dict[Vip, Service]) -> None:
    await services.apply(Delta(wanted, frozenset()))


ALL = service(b1=1, b2=1, b3=1)
TIMES = 300
# Five standard deviations of a fair draw: sqrt(300 · 1/3 · 2/3) = 8.2.
BOUND = 41


def is_even(counts: Counter[str], *, names: int = 3) -> bool:
    fair = counts.total() / names
    return len(counts) == names and all(abs(count - fair) <= BOUND for count in counts.values())


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


async def test_udp_without_backend_is_refused_at_once(lab: Lab, services: NftablesServices) -> None:
    await put(services, {DNS: Service()})

    with open_socket(lab.namespace("client"), socket.SOCK_DGRAM) as opened:
        opened.connect((str(DNS.address), DNS.port))
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
