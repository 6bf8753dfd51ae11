"""The overlay's decisions are pure, so their tests are tables."""

from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest

from phalanx.net.model.objects import Liveness, Network, Node, SubnetLease
from phalanx.net.model.view import View
from phalanx.net.overlay.desired import (
    MTU,
    desired_links,
    desired_routes,
    desired_rules,
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


def tunnels(view: View, node: IPv4Address = ME) -> dict[str, Route]:
    """Return the routes into the tunnel, by table and destination."""
    return {
        f"{key.table} {key.destination}": route
        for key, route in desired_routes(view, node=node).items()
        if isinstance(route, TunnelRoute)
    }


def test_every_remote_lease_and_node_has_a_route() -> None:
    assert desired_routes(VIEW, node=ME, vip_range=IPv4Network("11.0.0.0/8")) == {
        to(TABLE_MAIN, "9.0.2.0/24", OTHER): TunnelRoute(OTHER, 1024, ME),
        to(TABLE_MAIN, "10.20.2.0/24", OTHER): TunnelRoute(OTHER, 1025, ME),
        to(TABLE_NODES, "198.18.2.2/32", OTHER): TunnelRoute(OTHER, 1, ME),
        to(TABLE_NODES, "198.18.1.3/32", MASTER): TunnelRoute(MASTER, 1, ME),
        RouteKey(TABLE_MAIN, IPv4Network("9.0.0.0/8"), 1 << 31): UnreachableRoute(),
        RouteKey(TABLE_MAIN, IPv4Network("10.20.0.0/16"), 1 << 31): UnreachableRoute(),
        RouteKey(TABLE_LOCAL, IPv4Network("11.0.0.0/8")): LocalRoute(ME),
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
    assert desired_rules(VIEW) == {DCOS.subnet: None, BLUE.subnet: None}


@pytest.mark.parametrize(
    ("mtus", "expected"), [([], MTU), ([1400], MTU), ([1450, 8964], 8964)], ids=str
)
def test_link_carries_the_largest_mtu(mtus: list[int], expected: int) -> None:
    networks = [
        msgspec.structs.replace(DCOS, name=f"n{index}", mtu=mtu) for index, mtu in enumerate(mtus)
    ]

    assert desired_links(View().changed(networks)) == {TUNNEL: VxlanLink(mtu=expected)}


def test_node_forwards() -> None:
    assert desired_settings()["net/ipv4/ip_forward"] == "1"
