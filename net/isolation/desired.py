"""From the View to the elements of the isolation table's sets."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network

from phalanx.net.isolation.box import Box, Range, disjoint
from phalanx.net.isolation.layout import ALLOWED, NETWORKS, OPEN, SAME
from phalanx.net.model.objects import Network, Policy, Protocol
from phalanx.net.model.view import View
from phalanx.net.nft.element import (
    RULES,
    Element,
    outermost,
    render_addresses,
    render_ports,
    render_prefix,
)

ALL_PORTS: Range = (0, 65535)


def desired_isolation(view: View) -> dict[Element, None]:
    """Return the elements, and RULES for the table itself.

    A policy that names a network which does not exist opens nothing.
    """
    networks = view.networks.values()
    elements = [RULES]
    for prefix in outermost(n.subnet for n in networks if n.subnet):
        elements.append(Element(NETWORKS, (render_prefix(prefix),)))
    for prefix in outermost(n.subnet for n in networks if n.subnet and not n.isolated):
        elements.append(Element(OPEN, (render_prefix(prefix),)))
    inside = (_span(network.subnet) for network in networks if network.subnet)
    for box in disjoint(Box(span, span, ALL_PORTS) for span in inside):
        fields = (render_addresses(*box.source), render_addresses(*box.destination))
        elements.append(Element(SAME, fields))
    for protocol in Protocol:
        boxes = _boxes(view.policies.values(), view.networks, protocol)
        for box in disjoint(boxes):
            elements.append(_allowed(protocol, box))
    return dict.fromkeys(elements)


def _boxes(
    policies: Iterable[Policy], networks: Mapping[str, Network], protocol: Protocol
) -> Iterator[Box]:
    for policy in policies:
        if policy.protocol is not protocol:
            continue
        source = _prefix(policy.source, networks)
        destination = _prefix(policy.destination, networks)
        if source is not None and destination is not None:
            ports = (policy.first_port, policy.last_port)
            yield Box(_span(source), _span(destination), ports)


def _prefix(text: str, networks: Mapping[str, Network]) -> IPv4Network | None:
    """Return the prefix that *text*, a network's name or a prefix, means; None if nothing."""
    if text in networks:
        return networks[text].subnet
    try:
        return IPv4Network(text)
    except ValueError:
        return None


def _span(prefix: IPv4Network) -> Range:
    return int(prefix.network_address), int(prefix.broadcast_address)


def _allowed(protocol: Protocol, box: Box) -> Element:
    return Element(
        ALLOWED,
        (
            render_addresses(*box.source),
            render_addresses(*box.destination),
            str(protocol.number),
            render_ports(*box.ports),
        ),
    )
