"""The overlay's decisions are pure, so their tests are tables."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import msgspec
import pytest

from phalanx.net.model.objects import Liveness, Network, Node, SubnetLease, node6
from phalanx.net.model.view import View
from phalanx.net.nft.element import RULES, Element
from phalanx.net.overlay.desired import (
    MTU,
    desired_links,
    desired_routes,
    desired_rules,
    desired_senders,
    desired_settings,
    metric_to,
)
from phalanx.net.overlay.link.value import VxlanLink
from phalanx.net.overlay.mark import TABLE_LOCAL, TABLE_MAIN, TABLE_NODES, TUNNEL
from phalanx.net.overlay.route.value import (
    LocalRoute,
    Route,
    RouteKey,
    TunnelRoute,
    UnreachableRoute,
)

ME, OTHER, MASTER = (IPv4Address(f"198.18.{n}") for n in ("1.1", "2.2", "1.3"))
DCOS = Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450)
BLUE = Network("blue", IPv4Network("10.20.0.0/16"), 24, 1025, 1400)
OTHER_NODE = Node(OTHER, "other", agent_id="S1")
VIEW = View().changed(
    [
        Node(ME, "me", agent_id="S0"),
        OTHER_NODE,
        Node(MASTER, "master", is_master=True),
        DCOS,
        BLUE,
        SubnetLease("dcos", ME, IPv4Network("9.0.1.0/24")),
        SubnetLease("dcos", OTHER, IPv4Network("9.0.2.0/24")),
        SubnetLease("blue", OTHER, IPv4Network("10.20.2.0/24")),
    ]
)


def to(table: int, destination: str, remote: IPv4Address) -> RouteKey:
    return RouteKey(table, IPv4Network(destination), metric_to(remote))


def to6(table: int, destination: str, remote: IPv4Address) -> RouteKey:
    return RouteKey(table, IPv6Network(destination), metric_to(remote))


def tunnels(view: View, node: IPv4Address = ME) -> dict[str, Route]:
    """Return the IPv4 routes into the tunnel, by table and destination."""
    return {
        f"{key.table} {key.destination}": route
        for key, route in desired_routes(view, node=node).items()
        if isinstance(route, TunnelRoute) and key.destination.version == 4
    }


def test_every_remote_lease_and_node_has_a_route() -> None:
    routes = desired_routes(VIEW, node=ME, vip_range=IPv4Network("11.0.0.0/8"))

    assert {key: route for key, route in routes.items() if key.destination.version == 4} == {
        to(TABLE_MAIN, "9.0.2.0/24", OTHER): TunnelRoute(OTHER, 1024, ME),
        to(TABLE_MAIN, "10.20.2.0/24", OTHER): TunnelRoute(OTHER, 1025, ME),
        to(TABLE_NODES, "198.18.2.2/32", OTHER): TunnelRoute(OTHER, 1, ME),
        to(TABLE_NODES, "198.18.1.3/32", MASTER): TunnelRoute(MASTER, 1, ME),
        RouteKey(TABLE_MAIN, IPv4Network("9.0.0.0/8"), 1 << 31): UnreachableRoute(),
        RouteKey(TABLE_MAIN, IPv4Network("10.20.0.0/16"), 1 << 31): UnreachableRoute(),
        RouteKey(TABLE_LOCAL, IPv4Network("11.0.0.0/8")): LocalRoute(ME),
    }


def test_ipv6_leases_and_nodes_have_routes_of_the_same_form() -> None:
    both = msgspec.structs.replace(DCOS, subnet6=IPv6Network("fd00:1::/64"), prefix6=80)
    six = Network("six", None, 0, 1026, 1450, subnet6=IPv6Network("fd01:b::/64"), prefix6=80)
    lease6 = IPv6Network("fd00:1:0:0:2::/80")
    view = VIEW.changed(
        [
            both,
            six,
            SubnetLease("dcos", OTHER, IPv4Network("9.0.2.0/24"), lease6),
            SubnetLease("six", ME, None, IPv6Network("fd01:b::/80")),
        ]
    )
    vips = IPv6Network("fd01:c::/64")
    routes = desired_routes(view, node=ME, vip_range6=vips)

    assert {key: route for key, route in routes.items() if key.destination.version == 6} == {
        to6(TABLE_MAIN, str(lease6), OTHER): TunnelRoute(OTHER, 1024, ME),
        to6(TABLE_MAIN, "fd01:a::c612:202/128", OTHER): TunnelRoute(OTHER, 1, ME),
        to6(TABLE_MAIN, "fd01:a::c612:103/128", MASTER): TunnelRoute(MASTER, 1, ME),
        RouteKey(TABLE_MAIN, IPv6Network("fd00:1::/64"), 1 << 31): UnreachableRoute(),
        RouteKey(TABLE_MAIN, IPv6Network("fd01:b::/64"), 1 << 31): UnreachableRoute(),
        RouteKey(TABLE_MAIN, IPv6Network("fd01:a::/96"), 1 << 31): UnreachableRoute(),
        RouteKey(TABLE_LOCAL, vips, 1024): LocalRoute(node6(ME)),
    }


def test_node_without_ipv6_has_no_route_of_it() -> None:
    vips = IPv6Network("fd01:c::/64")
    routes = desired_routes(VIEW, node=ME, vip_range6=vips, has_ipv6=False)

    assert {key.destination.version for key in routes} == {4}


def test_tunnel_takes_packets_of_every_other_node() -> None:
    assert desired_senders(VIEW, node=ME).keys() == {
        RULES,
        Element("nodes", (str(OTHER),)),
        Element("nodes", (str(MASTER),)),
    }


def test_without_a_vip_range_there_is_no_local_route() -> None:
    assert LocalRoute(ME) not in desired_routes(VIEW, node=ME).values()


def test_master_without_leases_reaches_every_container() -> None:
    assert tunnels(VIEW, MASTER).keys() == {
        "254 9.0.1.0/24",
        "254 9.0.2.0/24",
        "254 10.20.2.0/24",
        "122 198.18.1.1/32",
        "122 198.18.2.2/32",
    }


@pytest.mark.parametrize("liveness", Liveness)
def test_silent_node_keeps_its_routes(liveness: Liveness) -> None:
    silent = msgspec.structs.replace(OTHER_NODE, liveness=liveness)

    assert tunnels(VIEW.changed([silent])) == tunnels(VIEW)


def test_node_that_left_has_no_routes_even_with_a_lease_behind() -> None:
    assert tunnels(VIEW.changed([], [("node", str(OTHER))])).keys() == {"122 198.18.1.3/32"}


def test_lease_of_a_network_that_is_gone_has_no_route() -> None:
    assert "254 10.20.2.0/24" not in tunnels(VIEW.changed([], [("network", "blue")]))


def test_network_leased_whole_to_one_node_is_reached_before_it_is_unreachable() -> None:
    whole = Network("tiny", IPv4Network("10.9.9.0/24"), 24, 1030, 1450)
    lease = SubnetLease("tiny", OTHER, whole.subnet)
    routes = desired_routes(VIEW.changed([whole, lease]), node=ME)
    by_metric = sorted((k.metric, r) for k, r in routes.items() if k.destination == whole.subnet)

    assert [route for _, route in by_metric] == [TunnelRoute(OTHER, 1030, ME), UnreachableRoute()]


def test_metrics_of_neighbouring_nodes_differ() -> None:
    metrics = {metric_to(IPv4Address(int(ME) + n)) for n in range(10_000)}

    assert len(metrics) == 10_000
    assert min(metrics) > 0


def test_each_network_has_a_rule() -> None:
    assert desired_rules(VIEW) == {DCOS.subnet: 0x10000000, BLUE.subnet: 0x10000000}


@pytest.mark.parametrize(
    ("mtus", "expected"), [([], MTU), ([1400], MTU), ([1450, 8964], 8964)], ids=str
)
def test_link_carries_the_largest_mtu(mtus: list[int], expected: int) -> None:
    networks = [
        msgspec.structs.replace(DCOS, name=f"n{index}", mtu=mtu) for index, mtu in enumerate(mtus)
    ]

    assert desired_links(View().changed(networks)) == {TUNNEL: VxlanLink(mtu=expected)}


@pytest.mark.parametrize(
    ("underlay", "expected"),
    [
        pytest.param(9000, 8964, id="jumbo-frames"),
        pytest.param(1500, 1464, id="ethernet"),
        pytest.param(1460, 1424, id="a-tunnel-itself"),
        pytest.param(576, 1280, id="below-what-ipv6-needs"),
        pytest.param(None, 9000, id="unknown"),
    ],
)
def test_link_carries_no_more_than_the_underlay(underlay: int | None, expected: int) -> None:
    large = msgspec.structs.replace(DCOS, mtu=9000)

    links = desired_links(View().changed([large]), underlay_mtu=underlay)

    assert links == {TUNNEL: VxlanLink(mtu=expected)}


def test_node_forwards() -> None:
    assert desired_settings()["net/ipv4/ip_forward"] == "1"
    assert desired_settings()["net/ipv6/conf/all/forwarding"] == "1"
    assert desired_settings()["net/ipv4/conf/all/src_valid_mark"] == "1"
