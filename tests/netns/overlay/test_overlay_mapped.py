"""Mapped ports of a node: who reaches the container behind them, and what is answered to whom.

The house's nodes filter reverse paths strictly; so does the kernel's loose filter at the tunnel,
whose link has no IPv4 address.
"""

import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_interface
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP

from phalanx.core.netns import call_in
from phalanx.net.attachment.ports import KernelHostPorts, PortMapping
from phalanx.net.ipam.owner import Owner
from phalanx.net.model.objects import Network, Node, SubnetLease
from phalanx.net.model.view import View
from phalanx.net.overlay.mark import VXLAN_PORT

PORT, HOST_PORT = 5000, 8000
N1, N2, M1, OUT = "198.18.1.1", "198.18.2.2", "198.18.1.3", "192.0.2.9"
N1_6, N2_6, M1_6 = "fd01:a::c612:101", "fd01:a::c612:202", "fd01:a::c612:103"
D1, D2, B2 = "9.0.1.2", "9.0.2.2", "10.20.2.2"
D1_6, D2_6, B2_6 = "fd01:b::1:0:0:2", "fd01:b::2:0:0:2", "fd02:b::2:0:0:2"
LEASES = [
    (network, IPv4Address(node), IPv4Network(subnet), IPv6Network(subnet6))
    for network, node, subnet, subnet6 in (
        ("dcos", N1, "9.0.1.0/24", "fd01:b:0:0:1::/80"),
        ("dcos", N2, "9.0.2.0/24", "fd01:b:0:0:2::/80"),
        ("blue", N1, "10.20.1.0/24", "fd02:b:0:0:1::/80"),
        ("blue", N2, "10.20.2.0/24", "fd02:b:0:0:2::/80"),
    )
]
NETWORKS = [
    Network(name, IPv4Network(subnet), 24, vni, 1450, subnet6=IPv6Network(subnet6), prefix6=80)
    for name, subnet, vni, subnet6 in (
        ("dcos", "9.0.0.0/8", 1024, "fd01:b::/64"),
        ("blue", "10.20.0.0/16", 1025, "fd02:b::/64"),
    )
]
VIEW = View().changed(
    [
        *(Node(IPv4Address(address), name) for address, name in ((N1, "n1"), (N2, "n2"))),
        Node(IPv4Address(M1), "m1", is_master=True),
        *NETWORKS,
        *(SubnetLease(*each) for each in LEASES),
    ]
)
SEEN = {  # client: where it asks, by version, and as whom the container sees it
    "other-node": ("n2", {4: N2, 6: N2_6}),
    "master": ("m1", {4: M1, 6: M1_6}),
    "node-itself": ("n1", {4: N1, 6: N1_6}),
    "remote-container": ("d2", {4: D2, 6: D2_6}),
    "remote-container-of-another-network": ("b2", {4: B2, 6: B2_6}),
    "outside": ("out", {4: OUT}),
}
CASES = [
    pytest.param(short, version, source, id=f"{client}-{version}")
    for client, (short, sources) in SEEN.items()
    for version, source in sources.items()
]
ETH_P_IP = 0x0800
VIP = f"""
table ip phxtest_vip {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr 11.0.0.1 tcp dport 80 dnat to {N1}:{HOST_PORT}
  }}
  chain output {{
    type nat hook output priority -100;
    ip daddr 11.0.0.1 tcp dport 80 dnat to {N1}:{HOST_PORT}
  }}
}}
"""
COUNTED = """
table inet phxtest_counted {
  counter found { }
  counter left { }
  chain prerouting {
    type filter hook prerouting priority 0;
    meta mark & 0x10000000 != 0 counter name found
  }
  chain postrouting {
    type filter hook postrouting priority 300;
    meta mark & 0x10000000 != 0 counter name left
  }
}
"""
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}

Socket = Callable[..., socket.socket]
Run = Callable[..., str]
Reconcile = Callable[[View], Awaitable[None]]


@pytest.fixture(autouse=True)
async def overlay(reconcile: Reconcile) -> None:
    await reconcile(VIEW)


@pytest.fixture(scope="module", autouse=True)
def mapped(cluster: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Map a port of n1 to d1, as its attachment does."""
    ports = KernelHostPorts(directory=tmp_path_factory.mktemp("ports"))
    addresses = [ip_interface(f"{D1}/24"), ip_interface(f"{D1_6}/80")]
    mappings = [PortMapping(HOST_PORT, PORT, protocol) for protocol in KINDS]
    put = partial(ports.open, "dcos", Owner("d1", "eth0"), addresses, mappings, bridge="phx-1024")
    call_in(Path("/run/netns", cluster["n1"]), put)


@pytest.fixture(params=["strict", "none"])
def path_filter(request: pytest.FixtureRequest, run_in: Run) -> Iterator[None]:
    """Let the nodes' operator filter reverse paths or not."""
    value = {"strict": 1, "none": 0}[request.param]
    for node in ("n1", "n2", "m1"):
        run_in(node, "sysctl", "-qw", f"net.ipv4.conf.all.rp_filter={value}")
    yield
    for node in ("n1", "n2", "m1"):
        run_in(node, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")


def seen_as(
    socket_in: Socket,
    protocol: str,
    short: str,
    version: int,
    *,
    at: tuple[str, int] | None = None,
) -> str:
    """Ask d1 by the port of n1; return as whom it sees the client, who has heard it from there."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    server = socket_in("d1", KINDS[protocol], family=family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((D1 if version == 4 else D1_6, PORT))
    client = socket_in(short, KINDS[protocol], family=family)
    if protocol == "tcp":
        server.listen()
    client.connect(at or (N1 if version == 4 else N1_6, HOST_PORT))
    client.send(b"who am I?")
    if protocol == "tcp":
        connection, (source, *_) = server.accept()
        with connection:
            connection.sendall(source.encode())
    else:
        _, sender = server.recvfrom(100)
        source = sender[0]
        server.sendto(source.encode(), sender)
    assert client.recv(100).decode() == source
    server.close()
    return str(source)


@pytest.mark.usefixtures("path_filter")
@pytest.mark.parametrize("protocol", KINDS)
@pytest.mark.parametrize(("short", "version", "source"), CASES)
def test_everyone_reaches_a_mapped_port_and_is_seen_as_himself(
    socket_in: Socket, short: str, version: int, source: str, protocol: str
) -> None:
    assert seen_as(socket_in, protocol, short, version) == source


@pytest.mark.parametrize("short", ["n2", "out"])
def test_who_asks_a_port_where_nobody_listens_is_told(socket_in: Socket, short: str) -> None:
    client = socket_in(short, socket.SOCK_DGRAM)
    client.connect((N1, HOST_PORT))
    client.send(b"is anybody there?")

    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


@pytest.mark.parametrize(("short", "source"), [("n2", N2), ("d2", D2)])
def test_mapped_port_behind_a_vip_of_another_node(
    socket_in: Socket, run_in: Run, tmp_path: Path, short: str, source: str
) -> None:
    file = tmp_path / "vip.nft"
    file.write_text(VIP)
    run_in("n2", "nft", "-f", str(file))
    try:
        assert seen_as(socket_in, "tcp", short, 4, at=("11.0.0.1", 80)) == source
    finally:
        run_in("n2", "nft", "delete table ip phxtest_vip")


def test_mark_ends_before_a_packet_leaves_the_node(
    socket_in: Socket, run_in: Run, tmp_path: Path
) -> None:
    file = tmp_path / "counted.nft"
    file.write_text(COUNTED)
    run_in("n1", "nft", "-f", str(file))
    try:
        seen_as(socket_in, "tcp", "n2", 4)
        counters = json.loads(run_in("n1", "nft", "-j", "list counters table inet phxtest_counted"))
    finally:
        run_in("n1", "nft", "delete table inet phxtest_counted")

    found = [each["counter"] for each in counters["nftables"] if "counter" in each]
    packets = {each["name"]: each["packets"] for each in found}
    assert packets.pop("found") > 0
    assert packets == {"left": 0}


def test_answer_to_the_port_of_a_nodes_tunnel_never_leaves(socket_in: Socket) -> None:
    server = socket_in("d1", socket.SOCK_DGRAM)
    server.bind((D1, PORT))
    # What comes to the node is seen before any table of its own.
    wire = socket_in("n2", socket.SOCK_RAW, socket.htons(ETH_P_IP), family=socket.AF_PACKET)
    wire.bind(("eth0", ETH_P_IP))
    sender = socket_in("n2", socket.SOCK_RAW, socket.IPPROTO_RAW)
    for port in (VXLAN_PORT, VXLAN_PORT + 1):
        question = IP(src=N2, dst=N1) / UDP(sport=port, dport=HOST_PORT) / b"question"
        sender.sendto(bytes(question), (N1, 0))
        _, asker = server.recvfrom(100)
        assert asker == (N2, port)
        server.sendto(b"answer", asker)

    ports: list[int] = []
    while not ports or ports[-1] != VXLAN_PORT + 1:
        packet = IP(wire.recv(2000)[14:])
        if UDP in packet and bytes(packet[UDP].payload) == b"answer":
            ports.append(packet[UDP].dport)
    assert ports == [VXLAN_PORT + 1]


async def test_what_an_older_version_left_or_somebody_removed_is_right_after_one_pass(
    socket_in: Socket, run_in: Run, reconcile: Reconcile
) -> None:
    old = "rule add from 9.0.0.0/8 lookup 122 priority 12200 protocol 122"
    run_in("n1", "ip", "rule", "flush", "protocol", "122")
    run_in("n1", "ip", *old.split())
    run_in("n1", "nft", "flush chain inet phalanx_overlay mapped")
    run_in("n1", "sysctl", "-qw", "net.ipv4.conf.all.src_valid_mark=0")

    await reconcile(VIEW)

    assert seen_as(socket_in, "tcp", "n2", 4) == N2
