"""What containers reach on nodes, with packets: what is declared, and nothing else."""

import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from tests.netns.isolation.test_isolation_matrix import CLUSTER, N1, N2

from phalanx.labs.wait import wait_until
from phalanx.net.isolation.fence import desired_fence, parse_services
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.objects import node6
from phalanx.net.model.view import View
from phalanx.net.nft.element import render_change

Socket = Callable[..., socket.socket]
Run = Callable[..., str]
Reconcile = Callable[[View], Awaitable[None]]

RESOLVER, RESOLVER6, VXLAN = "198.51.100.1", "fd01:d::c633:6401", 64000
GATEWAYS = {"n1": "9.0.1.1", "n2": "9.0.2.1"}
GATEWAY6 = "fd01:b:0:0:1::1"


@pytest.fixture(autouse=True)
async def fence(reconcile: Reconcile, run_in: Run) -> None:
    await reconcile(CLUSTER)
    for name, node in (("n1", N1), ("n2", N2)):
        elements = desired_fence(
            CLUSTER,
            node=node,
            services=parse_services(["tcp:5051"]),
            resolvers=[IPv4Address(RESOLVER), IPv6Address(RESOLVER6)],
            vips=[IPv4Network("11.0.0.0/8")],
        )
        run_in(name, "nft", render_change("add", ISOLATION.table, elements))


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listener(socket_in: Socket, name: str, address: str, port: int) -> socket.socket:
    made = socket_in(name, family=family_of(address))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen()
    return made


NODE_ENDS = [
    pytest.param("n1", str(N1), id="its-own-node"),
    pytest.param("n1", GATEWAYS["n1"], id="its-gateway"),
    pytest.param("n2", str(N2), id="another-node"),
    pytest.param("n1", str(node6(N1)), id="its-own-node-6"),
    pytest.param("n1", GATEWAY6, id="its-gateway-6"),
    pytest.param("n2", str(node6(N2)), id="another-node-6"),
]


@pytest.mark.parametrize(("node", "address"), NODE_ENDS)
def test_a_service_that_is_not_declared_is_refused_at_once(
    socket_in: Socket, node: str, address: str
) -> None:
    listener(socket_in, node, address, 5052)

    with pytest.raises(ConnectionRefusedError):
        socket_in("d1", family=family_of(address)).connect((address, 5052))


@pytest.mark.parametrize(("node", "address"), NODE_ENDS)
def test_datagrams_to_what_is_not_declared_are_refused(
    socket_in: Socket, node: str, address: str
) -> None:
    server = socket_in(node, socket.SOCK_DGRAM, family=family_of(address))
    server.bind((address, 5051))  # of TCP alone it is declared
    server.setblocking(False)
    client = socket_in("d1", socket.SOCK_DGRAM, family=family_of(address))
    client.connect((address, 5051))
    client.send(b"hello?")

    with pytest.raises(OSError, match=r"No route to host|Permission denied"):
        client.recv(100)
    with pytest.raises(BlockingIOError):
        server.recv(100)


@pytest.mark.parametrize(("node", "address"), NODE_ENDS)
def test_a_declared_service_is_reached(socket_in: Socket, node: str, address: str) -> None:
    waiting = listener(socket_in, node, address, 5051)

    socket_in("d1", family=family_of(address)).connect((address, 5051))

    waiting.accept()[0].close()


@pytest.fixture
def resolver6(run_in: Run) -> Iterator[None]:
    run_in("n1", "ip", "addr", "add", f"{RESOLVER6}/128", "dev", "lo", "nodad")
    # The kernel lets packets in a moment after it has taken the address.
    routed = ("ip", "-6", "route", "show", "table", "local", RESOLVER6)
    assert wait_until(lambda: bool(run_in("n1", *routed)), seconds=30)
    yield
    run_in("n1", "ip", "addr", "del", f"{RESOLVER6}/128", "dev", "lo")


@pytest.mark.parametrize(
    ("resolver", "gateway"), [(RESOLVER, GATEWAYS["n1"]), (RESOLVER6, GATEWAY6)], ids=["4", "6"]
)
@pytest.mark.usefixtures("resolver6")
def test_names_are_asked_of_the_resolver_and_of_no_other_address(
    socket_in: Socket, resolver: str, gateway: str
) -> None:
    family = family_of(resolver)
    for address in (resolver, gateway):
        server = socket_in("n1", socket.SOCK_DGRAM, family=family)
        server.bind((address, 53))
        client = socket_in("d1", socket.SOCK_DGRAM, family=family)
        client.connect((address, 53))
        client.send(b"question")
        if address == resolver:
            assert server.recv(100) == b"question"
        else:
            with pytest.raises(OSError, match=r"No route to host|Permission denied"):
                client.recv(100)


def test_a_node_reaches_its_containers_and_hears_their_answers(socket_in: Socket) -> None:
    waiting = listener(socket_in, "d1", "9.0.1.2", 8080)
    caller = socket_in("n1")
    caller.connect(("9.0.1.2", 8080))
    called, _ = waiting.accept()
    with called:
        called.sendall(b"healthy")

        assert caller.recv(100) == b"healthy"


@pytest.mark.parametrize("gateway", [GATEWAYS["n1"], GATEWAY6])
def test_containers_ping_their_gateway(run_in: Run, gateway: str) -> None:
    assert " 0% packet loss" in run_in("d1", "ping", "-c1", "-W10", gateway)


@pytest.mark.parametrize("target", [str(N1), GATEWAYS["n1"], str(N2)])
def test_vxlan_that_a_container_says_leads_nowhere(socket_in: Socket, target: str) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.layers.vxlan import VXLAN as Header

    receiver = socket_in("b1", socket.SOCK_DGRAM)
    receiver.bind(("0.0.0.0", 7001))
    receiver.setblocking(False)
    inner = Ether() / IP(src="10.20.2.2", dst="10.20.1.2") / UDP(sport=7, dport=7001) / b"smuggled"
    plain = bytes(Header(vni=1025, flags=8) / inner)
    generic = bytes([0x0C, 0, 0, 1]) + (1025 << 8).to_bytes(4, "big") + bytes(inner[IP])
    sender = socket_in("d1", socket.SOCK_DGRAM)
    for packet in (plain, generic):
        with suppress(OSError):  # the refusal of the one before
            sender.sendto(packet, (target, VXLAN))

    honest = socket_in("b2", socket.SOCK_DGRAM)
    honest.sendto(b"honest", ("10.20.1.2", 7001))
    until = time.monotonic() + 30
    heard = b""
    while not heard and time.monotonic() < until:
        with suppress(BlockingIOError):
            heard = receiver.recv(100)

    assert heard == b"honest"


def test_a_broadcast_reaches_no_service(socket_in: Socket) -> None:
    server = socket_in("n1", socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 5053))
    sender = socket_in("d1", socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sender.sendto(b"hello?", ("9.0.1.255", 5053))

    own = socket_in("n1", socket.SOCK_DGRAM)
    own.sendto(b"own", ("127.0.0.1", 5053))

    assert server.recv(100) == b"own"
