"""From the View to the elements of the NAT table's sets."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from phalanx.core.reconcile.delta import Delta, delta
from phalanx.net.model.objects import NODES6, IPNetwork
from phalanx.net.model.view import View, touched
from phalanx.net.nat.layout import INSIDE, LOCAL
from phalanx.net.nft.element import RULES, Element, outermost, render_prefix

NEIGHBOURHOOD = (  # never routed on
    *(IPv4Network("224.0.0.0/4"), IPv4Network("255.255.255.255/32")),
    *(IPv6Network("ff00::/8"), IPv6Network("fe80::/10")),
)


def desired_nat(view: View, *, node: IPv4Address) -> dict[Element, None]:
    """Return the elements on the node with address *node*, and RULES for the table itself.

    Virtual networks and nodes of the cluster see a container's own address:
    the tunnel leads to all of them. So do neighbours on the bridge, whose
    broadcasts pass here where the host filters bridged packets.
    """
    leases = [lease for lease in view.subnets.values() if lease.node == node]
    local = [subnet for lease in leases for subnet in lease.subnets]
    inside = [subnet for network in view.networks.values() for subnet in network.subnets]
    inside += [IPv4Network((int(other.address), 32)) for other in view.nodes.values()]
    inside += [*NEIGHBOURHOOD, NODES6]
    elements = [RULES, *_elements(LOCAL, local), *_elements(INSIDE, inside)]
    return dict.fromkeys(elements)


def _elements(name: str, prefixes: Iterable[IPNetwork]) -> Iterator[Element]:
    """Yield the elements of the sets of both families."""
    every = list(prefixes)
    four = outermost(each for each in every if isinstance(each, IPv4Network))
    six = outermost(each for each in every if isinstance(each, IPv6Network))
    yield from (Element(name, (render_prefix(each),)) for each in four)
    yield from (Element(f"{name}6", (render_prefix(each),)) for each in six)


def changed_nat(before: View, after: View, *, node: IPv4Address) -> Delta[Element, None] | None:
    """Return what ``desired_nat`` of *after* has otherwise; None when networks changed."""
    if touched(before.networks, after.networks):
        return None
    nodes = touched(before.nodes, after.nodes)
    leases = touched(before.subnets, after.subnets)
    is_local = any(
        lease.node == node
        for view in (before, after)
        for key in leases
        if (lease := view.subnets.get(key)) is not None
    )
    old, new = (
        desired_nat(
            View(
                nodes={key: view.nodes[key] for key in nodes if key in view.nodes},
                networks=view.networks,
                subnets=view.subnets if is_local else {},
            ),
            node=node,
        )
        for view in (before, after)
    )
    return delta(new, old)
