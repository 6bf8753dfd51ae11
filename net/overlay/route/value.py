"""What a route of ours is: where to, and by which of three ways."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from phalanx.net.model.objects import IPAddress, IPNetwork


@dataclass(frozen=True, slots=True)
class RouteKey:
    """What the kernel tells routes apart by; IPv6 has no metric 0."""

    table: int
    destination: IPNetwork
    metric: int = 0

    def __str__(self) -> str:
        return f"{self.destination} table {self.table}"

    @property
    def place(self) -> tuple[int, int, int, int, int]:
        """Return what sorts keys: wide prefixes first, IPv4 before IPv6."""
        to = self.destination
        return (to.version, to.prefixlen, self.table, int(to.network_address), self.metric)


@dataclass(frozen=True, slots=True)
class TunnelRoute:
    """Into the VXLAN link, to the node *remote*; *source* is ours, outside and inside.

    Inside a tunnel of IPv6 it is our node's IPv6 address (``node6``).
    """

    remote: IPv4Address
    vni: int
    source: IPv4Address


@dataclass(frozen=True, slots=True)
class LocalRoute:
    """To this node itself; *source* is what its own connections leave from."""

    source: IPAddress


@dataclass(frozen=True, slots=True)
class UnreachableRoute:
    """To nowhere, and the sender is told."""


@dataclass(frozen=True, slots=True)
class UnknownRoute:
    """A route that carries our mark but has a form we never make."""

    form: str


Route = TunnelRoute | LocalRoute | UnreachableRoute | UnknownRoute
