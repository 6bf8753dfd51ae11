"""The facts of a cluster, one frozen object each; together they are the View.

An object's *key* is unique among its kind. Each object is also a record of the
feed, tagged with its kind, so what a plane holds is what travelled.
"""

import enum
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import ClassVar

import msgspec

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# A node's address inside the tunnels of IPv6: its underlay address below this prefix.
NODES6 = IPv6Network("fd01:a::/96")


class Protocol(enum.StrEnum):
    """A transport protocol that VIPs and policies know."""

    TCP = "tcp"
    UDP = "udp"

    @property
    def number(self) -> int:
        """Return its number in an IP header (IANA protocol numbers)."""
        return 6 if self is Protocol.TCP else 17


ALL_PORTS = (0, 65535)


class Traffic(enum.StrEnum):
    """What a policy speaks of, by the protocol in the IP header."""

    ANY = "any"
    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"
    ICMP = "icmp"
    ICMPV6 = "icmpv6"

    @property
    def number(self) -> int | None:
        """Return its number in an IP header (IANA protocol numbers); None for any."""
        return _NUMBERS.get(self.value)

    @property
    def has_ports(self) -> bool:
        """Tell whether its packets carry port numbers."""
        return self in (Traffic.TCP, Traffic.UDP, Traffic.SCTP)


_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}


class Tier(enum.StrEnum):
    """Who speaks in a policy; a tier decides before those after it are asked."""

    CLUSTER = "cluster"  # the cluster's administrator
    NETWORK = "network"  # a network's owner

    @property
    def rank(self) -> int:
        """Return the place in the order of asking, 0 first."""
        return 0 if self is Tier.CLUSTER else 1


class Action(enum.StrEnum):
    """What a policy does with what it speaks of."""

    ALLOW = "allow"
    DENY = "deny"


class Direction(enum.StrEnum):
    """Which of the two decisions about a flow a policy speaks in."""

    BOTH = "both"
    EGRESS = "egress"  # whether it may leave its source
    INGRESS = "ingress"  # whether it may come to its destination

    def covers(self, other: "Direction") -> bool:
        """Tell whether a policy of this direction speaks in the decision *other*."""
        return self in (Direction.BOTH, other)


class Liveness(enum.StrEnum):
    """What the leading master thinks of a node's agent."""

    ALIVE = "alive"
    SUSPECT = "suspect"  # silent for 2.5 s, two heartbeats missed
    UNREACHABLE = "unreachable"  # silent for 75 s: its tasks are unreachable or lost

    @classmethod
    def _missing_(cls, value: object) -> "Liveness | None":
        """Return what a word of a later version counts as: nobody is sent there."""
        return cls.SUSPECT if isinstance(value, str) else None


class TaskPhase(enum.StrEnum):
    """A task's state as far as networking cares; a terminal task is not in the View."""

    PREPARING = "preparing"
    RUNNING = "running"
    KILLING = "killing"
    UNREACHABLE = "unreachable"

    @classmethod
    def _missing_(cls, value: object) -> "TaskPhase | None":
        """Return what a word of a later version counts as: nobody is sent there."""
        return cls.PREPARING if isinstance(value, str) else None


class Node(msgspec.Struct, frozen=True, tag="node", tag_field="kind"):
    """A machine in the cluster, master or agent, by its underlay address."""

    kind: ClassVar[str] = "node"

    address: IPv4Address
    hostname: str
    is_master: bool = False
    is_leader: bool = False
    agent_id: str | None = None  # None on a node without an agent
    port: int = 0  # where its agent listens, or its master on a node without an agent
    liveness: Liveness = Liveness.ALIVE

    @property
    def key(self) -> str:
        """Return the underlay address."""
        return str(self.address)

    @property
    def address6(self) -> IPv6Address:
        """Return the address that IPv6 containers know the node by."""
        return node6(self.address)


class Network(msgspec.Struct, frozen=True, tag="network", tag_field="kind"):
    """A virtual network, of IPv4, IPv6 or both."""

    kind: ClassVar[str] = "network"

    name: str
    subnet: IPv4Network | None
    prefix: int  # length of the IPv4 subnet that each agent is leased
    vni: int
    mtu: int
    isolated: bool = True  # walled off from the other networks unless a policy allows
    subnet6: IPv6Network | None = None
    prefix6: int = 0  # length of the IPv6 subnet that each agent is leased

    @property
    def key(self) -> str:
        """Return the name."""
        return self.name

    @property
    def subnets(self) -> tuple[IPNetwork, ...]:
        """Return the prefixes that it has, IPv4 first."""
        return tuple(each for each in (self.subnet, self.subnet6) if each is not None)


class SubnetLease(msgspec.Struct, frozen=True, tag="subnet", tag_field="kind"):
    """The part of a network that one agent node gives to its containers."""

    kind: ClassVar[str] = "subnet"

    network: str
    node: IPv4Address
    subnet: IPv4Network | None
    subnet6: IPv6Network | None = None

    @property
    def key(self) -> str:
        """Return network and node."""
        return f"{self.network}/{self.node}"

    @property
    def subnets(self) -> tuple[IPNetwork, ...]:
        """Return the prefixes that it has, IPv4 first."""
        return tuple(each for each in (self.subnet, self.subnet6) if each is not None)

    @property
    def gateway(self) -> IPv4Address | None:
        """Return the IPv4 address of the node's bridge: the first of the subnet."""
        return None if self.subnet is None else self.subnet[1]

    @property
    def gateway6(self) -> IPv6Address | None:
        """Return the IPv6 address of the node's bridge: the first of the subnet."""
        return None if self.subnet6 is None else self.subnet6[1]


class Framework(msgspec.Struct, frozen=True, tag="framework", tag_field="kind"):
    """A framework that has tasks or a connection."""

    kind: ClassVar[str] = "framework"

    id: str
    name: str
    hostname: str = ""
    webui_url: str = ""

    @property
    def key(self) -> str:
        """Return the id."""
        return self.id


class TaskPort(msgspec.Struct, frozen=True):
    """A port that a task announces in its DiscoveryInfo."""

    number: int
    name: str = ""
    protocol: str = "tcp"
    labels: tuple[tuple[str, str], ...] = ()


class HostPort(msgspec.Struct, frozen=True):
    """A port of the node that leads to a port of the container."""

    host_port: int
    container_port: int
    protocol: str = "tcp"


class Task(msgspec.Struct, frozen=True, tag="task", tag_field="kind"):
    """A task that is not over."""

    kind: ClassVar[str] = "task"

    framework_id: str
    id: str
    name: str
    agent_id: str
    node: IPv4Address
    phase: TaskPhase
    is_checked: bool = False  # a health check is declared
    healthy: bool | None = None  # the latest verdict; None until there is one
    addresses: tuple[IPv4Address, ...] = ()  # of the container; the node's own on host network
    networks: tuple[str, ...] = ()  # by position like addresses; empty on host network
    addresses6: tuple[IPv6Address, ...] = ()
    networks6: tuple[str, ...] = ()  # by position like addresses6
    discovery_name: str = ""
    ports: tuple[TaskPort, ...] = ()
    host_ports: tuple[HostPort, ...] = ()  # port mappings
    port_resources: tuple[tuple[int, int], ...] = ()  # ranges of the node's ports it holds
    labels: tuple[tuple[str, str], ...] = ()  # of the task itself, as its framework gave them

    @property
    def key(self) -> str:
        """Return framework and task id."""
        return f"{self.framework_id}/{self.id}"

    @property
    def is_on_host_network(self) -> bool:
        """Tell whether the task shares the node's addresses."""
        return not self.networks and not self.networks6

    @property
    def attached(self) -> Iterator[tuple[str, IPAddress]]:
        """Yield each network that the container is attached to, with its address there."""
        yield from zip(self.networks, self.addresses, strict=False)
        yield from zip(self.networks6, self.addresses6, strict=False)


class VipLease(msgspec.Struct, frozen=True, tag="vip", tag_field="kind"):
    """The addresses of a named VIP; *name* is canonical, like ``web.marathon``.

    Both are leased with the name; the one of a family that no backend has
    leads nowhere and is not in DNS.
    """

    kind: ClassVar[str] = "vip"

    name: str
    address: IPv4Address
    address6: IPv6Address | None = None

    @property
    def key(self) -> str:
        """Return the name."""
        return self.name


class Policy(msgspec.Struct, frozen=True, tag="policy", tag_field="kind"):
    """Flows that may pass, or may not.

    *first_port* and *last_port* are the only range of a policy that a version
    without *ports* wrote.
    """

    kind: ClassVar[str] = "policy"

    name: str
    source: str  # a selector, see net/model/selector.py
    destination: str  # likewise
    protocol: Traffic
    first_port: int = 0
    last_port: int = 0
    reason: str = ""
    tier: Tier = Tier.NETWORK
    action: Action = Action.ALLOW
    direction: Direction = Direction.BOTH
    ports: tuple[tuple[int, int], ...] = ()  # first and last, both included; none for all

    @property
    def key(self) -> str:
        """Return the name."""
        return self.name

    @property
    def port_ranges(self) -> tuple[tuple[int, int], ...]:
        """Return the ranges of destination ports, one of all ports when none is named."""
        if self.ports:
            return self.ports
        return ((self.first_port, self.last_port) if self.last_port else ALL_PORTS,)


Object = Node | Network | SubnetLease | Framework | Task | VipLease | Policy


def node6(address: IPv4Address) -> IPv6Address:
    """Return the IPv6 address of the node with the underlay address *address*."""
    return NODES6[int(address)]
