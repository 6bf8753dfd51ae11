"""What the semantics of policies say of one packet: the reference for everything else; pure.

It follows ``docs/design/isolation.md`` word by word and shares no step with
what is compiled for the kernel, so that each can be held against the other.
"""

from collections import defaultdict
from copy import copy
from dataclasses import dataclass

from phalanx.net.model.objects import Action, Direction, IPAddress, Network, Policy, Task
from phalanx.net.model.selector import (
    App,
    Label,
    Selector,
    container_addresses,
    parse_selector,
    prefixes_of,
)
from phalanx.net.model.view import View


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a flow, with its real ends: past a VIP and a port mapping."""

    source: IPAddress
    destination: IPAddress
    protocol: int  # as in the IP header
    port: int = 0  # of the destination; 0 where the protocol has none


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a packet passes, why, and which policy says so; None where a default does."""

    is_allowed: bool
    reason: str
    policy: Policy | None = None


class Evaluator:
    """The policies of one View, ready to be asked about many packets."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._tasks: dict[IPAddress, list[Task]] = defaultdict(list)
        for task in view.tasks.values():
            for address in container_addresses(task, view):
                self._tasks[address].append(task)
        self._policies = [
            (policy, source, destination)
            for policy in sorted(view.policies.values(), key=precedence)
            if (source := _selector(policy.source)) is not None
            and (destination := _selector(policy.destination)) is not None
        ]

    def allowed(self, packet: Packet) -> Verdict:
        """Return whether the packet passes from its source to its destination."""
        own, other = self.network_of(packet.source), self.network_of(packet.destination)
        if own is not None and own is other:
            return Verdict(is_allowed=True, reason=f"both are in network {own.name}")
        egress = self._decide(packet, Direction.EGRESS, own, other)
        if not egress.is_allowed:
            return egress
        ingress = self._decide(packet, Direction.INGRESS, other, own)
        return egress if ingress.is_allowed and ingress.policy is None else ingress

    def about(self, source: IPAddress, destination: IPAddress) -> "Evaluator":
        """Return an evaluator of packets between these two only: most policies say nothing."""
        narrow = copy(self)
        narrow._policies = [
            each
            for each in self._policies
            if self._selects(each[1], source) and self._selects(each[2], destination)
        ]
        return narrow

    def network_of(self, address: IPAddress) -> Network | None:
        """Return the virtual network that an address lies in."""
        for network in self._view.networks.values():
            for subnet in network.subnets:
                if subnet.version == address.version and address in subnet:
                    return network
        return None

    def _decide(
        self, packet: Packet, direction: Direction, near: Network | None, far: Network | None
    ) -> Verdict:
        """Return one of the two decisions; *near* is the network whose wall is asked about."""
        for policy, source, destination in self._policies:
            if (
                policy.direction.covers(direction)
                and speaks_of(policy, packet)
                and self._selects(source, packet.source)
                and self._selects(destination, packet.destination)
            ):
                is_allowed = policy.action is Action.ALLOW
                return Verdict(is_allowed, policy.reason or f"policy {policy.name}", policy)
        if near is not None and far is not None and near.isolated:
            what = "leaves" if direction is Direction.EGRESS else "enters"
            return Verdict(
                is_allowed=False,
                reason=f"no policy for what {what} network {near.name}, which is isolated",
            )
        outside = near is None or far is None
        reason = "one end is outside of all networks" if outside else "both networks are open"
        return Verdict(is_allowed=True, reason=reason)

    def _selects(self, selector: Selector, address: IPAddress) -> bool:
        if isinstance(selector, Label | App):
            return any(selector.matches(task) for task in self._tasks.get(address, ()))
        return any(
            address in prefix
            for prefix in prefixes_of(selector, self._view)
            if prefix.version == address.version
        )


def allowed(view: View, packet: Packet) -> Verdict:
    """Return what the policies of *view* say of one packet."""
    return Evaluator(view).allowed(packet)


def precedence(policy: Policy) -> tuple[int, int, str]:
    """Return the sort key of the order of asking: tier, denials before allowances, name."""
    return policy.tier.rank, int(policy.action is Action.ALLOW), policy.name


def speaks_of(policy: Policy, packet: Packet) -> bool:
    """Tell whether protocol and port of *packet* are among those of *policy*."""
    number = policy.protocol.number
    if number is not None and number != packet.protocol:
        return False
    if not policy.protocol.has_ports:
        return True
    return any(first <= packet.port <= last for first, last in policy.port_ranges)


def _selector(text: str) -> Selector | None:
    try:
        return parse_selector(text)
    except ValueError:
        return None  # written by another version: it selects nothing
