"""Containers, protocols and ports: every cell with a real packet, held against the semantics.

Each container has one receiver for each protocol and port. A packet carries its
number; which arrive is compared with the evaluator, for policies drawn at random.
"""

import random
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import msgspec
import pytest

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
ROUNDS, POLICIES = 10, 5
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
    for protocol, port in [*((p, n) for p in ("udp", "tcp") for n in PORTS), ("icmp", 0)]
]


class Field:
    """Receivers in every container, and what reached them."""

    def __init__(self, socket_in: Socket, version: int) -> None:
        self._version = version
        self._senders: list[socket.socket] = []
        family = FAMILIES[version]
        self._socket_in: Socket = partial(socket_in, family=family)
        self._receivers: dict[tuple[str, str, int], socket.socket] = {}
        for name in WHERE:
            for port in PORTS:
                receiver = self._socket_in(name, socket.SOCK_DGRAM)
                receiver.bind((WHERE[name][2][version], port))
                self._receivers[name, "udp", port] = receiver
            for protocol, number in (("tcp", socket.IPPROTO_TCP), ("icmp", ECHOES[version][2])):
                receiver = self._socket_in(name, socket.SOCK_RAW, number)
                self._receivers[name, protocol, 0] = receiver
            for port in PORTS:
                listener = self._socket_in(name)
                listener.bind((WHERE[name][2][version], port))
                listener.listen(64)
        for receiver in self._receivers.values():
            receiver.setblocking(False)

    def reached(self, serial: int) -> set[Cell]:
        """Send a packet for each cell; return the cells whose packet arrived."""
        for source, destination, protocol, port in CELLS:
            address = WHERE[destination][2][self._version]
            with suppress(OSError):  # refusals
                if protocol == "udp":
                    text = f"{serial} {source} {destination} {port}".encode()
                    self._once(source, socket.SOCK_DGRAM).sendto(text, (address, port))
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
        for sender in self._senders:
            sender.close()
        self._senders.clear()
        return set(self._heard(serial))

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
                    data, (address, *_) = receiver.recvfrom(2048)
                    source = ip_address(address)
                    has_header = protocol != "udp" and self._version == 4
                    body = data[(data[0] & 15) * 4 :] if has_header else data
                    if protocol == "udp":
                        if body.split()[0] == str(serial).encode():
                            yield names[source], name, "udp", port
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


def drawn(rng: random.Random) -> list[Policy]:
    found = []
    for number in range(rng.randint(0, POLICIES)):
        traffic = rng.choice((Traffic.TCP, Traffic.UDP, Traffic.ICMP, Traffic.ICMPV6, Traffic.ANY))
        ports = rng.choice(((), ((5000, 5000),), ((5001, 6000),)))
        found.append(
            Policy(
                f"p{number}",
                rng.choice(SELECTORS),
                rng.choice(SELECTORS),
                traffic,
                tier=rng.choice(list(Tier)),
                action=rng.choice((Action.ALLOW, Action.ALLOW, Action.DENY)),
                direction=rng.choice((Direction.BOTH, Direction.BOTH, *Direction)),
                ports=ports if traffic.has_ports else (),
            )
        )
    return found


def expected(view: View, version: int) -> set[Cell]:
    evaluator = Evaluator(view)
    numbers = {"tcp": 6, "udp": 17, "icmp": int(ECHOES[version][2])}
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


@pytest.mark.parametrize("version", FAMILIES)
async def test_every_cell_fares_as_the_semantics_say(
    socket_in: Socket, reconcile: Reconcile, version: int
) -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    await reconcile(CLUSTER)
    field = Field(socket_in, version)
    field.reached(1)  # neighbours learn of one another
    for serial in range(2, 2 + ROUNDS):
        policies = drawn(rng)
        networks = [opened(n) for n in CLUSTER.networks.values() if rng.random() < 0.3]
        view = CLUSTER.changed([*policies, *networks])
        await reconcile(view)

        reached = field.reached(serial)

        wrong = reached ^ expected(view, version)
        assert not wrong, f"seed {seed}: {wrong} under {policies}"
