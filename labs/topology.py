"""What a lab consists of: segments, nodes, and who sits where."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from phalanx.core.error import ConfigError

UNDERLAY = IPv4Network("198.18.0.0/15")
ROUTER = "r1"
DEFAULT_RESOURCES = "cpus:4;mem:4096;disk:4096;ports:[31000-32000]"
SEGMENT_NAME = re.compile(r"s[1-9][0-9]{0,3}")
NODE_NAME = re.compile(r"[mac][1-9][0-9]{0,2}")


class Role(StrEnum):
    """What a node is for."""

    MASTER = "master"
    AGENT = "agent"
    CLIENT = "client"


# A node's name begins with its role's letter; its address, unless given, is the
# segment's first plus this offset plus the number in the name: a1 is always .101.
LETTERS: Mapping[str, Role] = {"m": Role.MASTER, "a": Role.AGENT, "c": Role.CLIENT}
OFFSETS: Mapping[Role, int] = {Role.MASTER: 10, Role.AGENT: 100, Role.CLIENT: 200}


@dataclass(frozen=True, slots=True)
class Segment:
    """One L2 segment of the underlay; the router has its first address."""

    name: str
    subnet: IPv4Network

    @property
    def gateway(self) -> IPv4Address:
        """Return the router's address in this segment."""
        return self.subnet.network_address + 1


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the lab."""

    name: str
    role: Role
    segment: str
    address: IPv4Address
    resources: str = DEFAULT_RESOURCES

    @property
    def number(self) -> int:
        """Return the number in the node's name."""
        return int(self.name[1:])


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab, as it is to be."""

    segments: tuple[Segment, ...]
    nodes: tuple[Node, ...]
    zookeeper: bool = False

    def with_role(self, role: Role) -> tuple[Node, ...]:
        """Return the nodes of one role, in order."""
        return tuple(node for node in self.nodes if node.role is role)

    @property
    def masters(self) -> tuple[Node, ...]:
        """Return the master nodes."""
        return self.with_role(Role.MASTER)

    @property
    def agents(self) -> tuple[Node, ...]:
        """Return the agent nodes."""
        return self.with_role(Role.AGENT)

    def node(self, name: str) -> Node:
        """Return the node called *name*; raise ConfigError naming those there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise ConfigError(f"node: {name!r}: is none of {known}")

    def segment(self, name: str) -> Segment:
        """Return the segment called *name*; raise ConfigError naming those there are."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        known = ", ".join(segment.name for segment in self.segments)
        raise ConfigError(f"segment: {name!r}: is none of {known}")


DEFAULT_SEGMENTS = (
    Segment("s1", IPv4Network("198.18.0.0/24")),
    Segment("s2", IPv4Network("198.18.1.0/24")),
)


def place_node(
    name: str,
    segment: Segment,
    *,
    address: IPv4Address | None = None,
    resources: str = DEFAULT_RESOURCES,
) -> Node:
    """Return the node *name* in *segment*; its name says its role and its default address."""
    if not NODE_NAME.fullmatch(name):
        raise ConfigError(f"node: {name!r}: is not m, a or c with a number from 1 to 999")
    role = LETTERS[name[0]]
    if address is None:
        address = segment.subnet.network_address + OFFSETS[role] + int(name[1:])
    return Node(name, role, segment.name, address, resources)


def spread(
    *, masters: int = 1, agents: int = 2, clients: int = 1, zookeeper: bool = False
) -> Topology:
    """Return a topology on two segments, the nodes of each role alternating between them."""
    names = [
        f"{letter}{number}"
        for letter, count in (("m", masters), ("a", agents), ("c", clients))
        for number in range(1, count + 1)
    ]
    nodes = (
        place_node(name, DEFAULT_SEGMENTS[(int(name[1:]) - 1) % len(DEFAULT_SEGMENTS)])
        for name in names
    )
    return check(Topology(DEFAULT_SEGMENTS, tuple(nodes), zookeeper))


def check(topology: Topology) -> Topology:
    """Return *topology* unchanged; raise ConfigError for the first thing that can't be built."""
    _check_segments(topology.segments)
    if not topology.masters:
        raise ConfigError("masters: 0: a lab needs at least one")
    if len(topology.masters) > 1 and not topology.zookeeper:
        raise ConfigError(f"masters: {len(topology.masters)}: more than one need --zk to elect")
    seen: dict[object, str] = {segment.gateway: ROUTER for segment in topology.segments}
    for node in topology.nodes:
        subnet = topology.segment(node.segment).subnet
        edges = (subnet.network_address, subnet.broadcast_address)
        if node.address not in subnet or node.address in edges:
            raise ConfigError(
                f"{node.name}: address: {node.address}: is no host address of {subnet}"
            )
        for key in (node.name, node.address):
            if key in seen:
                raise ConfigError(f"{node.name}: {key}: is {seen[key]}'s already")
            seen[key] = node.name
    return topology


def _check_segments(segments: Sequence[Segment]) -> None:
    if not segments:
        raise ConfigError("segments: a lab needs at least one")
    for index, segment in enumerate(segments):
        if not SEGMENT_NAME.fullmatch(segment.name):
            raise ConfigError(f"segment: {segment.name!r}: is not s with a number")
        if not segment.subnet.subnet_of(UNDERLAY):
            raise ConfigError(f"{segment.name}: subnet: {segment.subnet}: is not in {UNDERLAY}")
        if segment.subnet.prefixlen > 29:
            raise ConfigError(f"{segment.name}: subnet: {segment.subnet}: is smaller than a /29")
        for other in segments[:index]:
            if segment.name == other.name or segment.subnet.overlaps(other.subnet):
                raise ConfigError(f"{segment.name}: {segment.subnet}: collides with {other.name}")


def parse_address(key: str, text: object) -> IPv4Address:
    """Return an IPv4 address; raise ConfigError naming *key* and the value."""
    try:
        return IPv4Address(text if isinstance(text, str) else repr(text))
    except AddressValueError as error:
        raise ConfigError(f"{key}: {text!r}: is not an IPv4 address") from error
