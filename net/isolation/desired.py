"""From the View to the elements of the isolation table's sets and maps."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from phalanx.core.layered import whole_of
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.net.isolation.box import Box, Range, disjoint
from phalanx.net.isolation.compile import Compiled, follow_policies
from phalanx.net.isolation.layout import NETWORKS, SAME, WALLED
from phalanx.net.isolation.stage import staged
from phalanx.net.model.view import View
from phalanx.net.nft.element import RULES, Element, outermost, render_addresses, render_prefix
from phalanx.net.nft.staged import Staged

ALL_PORTS: Range = (0, 65535)


@dataclass(frozen=True, slots=True)
class Isolation:
    """The elements of one View's networks and policies, ready to be followed by another's."""

    view: View = field(default_factory=View)
    networks: Mapping[Element, None] = field(default_factory=lambda: {RULES: None})
    policies: Compiled = field(default_factory=Compiled)

    @property
    def elements(self) -> dict[Element, None]:
        """Return all of them, and RULES for the table itself."""
        return {**self.networks, **dict.fromkeys(whole_of(self.policies.elements))}

    def follow(self, view: View) -> tuple["Isolation", Staged]:
        """Return the elements of *view*, the same whatever was before, and what differs."""
        networks = self.networks
        if view.networks is not self.view.networks:
            networks = _of_networks(view)
        policies, change = follow_policies(self.policies, view)
        walls = delta(networks, self.networks)
        both = Delta({**walls.upserts, **change.upserts}, walls.removals | change.removals)
        return Isolation(view, networks, policies), staged(self.policies, policies, both)


def desired_isolation(view: View) -> dict[Element, None]:
    """Return the elements, and RULES for the table itself.

    A policy that names a network which does not exist says nothing.
    """
    return Isolation().follow(view)[0].elements


def _of_networks(view: View) -> dict[Element, None]:
    networks = view.networks.values()
    elements = [RULES]
    for version in (4, 6):
        whole = [s for n in networks for s in n.subnets if s.version == version]
        walled = [s for n in networks if n.isolated for s in n.subnets if s.version == version]
        elements += _prefixes(f"{NETWORKS}{version}", whole)
        elements += _prefixes(f"{WALLED}{version}", walled)
        spans = (_span(subnet) for subnet in whole)
        for box in disjoint(Box(span, span, ALL_PORTS) for span in spans):
            ends = (box.source, box.destination)
            fields = tuple(render_addresses(*end, version=version) for end in ends)
            elements.append(Element(f"{SAME}{version}", fields))
    return dict.fromkeys(elements)


def _prefixes(set_name: str, prefixes: Iterable[IPv4Network | IPv6Network]) -> Iterator[Element]:
    for prefix in outermost(list(prefixes)):
        yield Element(set_name, (render_prefix(prefix),))


def _span(prefix: IPv4Network | IPv6Network) -> Range:
    return int(prefix.network_address), int(prefix.broadcast_address)
