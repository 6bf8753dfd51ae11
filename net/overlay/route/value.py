"""What a route of ours is: where to, and by which of three ways."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network


@dataclass(frozen=True, slots=True, order=True)
class RouteKey:
    """What the kernel tells routes apart by."""

    table: int
    destination: IPv4Network
    metric: int = 0

    def __str__(self) -> str:
        return f"{self.destination} table {self.table}"


@dataclass(frozen=True, slots=True)
class TunnelRoute:
    """Into the VXLAN link, to the node *remote*; *source* is ours, outside and inside."""

    remote: IPv4Address
    vni: int
    source: IPv4Address


@dataclass(frozen=True, slots=True)
class LocalRoute:
    """To this node itself; *source* is what its own connections leave from."""

    source: IPv4Address


@dataclass(frozen=True, slots=True)
class UnreachableRoute:
    """To nowhere, and the sender is told."""


@dataclass(frozen=True, slots=True)
class UnknownRoute:
    """A route that carries our mark but has a form we never make."""

    form: str


Route = TunnelRoute | LocalRoute | UnreachableRoute | UnknownRoute
