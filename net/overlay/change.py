"""From two Views to what a node's large tables of the overlay must change; pure.

Ten thousand nodes on three networks are some eighty thousand routes: a node
that joins or leaves must not cost a look at all of them.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address
from itertools import compress
from operator import is_not
from typing import Any

from phalanx.core.layered import differing
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.net.model.objects import Node, SubnetLease
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element
from phalanx.net.overlay.desired import desired_senders, routes_between
from phalanx.net.overlay.route.value import Route, RouteKey


def changed_routes(
    before: View, after: View, *, node: IPv4Address, has_ipv6: bool = True
) -> Delta[RouteKey, Route] | None:
    """Return what ``desired_routes`` of *after* has otherwise; None when networks changed."""
    if _touched(before.networks, after.networks):
        return None
    nodes = {key: None for key in _touched(before.nodes, after.nodes)}
    leases = dict.fromkeys(_touched(before.subnets, after.subnets))
    for view in (before, after):
        for name in view.networks:
            leases |= {key: None for at in nodes if (key := f"{name}/{at}") in view.subnets}
    old, new = (
        routes_between(_part(view, nodes, leases), view.nodes, node=node, has_ipv6=has_ipv6)
        for view in (before, after)
    )
    return delta(new, old)


def changed_senders(before: View, after: View, *, node: IPv4Address) -> Delta[Element, None]:
    """Return what ``desired_senders`` of *after* has otherwise."""
    nodes = dict.fromkeys(_touched(before.nodes, after.nodes))
    old, new = (
        desired_senders(View(nodes=_of(view.nodes, nodes)), node=node) for view in (before, after)
    )
    return delta(new, old)


def _part(view: View, nodes: Mapping[str, None], leases: Mapping[str, None]) -> View:
    """Return the View of these *nodes* and *leases* alone, and all networks."""
    found: Mapping[str, Node] = _of(view.nodes, nodes)
    leased: Mapping[str, SubnetLease] = _of(view.subnets, leases)
    return View(nodes=found, networks=view.networks, subnets=leased)


def _of(objects: Mapping[str, Any], keys: Mapping[str, None]) -> dict[str, Any]:
    return {key: objects[key] for key in keys if key in objects}


def _touched(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the keys of objects that came, went or are others; unchanged ones are the same."""
    if before is after:
        return []
    if (few := differing(before, after)) is not None:
        return [key for key in few if before.get(key) is not after.get(key)]
    # Without a step of the interpreter for each of what is mostly the same.
    old, new = dict(before.items()), dict(after.items())
    touched = list(compress(new, map(is_not, new.values(), map(old.get, new))))
    came = sum(key not in old for key in touched)
    if len(old) + came != len(new):
        touched += [key for key in old if key not in new]
    return touched
