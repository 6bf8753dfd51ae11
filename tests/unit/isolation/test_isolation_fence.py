"""What containers reach on a node itself."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import msgspec
import pytest
from tests.unit.isolation.policies import CLUSTER, NODE, container

from phalanx.net.isolation.fence import desired_fence, parse_services
from phalanx.net.isolation.layout import FENCED, RESOLVERS, SERVICES, VIPS
from phalanx.net.model.objects import Node
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element

RESOLVER = IPv4Address("198.51.100.1")
POOLS = (IPv4Network("11.0.0.0/8"), IPv6Network("fd01:c::/64"), IPv4Network("11.1.0.0/16"))


def fence(view: View, *services: str) -> set[Element]:
    made = desired_fence(
        view, node=NODE, services=parse_services(services), resolvers=[RESOLVER], vips=POOLS
    )
    return set(made)


def services(view: View, *given: str) -> set[tuple[str, ...]]:
    return {element.fields for element in fence(view, *given) if element.set_name == SERVICES}


def test_resolvers_and_vips_are_reached_by_default() -> None:
    assert fence(View()) == {
        Element(FENCED, ("0-255",)),
        Element(f"{RESOLVERS}4", ("198.51.100.1",)),
        Element(f"{VIPS}4", ("11.0.0.0/8",)),
        Element(f"{VIPS}6", ("fd01:c::/64",)),
    }


def test_declared_services_are_joined() -> None:
    found = services(View(), "tcp:80", "tcp:81-90", "udp:53", "tcp:85-95")

    assert found == {("6", "80-95"), ("17", "53")}


def test_any_takes_the_fence_away() -> None:
    assert fence(CLUSTER, "tcp:80", "any") == set()


def test_the_api_of_the_nodes_own_agent_is_reached() -> None:
    others = Node(IPv4Address("198.18.1.2"), "n2", port=5052)
    view = View().changed([Node(NODE, "n1", port=5051), others])

    assert services(view) == {("6", "5051")}


def test_ports_of_tasks_on_the_nodes_own_network_are_reached() -> None:
    plain = container("t", "", "198.18.1.1")
    on_host = msgspec.structs.replace(plain, networks=(), port_resources=((31000, 31001),))
    elsewhere = msgspec.structs.replace(
        on_host, id="u", node=IPv4Address("198.18.1.2"), port_resources=((4, 5),)
    )
    inside = container("v", "dcos", "9.0.1.2")
    behind = msgspec.structs.replace(inside, port_resources=((7, 8),))

    view = CLUSTER.changed([on_host, elsewhere, behind])

    assert services(view) == {("6", "31000-31001"), ("17", "31000-31001")}


@pytest.mark.parametrize("text", ["", "80", "icmp:1", "tcp:", "tcp:0", "tcp:9-8", "tcp:65536"])
def test_what_is_no_service_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not like tcp:9100"):
        parse_services([text])
