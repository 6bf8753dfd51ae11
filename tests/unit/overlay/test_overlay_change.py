"""What a change of the View changes of the large tables is what the whole tables say, always."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.reconcile.delta import Delta, delta
from phalanx.net.model.objects import Liveness, Network, Node, Object, SubnetLease
from phalanx.net.model.view import Ref, View
from phalanx.net.overlay.change import changed_routes, changed_senders
from phalanx.net.overlay.desired import desired_routes, desired_senders

ME = IPv4Address("198.18.0.1")
NODES = [Node(ME + number, f"n{number}") for number in range(4)]
NETWORKS = [
    Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
    Network("six", None, 0, 1025, 1450, subnet6=IPv6Network("fd01:b::/64"), prefix6=80),
    Network(
        "both",
        IPv4Network("10.0.0.0/16"),
        24,
        1026,
        1450,
        subnet6=IPv6Network("fd02:b::/64"),
        prefix6=80,
    ),
]


def lease(network: Network, node: Node, number: int) -> SubnetLease:
    four, six = network.subnet, network.subnet6
    return SubnetLease(
        network.name,
        node.address,
        None if four is None else IPv4Network((int(four[0]) + (number << 8), 24)),
        None if six is None else IPv6Network((int(six[0]) + (number << 48), 80)),
    )


LEASES = [
    lease(network, node, number)
    for network in NETWORKS
    for number, node in enumerate([*NODES, *NODES])  # each node may have one of two
]
OBJECTS: list[Object] = [
    *NODES,
    *(msgspec.structs.replace(node, liveness=Liveness.SUSPECT) for node in NODES),
    *LEASES,
]
REFS: list[Ref] = sorted({(item.kind, item.key) for item in OBJECTS})
STEPS = st.lists(
    st.tuples(st.lists(st.sampled_from(OBJECTS), max_size=8), st.lists(st.sampled_from(REFS))),
    max_size=6,
)
START = View().changed(NETWORKS)


def followed(table: dict[object, object], change: Delta[object, object]) -> dict[object, object]:
    kept = {key: value for key, value in table.items() if key not in change.removals}
    return {**kept, **change.upserts}


@given(STEPS, st.booleans())
def test_steps_lead_where_the_whole_leads(
    steps: list[tuple[list[Object], list[Ref]]], has_ipv6: bool
) -> None:
    view = START
    routes = dict(desired_routes(view, node=ME, has_ipv6=has_ipv6))
    senders = dict(desired_senders(view, node=ME))
    for upserts, removals in steps:
        after = view.changed(upserts, removals)
        change = changed_routes(view, after, node=ME, has_ipv6=has_ipv6)
        assert change is not None
        routes = followed(routes, change)  # type: ignore[arg-type, assignment] # one test for two kinds
        senders = followed(senders, changed_senders(view, after, node=ME))  # type: ignore[arg-type, assignment] # as above
        view = after

        assert routes == desired_routes(view, node=ME, has_ipv6=has_ipv6)
        assert senders == desired_senders(view, node=ME)


@given(st.permutations(OBJECTS))
def test_order_in_which_the_view_grew_is_not_seen(objects: list[Object]) -> None:
    last = {(item.kind, item.key): item for item in OBJECTS}.values()
    grown = START
    for item in objects:
        grown = grown.changed([item])
    grown = grown.changed(last)

    assert desired_routes(grown, node=ME) == desired_routes(START.changed(last), node=ME)


def test_only_what_follows_is_changed() -> None:
    before = START.changed([*NODES[:3], *LEASES[:3]])
    after = before.changed([NODES[3], LEASES[3]])

    change = changed_routes(before, after, node=ME)

    assert change is not None
    assert len(change.upserts) == 3  # to the node in both families, and to its lease
    assert not change.removals
    assert not changed_routes(after, after, node=ME)


def test_change_of_a_network_is_left_to_the_whole() -> None:
    other = msgspec.structs.replace(NETWORKS[0], vni=4000)

    assert changed_routes(START, START.changed([other]), node=ME) is None


def test_whole_and_part_agree_on_a_large_cluster() -> None:
    nodes = [Node(ME + number, f"n{number}") for number in range(300)]
    leases = [lease(network, node, n) for network in NETWORKS for n, node in enumerate(nodes)]
    view = START.changed([*nodes, *leases])
    gone = view.changed([], [("node", nodes[7].key)])

    whole = delta(desired_routes(gone, node=ME), desired_routes(view, node=ME))

    assert changed_routes(view, gone, node=ME) == whole
