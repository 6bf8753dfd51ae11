"""What a load balancer holds: services by VIP, each with its weighted backends; pure."""

from collections.abc import Iterable
from ipaddress import IPv4Address

import msgspec

from phalanx.net.model.objects import Protocol


class Vip(msgspec.Struct, frozen=True, order=True):
    """A virtual address, port and protocol that clients connect to."""

    address: IPv4Address
    port: int
    protocol: Protocol = Protocol.TCP

    def __str__(self) -> str:
        return f"{self.address}:{self.port}/{self.protocol}"


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """An address and port that a task listens on."""

    address: IPv4Address
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


class Backend(msgspec.Struct, frozen=True, order=True):
    """An endpoint behind a VIP; with weight 0 it gets no new connections and keeps its old."""

    address: IPv4Address
    port: int
    weight: int = 1

    @property
    def endpoint(self) -> Endpoint:
        """Return where it listens."""
        return Endpoint(self.address, self.port)


class Service(msgspec.Struct, frozen=True):
    """The backends of a VIP, sorted, one for each endpoint.

    Without a backend of weight above 0 it refuses new connections. A data
    plane that finds a service damaged reports it with *is_whole* False, so
    that it equals no desired one.
    """

    backends: tuple[Backend, ...] = ()
    is_whole: bool = True

    @classmethod
    def of(cls, backends: Iterable[Backend]) -> "Service":
        """Return the service of *backends*; of two for one endpoint the heavier counts."""
        weights: dict[tuple[IPv4Address, int], Backend] = {}
        for backend in backends:
            known = weights.get((backend.address, backend.port))
            if known is None or known.weight < backend.weight:
                weights[backend.address, backend.port] = backend
        return cls(tuple(sorted(weights.values())))
