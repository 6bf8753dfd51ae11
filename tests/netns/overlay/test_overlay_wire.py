"""What the overlay puts on the underlay's wire, caught at the router and taken apart."""

import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from phalanx.core.netns import call_in
from phalanx.net.model.objects import Network, Node, SubnetLease
from phalanx.net.model.view import View

ETH_P_ALL = 3
PORT = 64000
GPE_IPV4 = 1  # next protocol (draft-ietf-nvo3-vxlan-gpe §3.1)
N1, N2 = IPv4Address("198.18.1.1"), IPv4Address("198.18.2.2")
VIEW = View().changed(
    [
        Node(N1, "n1"),
        Node(N2, "n2"),
        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
        Network("blue", IPv4Network("10.20.0.0/16"), 24, 1025, 1450),
        SubnetLease("dcos", N1, IPv4Network("9.0.1.0/24")),
        SubnetLease("dcos", N2, IPv4Network("9.0.2.0/24")),
        SubnetLease("blue", N1, IPv4Network("10.20.1.0/24")),
        SubnetLease("blue", N2, IPv4Network("10.20.2.0/24")),
    ]
)


@pytest.fixture
def wire(cluster: Mapping[str, str]) -> Iterator[socket.socket]:
    """Yield a socket that hears every frame at the router."""
    router = Path("/run/netns", cluster["r"])
    listener = call_in(
        router, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    )
    with listener:
        listener.settimeout(60)
        yield listener


@pytest.mark.parametrize(
    ("client", "source", "destination", "vni"),
    [
        pytest.param("d1", "9.0.1.2", "9.0.2.2", 1024, id="dcos"),
        pytest.param("b1", "10.20.1.2", "10.20.2.2", 1025, id="blue"),
    ],
)
async def test_a_container_s_packet_travels_whole_in_its_networks_tunnel(
    reconcile: Callable[[View], Awaitable[None]],
    socket_in: Callable[..., socket.socket],
    wire: socket.socket,
    client: str,
    source: str,
    destination: str,
    vni: int,
) -> None:
    await reconcile(VIEW)
    word = struct.pack("!I", vni) + b"in the tunnel"

    socket_in(client, socket.SOCK_DGRAM).sendto(word, (destination, 4242))

    outer, tunnel, inner = caught(wire, word)
    assert (outer.src, outer.dst) == (str(N1), str(N2))
    assert (tunnel.vni, tunnel.NextProtocol) == (vni, GPE_IPV4)
    assert (inner.src, inner.dst) == (source, destination)
    assert bytes(inner[UDP].payload) == word


def caught(wire: socket.socket, word: bytes) -> tuple[IP, VXLAN, IP]:
    """Return underlay header, tunnel header and inner packet of the frame that holds *word*."""
    while True:
        raw = wire.recv(65535)
        frame = Ether(raw)
        if word in raw and UDP in frame and frame[UDP].dport == PORT:
            tunnel = VXLAN(bytes(frame[UDP].payload))
            return frame[IP], tunnel, IP(bytes(tunnel.payload))
