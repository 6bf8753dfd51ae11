"""Who may speak for the tunnel: packets made by hand, sent to its port from all sides."""

import json
import socket
import struct
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP

from phalanx.net.model.objects import Network, Node, SubnetLease
from phalanx.net.model.view import View

PORT = 64000
N1, N2, M1, OUT = "198.18.1.1", "198.18.2.2", "198.18.1.3", "192.0.2.9"
D1, D2 = "9.0.1.2", "9.0.2.2"
VIEW = View().changed(
    [
        *(Node(IPv4Address(address), name) for address, name in ((N1, "n1"), (N2, "n2"))),
        Node(IPv4Address(M1), "m1", is_master=True),
        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
        SubnetLease("dcos", IPv4Address(N1), IPv4Network("9.0.1.0/24")),
        SubnetLease("dcos", IPv4Address(N2), IPv4Network("9.0.2.0/24")),
    ]
)

Socket = Callable[..., socket.socket]
Run = Callable[..., str]


@pytest.fixture(autouse=True)
async def overlay(reconcile: Callable[[View], Awaitable[None]]) -> None:
    await reconcile(VIEW)


def tunnelled(word: bytes, port: int) -> bytes:
    """Return what VXLAN-GPE carries of a datagram from d2 to a port of d1 (IPv4, VNI 1024)."""
    inner = bytes(IP(src=D2, dst=D1) / UDP(sport=4242, dport=port) / word)
    return struct.pack("!BxxBI", 0x0C, 1, 1024 << 8) + inner


def on_the_wire(source: str, destination: str, payload: bytes) -> bytes:
    return bytes(IP(src=source, dst=destination) / UDP(sport=50000, dport=PORT) / payload)


def heard(listener: socket.socket) -> list[bytes]:
    """Return what came up to the word ``last``, which a real sender says at the end."""
    words = []
    while (word := listener.recv(2000)) != b"last":
        words.append(word)
    return words


@pytest.mark.parametrize(
    ("short", "source", "destination", "is_taken"),
    [
        pytest.param("out", N2, N1, True, id="as-another-node-would"),
        pytest.param("out", OUT, N1, False, id="a-stranger"),
        pytest.param("out", N1, N1, False, id="as-the-node-itself"),
        pytest.param("e1", "9.0.1.3", N1, False, id="own-container"),
        pytest.param("e1", N2, N1, False, id="own-container-as-another-node"),
        pytest.param("d2", D2, N1, False, id="remote-container"),
        pytest.param("d2", N2, N1, False, id="remote-container-as-its-node"),
        pytest.param("n2", N2, N1, False, id="process-of-another-node"),
        pytest.param("n1", N1, N1, False, id="process-of-the-node"),
    ],
)
def test_tunnel_takes_what_nodes_send_for_it_and_nothing_else(
    socket_in: Socket, short: str, source: str, destination: str, is_taken: bool
) -> None:
    listener = socket_in("d1", socket.SOCK_DGRAM)
    listener.bind(("", 0))
    port = listener.getsockname()[1]
    raw = socket_in(short, socket.SOCK_RAW, socket.IPPROTO_RAW)

    try:
        raw.sendto(on_the_wire(source, destination, tunnelled(b"injected", port)), (destination, 0))
    except PermissionError:
        assert not is_taken  # refused where it starts
    socket_in("d2", socket.SOCK_DGRAM).sendto(b"last", (D1, port))

    assert heard(listener) == ([b"injected"] if is_taken else [])


def test_process_without_privileges_is_told_that_the_port_is_not_for_it(socket_in: Socket) -> None:
    with pytest.raises(PermissionError):
        socket_in("n2", socket.SOCK_DGRAM).sendto(tunnelled(b"injected", 9), (N1, PORT))


async def test_node_that_left_is_heard_no_more(
    socket_in: Socket, run_in: Run, reconcile: Callable[[View], Awaitable[None]]
) -> None:
    assert N2 in run_in("n1", "nft", "list set inet phalanx_overlay nodes")

    await reconcile(VIEW.changed([], [("node", N2)]))

    assert N2 not in run_in("n1", "nft", "list set inet phalanx_overlay nodes")
    assert M1 in run_in("n1", "nft", "list set inet phalanx_overlay nodes")


TRACKED = """
table inet phxtest_tracked {
  counter tracked { }
  counter untracked { }
  chain output {
    type filter hook output priority 400;
    udp dport 64000 ct state untracked counter name untracked return
    udp dport 64000 counter name tracked
  }
  chain input {
    type filter hook input priority 400;
    udp dport 64000 ct state untracked counter name untracked return
    udp dport 64000 counter name tracked
  }
}
"""


def test_no_connection_is_tracked_around_those_of_containers(run_in: Run, tmp_path: Path) -> None:
    file = tmp_path / "tracked.nft"
    file.write_text(TRACKED)
    run_in("n1", "nft", "-f", str(file))
    try:
        run_in("d1", "ping", "-c", "3", "-i", "0.01", D2)
        counters = json.loads(run_in("n1", "nft", "-j", "list counters table inet phxtest_tracked"))
    finally:
        run_in("n1", "nft", "delete table inet phxtest_tracked")

    packets = {
        item["counter"]["name"]: item["counter"]["packets"]
        for item in counters["nftables"]
        if "counter" in item
    }
    assert packets == {"untracked": 6, "tracked": 0}
