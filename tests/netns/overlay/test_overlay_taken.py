"""Which addresses are in use around a node, as its kernel's routes say."""

from pathlib import Path

import pytest
from tests.netns.conftest import ip

from phalanx.core.netns import call_in
from phalanx.net.address.taken import taken_addresses

LOOPBACK = {"127.0.0.1", "127.255.255.255", "::1"}
ANYCAST = {"fd07::"}  # of a node that forwards
OWN = {"198.18.7.5", "198.18.7.255", "203.0.113.1", "fd07::5"}
GATEWAYS = {"198.18.7.1", "198.18.7.2", "198.18.7.3", "fd07::1", "fd07::2"}
ROUTES = (
    "-4 route add default via 198.18.7.1",
    "-4 route add 10.9.0.0/16 nexthop via 198.18.7.2 nexthop via 198.18.7.3",
    "-4 route add 10.8.0.0/16 via inet6 fd07::2 dev eth0",
    "-6 route add default via fd07::1",
)


@pytest.fixture
def node(ns: str) -> str:
    ip("-n", ns, "link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
    for name in ("eth0", "peer0"):
        ip("-n", ns, "link", "set", name, "up")
    ip("-n", ns, "address", "add", "198.18.7.5/24", "broadcast", "198.18.7.255", "dev", "eth0")
    ip("-n", ns, "address", "add", "203.0.113.1/32", "dev", "lo")
    ip("-n", ns, "address", "add", "fd07::5/64", "dev", "eth0", "nodad")
    return ns


def taken(node: str) -> set[str]:
    return set(map(str, call_in(Path("/run/netns", node), taken_addresses)))


def test_nodes_own_addresses_and_those_of_its_gateways_are_taken(node: str) -> None:
    for route in ROUTES:
        ip("-n", node, *route.split())

    assert taken(node) - ANYCAST == LOOPBACK | OWN | GATEWAYS


def test_neither_a_vips_route_nor_a_whole_range_is_taken(node: str) -> None:
    before = taken(node)
    for address in ("198.18.7.77", "fd07::77"):
        ip("-n", node, "route", "add", "local", address, "dev", "lo", "proto", "122")
    ip("-n", node, "route", "add", "local", "10.7.0.0/16", "dev", "lo")

    assert taken(node) == before
