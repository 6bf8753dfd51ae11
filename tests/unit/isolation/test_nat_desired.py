"""What leaves the cluster with the address of its node."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.core.reconcile.delta import delta
from phalanx.net.model.objects import Network, Node, SubnetLease
from phalanx.net.model.view import View
from phalanx.net.nat.desired import changed_nat, desired_nat
from phalanx.net.nat.layout import INSIDE, LOCAL
from phalanx.net.nft.element import RULES

N1, N2 = IPv4Address("198.18.1.1"), IPv4Address("198.18.2.2")
INNER = IPv4Address("9.200.0.1")  # a node that has an address of a network
VIEW = View().changed(
    [
        Node(N1, "n1"),
        Node(N2, "n2"),
        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
        SubnetLease("dcos", N1, IPv4Network("9.0.1.0/24")),
        SubnetLease("dcos", N2, IPv4Network("9.0.2.0/24")),
        Network("six", None, 0, 1026, 1450, subnet6=IPv6Network("fd06::/64"), prefix6=80),
        SubnetLease("six", N1, None, IPv6Network("fd06::1:0:0:0/80")),
        SubnetLease("six", N2, None, IPv6Network("fd06::2:0:0:0/80")),
    ]
)


def elements(node: IPv4Address, set_name: str) -> set[str]:
    return {item.text for item in desired_nat(VIEW, node=node) if item.set_name == set_name}


def test_only_the_subnets_of_the_node_itself_are_masqueraded() -> None:
    assert elements(N1, LOCAL) == {"9.0.1.0/24"}
    assert elements(N2, LOCAL) == {"9.0.2.0/24"}
    assert elements(IPv4Address("198.18.1.3"), LOCAL) == set()
    assert elements(N1, f"{LOCAL}6") == {"fd06::1:0:0:0/80"}
    assert elements(IPv4Address("198.18.1.3"), f"{LOCAL}6") == set()


def test_networks_nodes_and_neighbourhood_see_the_containers_own_address() -> None:
    assert elements(N1, INSIDE) == {
        "9.0.0.0/8",
        "198.18.1.1",
        "198.18.2.2",
        "224.0.0.0/4",
        "255.255.255.255",
    }
    assert elements(N1, f"{INSIDE}6") == {"fd06::/64", "fd01:a::/96", "ff00::/8", "fe80::/10"}


def test_empty_view_still_wants_the_table() -> None:
    assert RULES in desired_nat(View(), node=N1)


@st.composite
def steps(draw: st.DrawFn) -> list[View]:
    view, found = VIEW, []
    for _ in range(draw(st.integers(1, 6))):
        upserts: list[Node | Network | SubnetLease] = draw(
            st.lists(
                st.sampled_from(
                    [
                        *(Node(address, "n") for address in (N1, N2, INNER)),
                        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
                        Network("dcos", IPv4Network("9.0.0.0/9"), 24, 1024, 1450),
                        Network("blue", IPv4Network("10.0.0.0/8"), 24, 1025, 1450),
                        *(
                            SubnetLease("dcos", node, IPv4Network(f"9.0.{number}.0/24"))
                            for node, number in ((N1, 1), (N1, 5), (N2, 2))
                        ),
                        *(
                            SubnetLease("six", node, None, IPv6Network(f"fd06:0:0:0:{number}::/80"))
                            for node, number in ((N1, 1), (N1, 5), (N2, 2))
                        ),
                    ]
                ),
                max_size=2,
            )
        )
        there = sorted((each.kind, each.key) for each in view.objects())
        gone = draw(st.lists(st.sampled_from(there), max_size=2)) if there else []
        view = view.changed(upserts, gone)
        found.append(view)
    return found


@given(steps())
@settings(deadline=None)
def test_each_step_is_the_difference_of_the_wholes(views: list[View]) -> None:
    before = VIEW
    for view in views:
        change = changed_nat(before, view, node=N1)

        whole = delta(desired_nat(view, node=N1), desired_nat(before, node=N1))
        assert change == whole or (change is None and before.networks is not view.networks)
        before = view
