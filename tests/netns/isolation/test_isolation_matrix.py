"""Containers, protocols and ports: every cell with a real packet, held against the semantics.

Each container has one receiver for each protocol and port. A packet carries its
number; which arrive is compared with the evaluator, for generated policies, and
what arrived is answered. MATRIX_ROUNDS in the environment asks for more rounds.
"""

import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import count

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.sctp import SCTP, SCTPChunkInit

from phalanx.net.isolation.evaluate import Evaluator, Packet
from phalanx.net.model.objects import (
    Action,
    Direction,
    Network,
    Node,
    Policy,
    SubnetLease,
    Task,
    TaskPhase,
    Tier,
    Traffic,
)
from phalanx.net.model.view import View

Socket = Callable[..., socket.socket]
Reconcile = Callable[[View], Awaitable[None]]
Cell = tuple[str, str, str, int]  # source, destination, protocol, port

N1, N2 = IPv4Address("198.18.1.1"), IPv4Address("198.18.2.2")
WHERE = {  # name: node, network, address of each family, role
    "d1": (N1, "dcos", {4: "9.0.1.2", 6: "fd01:b:0:0:1::2"}, "web"),
    "e1": (N1, "dcos", {4: "9.0.1.3", 6: "fd01:b:0:0:1::3"}, "job"),
    "b1": (N1, "blue", {4: "10.20.1.2", 6: "fd02:b:0:0:1::2"}, "db"),
    "d2": (N2, "dcos", {4: "9.0.2.2", 6: "fd01:b:0:0:2::2"}, "web"),
    "b2": (N2, "blue", {4: "10.20.2.2", 6: "fd02:b:0:0:2::2"}, "db"),
}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ECHOES = {4: (8, "icmp", socket.IPPROTO_ICMP), 6: (128, "icmpv6", socket.IPPROTO_ICMPV6)}
PORTS = (5000, 5001)
FIRST_SOURCE_PORT, SYN = 20000, 2
ROUNDS, POLICIES = int(os.environ.get("MATRIX_ROUNDS", "12")), 5
SELECTORS = (
    *("any", "dcos", "blue", "role=web", "role=db", "role=job", "/prod/web"),
    *("9.0.1.0/24", "10.20.1.2", "10.20.0.0/15", "9.0.0.0/7"),
    *("fd01:b:0:0:1::/80", "fd02:b:0:0:1::2", "fd00::/14", "fd02::/16"),
)
CLUSTER = View().changed(
    [
        Node(N1, "n1"),
        Node(IPv4Address("198.18.1.3"), "m1"),
        Node(N2, "n2"),
        *(
            Network(name, IPv4Network(prefix), 24, vni, 1450, True, IPv6Network(prefix6), 80)
            for name, prefix, vni, prefix6 in (
                ("dcos", "9.0.0.0/8", 1024, "fd01:b::/64"),
                ("blue", "10.20.0.0/16", 1025, "fd02:b::/64"),
            )
        ),
        *(
            SubnetLease(network, node, IPv4Network(subnet), IPv6Network(subnet6))
            for network, node, subnet, subnet6 in (
                ("dcos", N1, "9.0.1.0/24", "fd01:b:0:0:1::/80"),
                ("dcos", N2, "9.0.2.0/24", "fd01:b:0:0:2::/80"),
                ("blue", N1, "10.20.1.0/24", "fd02:b:0:0:1::/80"),
                ("blue", N2, "10.20.2.0/24", "fd02:b:0:0:2::/80"),
            )
        ),
        *(
            Task(
                "marathon",
                name,
                name,
                "agent",
                node,
                TaskPhase.RUNNING,
                addresses=(IPv4Address(addresses[4]),),
                networks=(network,),
                addresses6=(IPv6Address(addresses[6]),),
                networks6=(network,),
                discovery_name=f"{role}.prod",
                labels=(("role", role),),
            )
            for name, (node, network, addresses, role) in WHERE.items()
        ),
    ]
)
CELLS: list[Cell] = [
    (source, destination, protocol, port)
    for source in WHERE
    for destination in WHERE
    if source != destination
    for protocol, port in [*((p, n) for p in ("udp", "tcp", "sctp") for n in PORTS), ("icmp", 0)]
]


class Field:
    """Receivers in every container, and what reached them."""

    def __init__(self, socket_in: Socket, version: int) -> None:
        self._version = version
        self._senders: list[socket.socket] = []
        self._askers: dict[Cell, socket.socket] = {}
        family = FAMILIES[version]
        self._socket_in: Socket = partial(socket_in, family=family)
        self._receivers: dict[tuple[str, str, int], socket.socket] = {}
        for name in WHERE:
            for port in PORTS:
                receiver = self._socket_in(name, socket.SOCK_DGRAM)
                receiver.bind((WHERE[name][2][version], port))
                self._receivers[name, "udp", port] = receiver
            for protocol, number in (
                ("tcp", socket.IPPROTO_TCP),
                ("sctp", socket.IPPROTO_SCTP),
                ("icmp", ECHOES[version][2]),
            ):
                receiver = self._socket_in(name, socket.SOCK_RAW, number)
                self._receivers[name, protocol, 0] = receiver
            for port in PORTS:
                listener = self._socket_in(name)
                listener.bind((WHERE[name][2][version], port))
                listener.listen(64)
        for receiver in self._receivers.values():
            receiver.setblocking(False)

    def reached(self, serial: int) -> set[Cell]:
        """Send a packet for each cell; return the cells whose packet arrived.

        Datagrams that arrive are answered, and the answers must arrive.
        """
        for source, destination, protocol, port in CELLS:
            address = WHERE[destination][2][self._version]
            with suppress(OSError):  # refusals
                if protocol == "udp":
                    text = f"{serial} {source} {destination} {port}".encode()
                    asker = self._once(source, socket.SOCK_DGRAM)
                    self._askers[source, destination, protocol, port] = asker
                    asker.sendto(text, (address, port))
                elif protocol == "sctp":
                    caller = self._once(source, socket.SOCK_RAW, socket.IPPROTO_SCTP)
                    head = SCTP(sport=FIRST_SOURCE_PORT + serial, dport=port)
                    caller.sendto(bytes(head / SCTPChunkInit()), (address, 0))
                elif protocol == "tcp":
                    caller = self._once(source, socket.SOCK_STREAM)
                    caller.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    caller.bind(("", FIRST_SOURCE_PORT + serial))
                    caller.setblocking(False)
                    caller.connect_ex((address, port))
                else:
                    kind, _, number = ECHOES[self._version]
                    sender = self._once(source, socket.SOCK_RAW, number)
                    sender.sendto(_echo(kind, serial), (address, 0))
        self._settle(serial)
        found = set(self._heard(serial))
        for cell in found:
            if cell[2] == "udp":
                assert self._askers[cell].recv(100) == b"answer", cell
        for sender in self._senders:
            sender.close()
        self._senders.clear()
        self._askers.clear()
        return found

    def _once(self, name: str, kind: int, protocol: int = 0) -> socket.socket:
        made = self._socket_in(name, kind, protocol)
        self._senders.append(made)
        return made

    def _settle(self, serial: int) -> None:
        """Wait until a neighbour's packet, sent last, is there: nothing overtakes over a bridge."""
        for name, (node, _, _, _) in WHERE.items():
            near = next(
                other for other in WHERE if other != name and WHERE[other][1] == WHERE[name][1]
            )
            receiver = self._socket_in(name, socket.SOCK_DGRAM)
            receiver.bind((WHERE[name][2][self._version], 0))
            self._once(near, socket.SOCK_DGRAM).sendto(
                str(serial).encode(), receiver.getsockname()[:2]
            )
            assert receiver.recv(100) == str(serial).encode(), node

    def _heard(self, serial: int) -> Iterator[Cell]:
        names = {ip_address(where[2][self._version]): name for name, where in WHERE.items()}
        for (name, protocol, port), receiver in self._receivers.items():
            with suppress(BlockingIOError):
                while True:
                    data, sender = receiver.recvfrom(2048)
                    address = sender[0]
                    source = ip_address(address)
                    has_header = protocol != "udp" and self._version == 4
                    body = data[(data[0] & 15) * 4 :] if has_header else data
                    if protocol == "udp":
                        if body.split()[0] == str(serial).encode() and len(body.split()) > 1:
                            receiver.sendto(b"answer", sender)
                            yield names[source], name, "udp", port
                    elif protocol == "sctp":
                        own, number = struct.unpack_from("!HH", body)
                        if own == FIRST_SOURCE_PORT + serial:
                            yield names[source], name, "sctp", number
                    elif protocol == "tcp":
                        own, number = struct.unpack_from("!HH", body)
                        is_first = body[13] == SYN and own == FIRST_SOURCE_PORT + serial
                        if is_first and number in PORTS:
                            yield names[source], name, "tcp", number
                    elif (
                        body[0] == ECHOES[self._version][0]
                        and struct.unpack_from("!H", body, 4)[0] == serial
                    ):
                        yield names[source], name, "icmp", 0


def _echo(kind: int, serial: int) -> bytes:
    data = struct.pack("!BBHHH", kind, 0, 0, serial, 1)
    total = sum(struct.unpack("!4H", data))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return data[:2] + struct.pack("!H", checksum) + data[4:]


@st.composite
def drawn(draw: st.DrawFn) -> list[Policy]:
    found = []
    for number in range(draw(st.integers(0, POLICIES))):
        traffic = draw(st.sampled_from(Traffic))
        ports = draw(st.sampled_from(((), ((5000, 5000),), ((5001, 6000),))))
        found.append(
            Policy(
                f"p{number}",
                draw(st.sampled_from(SELECTORS)),
                draw(st.sampled_from(SELECTORS)),
                traffic,
                tier=draw(st.sampled_from(Tier)),
                action=draw(st.sampled_from((Action.ALLOW, Action.ALLOW, Action.DENY))),
                direction=draw(st.sampled_from((Direction.BOTH, *Direction))),
                ports=ports if traffic.has_ports else (),
            )
        )
    return found


def expected(view: View, version: int) -> set[Cell]:
    evaluator = Evaluator(view)
    numbers = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": int(ECHOES[version][2])}
    return {
        cell
        for cell in CELLS
        if evaluator.allowed(
            Packet(
                ip_address(WHERE[cell[0]][2][version]),
                ip_address(WHERE[cell[1]][2][version]),
                numbers[cell[2]],
                cell[3],
            )
        ).is_allowed
    }


def opened(network: Network) -> Network:
    return msgspec.structs.replace(network, isolated=False)


@pytest.fixture(params=FAMILIES)
async def version(request: pytest.FixtureRequest, reconcile: Reconcile) -> int:
    await reconcile(CLUSTER)
    found: int = request.param
    return found


@pytest.fixture
def field(socket_in: Socket, version: int) -> Field:
    made = Field(socket_in, version)
    made.reached(1)  # neighbours learn of one another
    return made


@pytest.fixture
def serials() -> Iterator[int]:
    return count(2)


@given(policies=drawn(), openings=st.sets(st.sampled_from(["dcos", "blue"])))
@settings(
    max_examples=ROUNDS,
    deadline=None,
    database=None,
    # One field for all examples is what is meant: a change follows another, as in a cluster.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_every_cell_fares_as_the_semantics_say(
    field: Field,
    serials: Iterator[int],
    reconcile: Reconcile,
    version: int,
    policies: list[Policy],
    openings: set[str],
) -> None:
    view = CLUSTER.changed([*policies, *(opened(CLUSTER.networks[name]) for name in openings)])
    await reconcile(view)

    reached = field.reached(next(serials))

    assert reached ^ expected(view, version) == set()
