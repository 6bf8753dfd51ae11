"""Clients of every kind and a VIP of its own for every backend, on the nodes of conftest.py."""

import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import NamedTuple

import msgspec

from phalanx.core.netns import call_in
from phalanx.net.model.objects import (
    Framework,
    Network,
    Node,
    SubnetLease,
    Task,
    TaskPhase,
    TaskPort,
    VipLease,
    node6,
)
from phalanx.net.model.view import View

Names = Mapping[str, str]

PORT, VIP_PORT = 8080, 80
N1, M1, N2 = map(IPv4Address, ("198.18.1.1", "198.18.1.3", "198.18.2.2"))
NODES = {"n1": N1, "m1": M1, "n2": N2}
WHERE = {  # containers: node, network, address of each family, role
    "d1": (N1, "dcos", {4: "9.0.1.2", 6: "fd01:b:0:0:1::2"}, "web"),
    "e1": (N1, "dcos", {4: "9.0.1.3", 6: "fd01:b:0:0:1::3"}, "job"),
    "b1": (N1, "blue", {4: "10.20.1.2", 6: "fd02:b:0:0:1::2"}, "db"),
    "d2": (N2, "dcos", {4: "9.0.2.2", 6: "fd01:b:0:0:2::2"}, "web"),
    "b2": (N2, "blue", {4: "10.20.2.2", 6: "fd02:b:0:0:2::2"}, "db"),
}
NETWORKS = (
    Network(
        *("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450, True, IPv6Network("fd01:b::/64"), 80)
    ),
    Network(
        *("blue", IPv4Network("10.20.0.0/16"), 24, 1025, 1450, True, IPv6Network("fd02:b::/64"), 80)
    ),
)
LEASES = (
    SubnetLease("dcos", N1, IPv4Network("9.0.1.0/24"), IPv6Network("fd01:b:0:0:1::/80")),
    SubnetLease("dcos", N2, IPv4Network("9.0.2.0/24"), IPv6Network("fd01:b:0:0:2::/80")),
    SubnetLease("blue", N1, IPv4Network("10.20.1.0/24"), IPv6Network("fd02:b:0:0:1::/80")),
    SubnetLease("blue", N2, IPv4Network("10.20.2.0/24"), IPv6Network("fd02:b:0:0:2::/80")),
)
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
POOLS = (IPv4Network("11.0.0.0/8"), IPv6Network("fd01:c::/64"))
ON_HOST = {"h1": "n1", "h2": "n2"}  # tasks on the network of a node
BACKENDS = (*WHERE, *ON_HOST)
OUTSIDE = {4: "203.0.113.9", 6: "fd01:e::9"}  # a client on a link of n1, the public node
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class Client(NamedTuple):
    """Where a client is, its address by family, and whether it binds to that."""

    place: str
    addresses: Mapping[int, str]
    is_bound: bool = False

    @property
    def network(self) -> str | None:
        """Return the virtual network that it is on."""
        return network_of(self.place)


def of_node(address: IPv4Address) -> Mapping[int, str]:
    return {4: str(address), 6: str(node6(address))}


CLIENTS = {
    "container": Client("d1", WHERE["d1"][2]),
    "its neighbour": Client("e1", WHERE["e1"][2]),
    "container of an isolated network": Client("b1", WHERE["b1"][2]),
    "container of another node": Client("d2", WHERE["d2"][2]),
    "node": Client("n1", of_node(N1)),
    "task on the node's network": Client("n1", of_node(N1), is_bound=True),
    "master": Client("m1", of_node(M1)),
    "outside by a public node": Client("outside", OUTSIDE),
}


def network_of(place: str) -> str | None:
    """Return the virtual network of a client or a backend."""
    return WHERE[place][1] if place in WHERE else None


def node_of(place: str) -> str:
    """Return the node that a client or a backend is on, or comes in by."""
    if place in WHERE:
        return "n1" if WHERE[place][0] == N1 else "n2"
    return {"outside": "n1", **ON_HOST}.get(place, place)


def address_of(backend: str, version: int) -> str:
    """Return where a backend listens."""
    return str(NODES[ON_HOST[backend]]) if backend in ON_HOST else WHERE[backend][2][version]


def gateway_of(place: str, version: int) -> str:
    """Return the address of a container's bridge."""
    address, separator = WHERE[place][2][version], "." if version == 4 else ":"
    return f"{address.rpartition(separator)[0]}{separator}1"


def vip_of(backend: str, version: int) -> str:
    """Return the address of the VIP that a backend is alone behind."""
    number = BACKENDS.index(backend) + 1
    return f"11.0.0.{number}" if version == 4 else f"fd01:c::{number}"


def _ports(name: str) -> tuple[TaskPort, ...]:
    label = (("VIP_0", f"/{name}:{VIP_PORT}"),)
    return tuple(TaskPort(PORT, name, protocol, label) for protocol in KINDS)


def _task(name: str) -> Task:
    if name in ON_HOST:
        node = NODES[ON_HOST[name]]
        return Task(
            *("marathon", name, name, "agent", node, TaskPhase.RUNNING),
            addresses=(node,),
            ports=_ports(name),
            port_resources=((PORT, PORT),),
        )
    node, network, addresses, role = WHERE[name]
    return Task(
        *("marathon", name, name, "agent", node, TaskPhase.RUNNING),
        addresses=(IPv4Address(addresses[4]),),
        networks=(network,),
        addresses6=(IPv6Address(addresses[6]),),
        networks6=(network,),
        labels=(("role", role),),
        ports=_ports(name),
    )


WALLED = View().changed(
    [
        *(Node(address, name) for name, address in NODES.items()),
        *(*NETWORKS, *LEASES, Framework("marathon", "marathon")),
        *(_task(name) for name in BACKENDS),
        *(
            VipLease(f"{name}.marathon", IPv4Address(vip_of(name, 4)), IPv6Address(vip_of(name, 6)))
            for name in BACKENDS
        ),
    ]
)
OPEN = WALLED.changed(
    [msgspec.structs.replace(each, isolated=False) for each in WALLED.networks.values()]
)


class Servers:
    """A TCP and a UDP server behind every VIP; each says who it is and whom it sees."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self._selector = DefaultSelector()
        self._wake, self._asleep = socket.socketpair()
        self._selector.register(self._asleep, EVENT_READ, None)
        self._thread = threading.Thread(target=self._run)

    def add(self, name: str, opened: socket.socket) -> None:
        opened.setblocking(False)
        self._selector.register(opened, EVENT_READ, (name, opened))

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._wake.send(b"end")
            self._thread.join()
            for each in (self._selector, self._wake, self._asleep):
                each.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                with suppress(OSError):  # of a client that has gone
                    self._answer(*key.data)

    def _answer(self, name: str, opened: socket.socket) -> None:
        if opened.type == socket.SOCK_DGRAM:
            _, source = opened.recvfrom(100)
            self.reached.append(name)
            opened.sendto(f"{name} {source[0]}".encode(), source)
            return
        connection, source = opened.accept()
        self.reached.append(name)
        with connection:
            connection.sendall(f"{name} {source[0]}".encode())


@contextmanager
def outside(cluster: Names) -> Iterator[str]:
    """Put a client on a link of n1, which VIPs are routed to; yield its namespace."""
    node, there = cluster["n1"], f"{cluster['n1']}-outside"
    run("ip", "netns", "add", there)
    try:
        link = ("link", "add", "outside", "type", "veth", "peer", "name", "eth0", "netns", there)
        run("ip", "-n", node, *link)
        for place, name, last in ((node, "outside", 1), (there, "eth0", 9)):
            run("ip", "-n", place, "address", "add", f"203.0.113.{last}/24", "dev", name)
            run("ip", "-n", place, "address", "add", f"fd01:e::{last}/64", "dev", name, "nodad")
            run("ip", "-n", place, "link", "set", name, "up")
        run("ip", "-n", there, "route", "add", "default", "via", "203.0.113.1")
        run("ip", "-n", there, "-6", "route", "add", "default", "via", "fd01:e::1")
        yield there
    finally:
        run("ip", "netns", "delete", there)


@contextmanager
def serving(cluster: Names) -> Iterator[Servers]:
    """Start the servers of all backends."""
    servers = Servers()
    with ExitStack() as stack:
        for name in BACKENDS:
            if name in WHERE:  # as the CNI plugin leaves it
                where = cluster[node_of(name)]
                run("bridge", "-n", where, "link", "set", "dev", name, "hairpin", "on")
            for kind in KINDS.values():
                for version in (4,) if name in ON_HOST else tuple(FAMILIES):
                    opened = open_in(cluster[ON_HOST.get(name, name)], kind, version)
                    stack.callback(opened.close)
                    opened.bind((address_of(name, version), PORT))
                    if kind == socket.SOCK_STREAM:
                        opened.listen(64)
                    servers.add(name, opened)
        stack.enter_context(servers.running())
        yield servers


def open_in(namespace: str, kind: socket.SocketKind, version: int) -> socket.socket:
    """Open a socket in a namespace."""
    return call_in(Path("/run/netns", namespace), lambda: socket.socket(FAMILIES[version], kind))


def run(*command: str) -> str:
    """Run a command; return what it printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
