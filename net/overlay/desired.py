"""From the View to the routes, rules, link and settings that carry the overlay on one node."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from phalanx.net.model.objects import NODES6, Node, node6
from phalanx.net.model.view import View
from phalanx.net.nft.element import RULES, Element
from phalanx.net.overlay.link.value import VxlanLink
from phalanx.net.overlay.mark import (
    LEAST_MTU,
    METRIC6,
    METRICS,
    NODE_VNI,
    OVERHEAD,
    TABLE_LOCAL,
    TABLE_MAIN,
    TABLE_NODES,
    TUNNEL,
    UNDERLAY_MARK,
    UNREACHABLE_METRIC,
)
from phalanx.net.overlay.route.value import (
    LocalRoute,
    Route,
    RouteKey,
    TunnelRoute,
    UnreachableRoute,
)
from phalanx.net.overlay.senders import NODES

MTU = 1450  # of the tunnel while no network asks for more

SETTINGS: Mapping[str, str] = {
    "net/ipv4/ip_forward": "1",
    # Loose: what comes out of the tunnel may have a source whose way back we don't know yet.
    # The kernel takes the larger of this and conf/all, so "all" stays the operator's.
    f"net/ipv4/conf/{TUNNEL}/rp_filter": "2",
    # Reverse path filters look a packet's mark up: where they are strict, too, the way back of
    # what another node asks of a mapped port is the underlay.
    "net/ipv4/conf/all/src_valid_mark": "1",
}
SETTINGS6: Mapping[str, str] = {
    # A machine may begin without IPv6 on new links.
    "net/ipv6/conf/lo/disable_ipv6": "0",
    f"net/ipv6/conf/{TUNNEL}/disable_ipv6": "0",
    "net/ipv6/conf/all/forwarding": "1",
}


def desired_routes(
    view: View,
    *,
    node: IPv4Address,
    vip_range: IPv4Network | None = None,
    vip_range6: IPv6Network | None = None,
    has_ipv6: bool = True,
) -> dict[RouteKey, Route]:
    """Return the routes of the node with address *node*.

    A node that is suspect or unreachable keeps its routes, for it may be back
    at any moment; one that left the View has none. What no node is leased of a
    network is unreachable instead of leaking to the underlay.
    """
    routes: dict[RouteKey, Route] = {
        RouteKey(TABLE_MAIN, subnet, UNREACHABLE_METRIC): UnreachableRoute()
        for network in view.networks.values()
        for subnet in network.subnets
        if has_ipv6 or subnet.version == 4
    }
    if vip_range is not None:
        routes[RouteKey(TABLE_LOCAL, vip_range)] = LocalRoute(source=node)
    if has_ipv6:
        routes[RouteKey(TABLE_MAIN, NODES6, UNREACHABLE_METRIC)] = UnreachableRoute()
        if vip_range6 is not None:
            routes[RouteKey(TABLE_LOCAL, vip_range6, METRIC6)] = LocalRoute(source=node6(node))
    return routes | routes_between(view, view.nodes, node=node, has_ipv6=has_ipv6)


def routes_between(
    view: View, present: Mapping[str, Node], *, node: IPv4Address, has_ipv6: bool = True
) -> dict[RouteKey, Route]:
    """Return the routes of *node* to the other nodes of *view* and to what is leased.

    A lease counts only while its node is *present*.
    """
    routes: dict[RouteKey, Route] = {}
    for other in view.nodes.values():
        if other.address != node:
            to = TunnelRoute(remote=other.address, vni=NODE_VNI, source=node)
            metric = metric_to(other.address)
            routes[RouteKey(TABLE_NODES, IPv4Network((int(other.address), 32)), metric)] = to
            if has_ipv6:
                # Nobody but us knows the way there: no need of a table for containers alone.
                routes[RouteKey(TABLE_MAIN, IPv6Network((int(other.address6), 128)), metric)] = to
    for lease in view.subnets.values():
        network = view.networks.get(lease.network)
        if network is None or lease.node == node or str(lease.node) not in present:
            continue
        to = TunnelRoute(remote=lease.node, vni=network.vni, source=node)
        metric = metric_to(lease.node)
        for subnet in lease.subnets:
            if has_ipv6 or subnet.version == 4:
                routes[RouteKey(TABLE_MAIN, subnet, metric)] = to
    return routes


def metric_to(node: IPv4Address) -> int:
    """Return the metric of routes to *node*: another one for nearly every node.

    The kernel hashes what it knows of a route's way by metric, link and
    source, not by encapsulation. With one metric for all, each new route is
    compared with every other: 20,000 routes took 15 s instead of a fraction of one.
    """
    return 1 + int(node) % METRICS


def desired_rules(view: View) -> dict[IPv4Network, int]:
    """Return the sources that find other nodes through the tunnel: every virtual network.

    A container's reply to a node's own connection then travels as the request
    did, with its own address, which the underlay's routers need not know. A
    packet with the mark that is each one's value goes by the underlay.
    """
    subnets = (network.subnet for network in view.networks.values())
    return {subnet: UNDERLAY_MARK for subnet in subnets if subnet is not None}


def desired_senders(view: View, *, node: IPv4Address) -> dict[Element, None]:
    """Return whose packets the tunnel takes: every other node's, and RULES for the table itself."""
    others = (other.address for other in view.nodes.values() if other.address != node)
    return dict.fromkeys([RULES, *(Element(NODES, (str(address),)) for address in others)])


def desired_links(view: View, *, underlay_mtu: int | None = None) -> dict[str, VxlanLink]:
    """Return the one VXLAN link.

    Its MTU is the largest that a network has, but no more than the underlay
    carries with the tunnel's headers on top: who sends a larger packet is told
    by the link, and no outer packet is fragmented.
    """
    mtu = max((network.mtu for network in view.networks.values()), default=MTU)
    mtu = max(mtu, MTU)
    if underlay_mtu is not None:
        mtu = max(min(mtu, underlay_mtu - OVERHEAD), LEAST_MTU)
    return {TUNNEL: VxlanLink(mtu=mtu)}


def desired_settings(*, has_ipv6: bool = True) -> Mapping[str, str]:
    """Return the kernel settings by their paths below /proc/sys."""
    return {**SETTINGS, **SETTINGS6} if has_ipv6 else SETTINGS
