"""What leaves the cluster with the address of its node."""

from ipaddress import IPv4Address, IPv4Network

from phalanx.net.model.objects import Network, Node, SubnetLease
from phalanx.net.model.view import View
from phalanx.net.nat.desired import desired_nat
from phalanx.net.nat.layout import INSIDE, LOCAL
from phalanx.net.nft.element import RULES

N1, N2 = IPv4Address("198.18.1.1"), IPv4Address("198.18.2.2")
VIEW = View().changed(
    [
        Node(N1, "n1"),
        Node(N2, "n2"),
        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
        SubnetLease("dcos", N1, IPv4Network("9.0.1.0/24")),
        SubnetLease("dcos", N2, IPv4Network("9.0.2.0/24")),
    ]
)


def elements(node: IPv4Address, set_name: str) -> set[str]:
    return {item.text for item in desired_nat(VIEW, node=node) if item.set_name == set_name}


def test_only_the_subnets_of_the_node_itself_are_masqueraded() -> None:
    assert elements(N1, LOCAL) == {"9.0.1.0/24"}
    assert elements(N2, LOCAL) == {"9.0.2.0/24"}
    assert elements(IPv4Address("198.18.1.3"), LOCAL) == set()


def test_networks_nodes_and_neighbourhood_see_the_containers_own_address() -> None:
    assert elements(N1, INSIDE) == {
        "9.0.0.0/8",
        "198.18.1.1",
        "198.18.2.2",
        "224.0.0.0/4",
        "255.255.255.255",
    }


def test_empty_view_still_wants_the_table() -> None:
    assert RULES in desired_nat(View(), node=N1)
