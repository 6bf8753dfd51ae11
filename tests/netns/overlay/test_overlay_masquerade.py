"""What a container sends as its node, whose address masquerade gives it, to other nodes."""

import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest
from scapy.layers.inet import IP, UDP

from phalanx.net.model.objects import Network, Node, SubnetLease
from phalanx.net.model.view import View
from phalanx.net.overlay.mark import PEER_PORT, VXLAN_PORT

N1, N2, M1 = "198.18.1.1", "198.18.2.2", "198.18.1.3"
D1, D2 = "9.0.1.2", "9.0.2.2"
OWN = "172.17.0.2"
VIEW = View().changed(
    [
        *(Node(IPv4Address(address), name) for address, name in ((N1, "n1"), (N2, "n2"))),
        Node(IPv4Address(M1), "m1", is_master=True),
        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
        SubnetLease("dcos", IPv4Address(N1), IPv4Network("9.0.1.0/24")),
        SubnetLease("dcos", IPv4Address(N2), IPv4Network("9.0.2.0/24")),
    ]
)
MASQUERADE = """
table ip phxtest_masquerade {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 172.17.0.0/16 oifname != "docker0" masquerade
  }
}
"""
COUNTED = """
table inet phxtest_counted {
  counter forwarded { }
  chain forward {
    type filter hook forward priority 400;
    ip saddr 198.18.1.3 ip daddr 198.18.2.2 counter name forwarded
  }
}
"""

Socket = Callable[..., socket.socket]
Run = Callable[..., str]


@pytest.fixture(autouse=True)
async def overlay(reconcile: Callable[[View], Awaitable[None]]) -> None:
    await reconcile(VIEW)


@pytest.fixture(scope="module", autouse=True)
def docker(cluster: dict[str, str]) -> Iterator[None]:
    """Put a container ``k1`` on n1 that is on no network of ours, but masqueraded."""
    node, name = cluster["n1"], f"{cluster['n1']}-k1"
    setup = f"""
    ip netns add {name}
    ip -n {node} link add docker0 type bridge
    ip -n {node} addr add 172.17.0.1/16 dev docker0
    ip -n {node} link set docker0 up
    ip -n {name} link add eth0 type veth peer name k1 netns {node}
    ip -n {node} link set k1 master docker0 up
    ip -n {name} addr add {OWN}/16 dev eth0
    ip -n {name} link set eth0 up
    ip -n {name} route add default via 172.17.0.1
    ip netns exec {node} sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.phx-1024.rp_filter=2
    ip netns exec {node} nft -f -
    """
    cluster["k1"] = name
    try:
        for command in setup.strip().splitlines():
            subprocess.run(command.split(), input=MASQUERADE, check=True, text=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def tunnelled(word: bytes, port: int) -> bytes:
    """Return what VXLAN-GPE carries of a datagram from d1 to a port of d2 (IPv4, VNI 1024)."""
    inner = bytes(IP(src=D1, dst=D2) / UDP(sport=4242, dport=port) / word)
    return struct.pack("!BxxBI", 0x0C, 1, 1024 << 8) + inner


def heard(listener: socket.socket) -> list[bytes]:
    """Return what came up to the word ``last``, which a real sender says at the end."""
    words = []
    while (word := listener.recv(2000)) != b"last":
        words.append(word)
    return words


@pytest.mark.parametrize(
    ("short", "source"),
    [
        pytest.param("k1", OWN, id="masqueraded"),
        pytest.param("d1", M1, id="container-of-ours-as-a-node"),
    ],
)
def test_no_container_speaks_for_its_nodes_tunnel(
    socket_in: Socket, short: str, source: str
) -> None:
    listener = socket_in("d2", socket.SOCK_DGRAM)
    listener.bind(("", 0))
    port = listener.getsockname()[1]
    outer = IP(src=source, dst=N2) / UDP(sport=50000, dport=VXLAN_PORT)

    packet = bytes(outer / tunnelled(b"injected", port))
    socket_in(short, socket.SOCK_RAW, socket.IPPROTO_RAW).sendto(packet, (N2, 0))
    socket_in("d1", socket.SOCK_DGRAM).sendto(b"last", (D2, port))

    assert heard(listener) == []


def test_masqueraded_container_reaches_other_ports_of_nodes_but_no_plane(
    socket_in: Socket,
) -> None:
    for port in (8080, PEER_PORT):
        listener = socket_in("n2")
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((N2, port))
        listener.listen()

    socket_in("k1").connect((N2, 8080))
    with pytest.raises(ConnectionRefusedError):
        socket_in("k1").connect((N2, PEER_PORT))


def test_node_may_be_a_router_of_other_nodes(socket_in: Socket, run_in: Run) -> None:
    listener = socket_in("n2")
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((N2, PEER_PORT))
    listener.listen()
    run_in("n1", "sysctl", "-qw", "net.ipv4.conf.all.send_redirects=0")
    run_in("n1", "sysctl", "-qw", "net.ipv4.conf.eth0.send_redirects=0")
    run_in("n1", "nft", COUNTED)
    run_in("m1", "ip", "route", "add", f"{N2}/32", "via", N1)
    try:
        run_in("m1", "ping", "-c", "1", "-W", "5", D2)  # in the tunnel
        socket_in("m1").connect((N2, PEER_PORT))
        counted = run_in("n1", "nft", "list counters table inet phxtest_counted")
    finally:
        run_in("m1", "ip", "route", "delete", f"{N2}/32")
        run_in("n1", "nft", "delete table inet phxtest_counted")

    assert "packets 0 " not in counted
