"""Mapped ports of nodes: every client and container with real packets, held against the semantics.

Where a packet comes from, it goes to a node; where the port is mapped, to the container behind it.
Both are asked of the policies, as `phalanx trace` does.
"""

import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from tests.netns.isolation.test_isolation_matrix import CLUSTER, FAMILIES, WHERE, drawn

from phalanx.core.netns import call_in
from phalanx.net.attachment.ports import KernelHostPorts, PortMapping
from phalanx.net.ipam.owner import Owner
from phalanx.net.isolation.evaluate import Evaluator, Packet
from phalanx.net.model.objects import Policy, node6
from phalanx.net.model.view import View

Socket = Callable[..., socket.socket]
Reconcile = Callable[[View], Awaitable[None]]
Cell = tuple[str, str]  # client, container

UDP, PORT, ROUNDS = 17, 5000, 10
HOST_PORTS = {name: 8000 + number for number, name in enumerate(WHERE)}
NODE_OF = {name: where[0] for name, where in WHERE.items()}
NAME_OF = {node: f"n{number}" for number, node in enumerate(dict.fromkeys(NODE_OF.values()), 1)}
OUTSIDE = "192.0.2.9"


@pytest.fixture(scope="module")
def mapped(cluster: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Map a port of its node to each container, as its attachment does."""
    ports = KernelHostPorts(directory=tmp_path_factory.mktemp("ports"))

    def put(name: str) -> None:
        addresses = [ip_interface(each) for each in WHERE[name][2].values()]
        mapping = PortMapping(HOST_PORTS[name], PORT, "udp")
        owner = Owner(name, "eth0")
        ports.open("net", owner, addresses, [mapping], bridge="", mac="0a:58:00:00:00:01")

    for name, node in NODE_OF.items():
        call_in(Path("/run/netns", cluster[NAME_OF[node]]), partial(put, name))


def clients(version: int) -> list[str]:
    return [*WHERE, *(["out"] if version == 4 else [])]


def address_of(client: str, version: int) -> str:
    return OUTSIDE if client == "out" else WHERE[client][2][version]


class Field:
    """A receiver in each container, and a number of the round that packets carry."""

    def __init__(self, socket_in: Socket, version: int) -> None:
        self._version = version
        self._socket_in = socket_in
        self._serial = 0
        self._receivers: dict[str, socket.socket] = {}
        for name in WHERE:
            receiver = socket_in(name, socket.SOCK_DGRAM, family=FAMILIES[version])
            receiver.bind((WHERE[name][2][version], PORT))
            self._receivers[name] = receiver

    def reached(self) -> set[Cell]:
        """Send from each client to each mapped port; return who arrived, and had his answer."""
        self._serial += 1
        asked: dict[Cell, socket.socket] = {}
        for client in clients(self._version):
            for name, node in NODE_OF.items():
                if client == name:
                    continue
                asker = self._socket_in(client, socket.SOCK_DGRAM, family=FAMILIES[self._version])
                asked[client, name] = asker
                at = node if self._version == 4 else node6(node)
                with suppress(OSError):  # refusals
                    asker.sendto(f"{self._serial} {client}".encode(), (str(at), HOST_PORTS[name]))
        found = {(client, name) for name in WHERE for client in self._heard(name)}
        for cell in found:
            assert asked[cell].recv(100) == b"answer", cell
        for asker in asked.values():
            asker.close()
        return found

    def _heard(self, name: str) -> Iterator[str]:
        """Yield whose packets are there; its own, sent last, comes after all others."""
        receiver = self._receivers[name]
        last = f"{self._serial} last".encode()
        for other in self._last_senders(name):
            other.sendto(last, receiver.getsockname()[:2])
        left = len(self._last_senders(name))
        while left:
            data, sender = receiver.recvfrom(100)
            serial, client = data.decode().split()
            if data == last:
                left -= 1
            elif int(serial) == self._serial:
                receiver.sendto(b"answer", sender)
                yield client

    def _last_senders(self, name: str) -> list[socket.socket]:
        network = WHERE[name][1]
        return [
            self._receivers[each]
            for each, where in WHERE.items()
            if each != name and where[1] == network
        ]


def expected(view: View, version: int) -> set[Cell]:
    evaluator = Evaluator(view)

    def passes(client: str, name: str) -> bool:
        source = ip_address(address_of(client, version))
        inside = Packet(source, ip_address(WHERE[name][2][version]), UDP, PORT)
        if not evaluator.allowed(inside).is_allowed:
            return False
        node = NODE_OF[name]
        if client == "out" or NODE_OF[client] == node:
            return True  # there it is translated before anything is asked
        outer = Packet(source, node if version == 4 else node6(node), UDP, HOST_PORTS[name])
        return evaluator.allowed(outer).is_allowed

    return {
        (client, name)
        for client in clients(version)
        for name in WHERE
        if client != name and passes(client, name)
    }


@pytest.fixture(params=FAMILIES)
async def version(request: pytest.FixtureRequest, reconcile: Reconcile, mapped: None) -> int:
    await reconcile(CLUSTER)
    found: int = request.param
    return found


@pytest.fixture
def field(socket_in: Socket, version: int) -> Field:
    return Field(socket_in, version)


@given(policies=drawn())
@settings(
    max_examples=ROUNDS,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_behind_every_mapped_port_the_real_ends_count(
    field: Field, reconcile: Reconcile, version: int, policies: list[Policy]
) -> None:
    view = CLUSTER.changed(policies)
    await reconcile(view)

    assert field.reached() ^ expected(view, version) == set()
