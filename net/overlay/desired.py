"""From the View to the routes, rules, link and settings that carry the overlay on one node."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from phalanx.net.model.view import View
from phalanx.net.overlay.link.value import VxlanLink
from phalanx.net.overlay.mark import (
    METRICS,
    NODE_VNI,
    TABLE_LOCAL,
    TABLE_MAIN,
    TABLE_NODES,
    TUNNEL,
    UNREACHABLE_METRIC,
)
from phalanx.net.overlay.route.value import (
    LocalRoute,
    Route,
    RouteKey,
    TunnelRoute,
    UnreachableRoute,
)

MTU = 1450  # of the tunnel while no network asks for more

SETTINGS: Mapping[str, str] = {
    "net/ipv4/ip_forward": "1",
    # Loose: what comes out of the tunnel may have a source whose way back we don't know yet.
    # The kernel takes the larger of this and conf/all, so "all" stays the operator's.
    f"net/ipv4/conf/{TUNNEL}/rp_filter": "2",
}


def desired_routes(
    view: View, *, node: IPv4Address, vip_range: IPv4Network | None = None
) -> dict[RouteKey, Route]:
    """Return the routes of the node with address *node*.

    A node that is suspect or unreachable keeps its routes, for it may be back
    at any moment; one that left the View has none. What no node is leased of a
    network is unreachable instead of leaking to the underlay.
    """
    routes: dict[RouteKey, Route] = {}
    for network in view.networks.values():
        if network.subnet is not None:
            key = RouteKey(TABLE_MAIN, network.subnet, UNREACHABLE_METRIC)
            routes[key] = UnreachableRoute()
    present = {other.address for other in view.nodes.values()}
    for lease in view.subnets.values():
        network_of_lease = view.networks.get(lease.network)
        if network_of_lease is None or lease.node == node or lease.node not in present:
            continue
        if lease.subnet is None:
            continue
        routes[RouteKey(TABLE_MAIN, lease.subnet, metric_to(lease.node))] = TunnelRoute(
            remote=lease.node, vni=network_of_lease.vni, source=node
        )
    for other in view.nodes.values():
        if other.address != node:
            key = RouteKey(
                TABLE_NODES, IPv4Network((int(other.address), 32)), metric_to(other.address)
            )
            routes[key] = TunnelRoute(remote=other.address, vni=NODE_VNI, source=node)
    if vip_range is not None:
        routes[RouteKey(TABLE_LOCAL, vip_range)] = LocalRoute(source=node)
    return routes


def metric_to(node: IPv4Address) -> int:
    """Return the metric of routes to *node*: another one for nearly every node.

    The kernel hashes what it knows of a route's way by metric, link and
    source, not by encapsulation. With one metric for all, each new route is
    compared with every other: 20,000 routes took 15 s instead of a fraction of one.
    """
    return 1 + int(node) % METRICS


def desired_rules(view: View) -> dict[IPv4Network, None]:
    """Return the sources that find other nodes through the tunnel: every virtual network.

    A container's reply to a node's own connection then travels as the request
    did, with its own address, which the underlay's routers need not know.
    """
    subnets = (network.subnet for network in view.networks.values())
    return dict.fromkeys(subnet for subnet in subnets if subnet is not None)


def desired_links(view: View) -> dict[str, VxlanLink]:
    """Return the one VXLAN link; its MTU is the largest that a network has."""
    mtu = max((network.mtu for network in view.networks.values()), default=MTU)
    return {TUNNEL: VxlanLink(mtu=max(mtu, MTU))}


def desired_settings() -> Mapping[str, str]:
    """Return the kernel settings by their paths below /proc/sys."""
    return SETTINGS
