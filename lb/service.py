"""What a load balancer holds: services by VIP, each with its weighted backends; pure."""

import enum
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import msgspec

from phalanx.net.model.objects import Protocol

IPAddress = IPv4Address | IPv6Address


class Scheduler(enum.StrEnum):
    """How a backend is chosen for a new connection; the names are those of the kernel's IPVS.

    nftables draws by weight, whatever the scheduler.
    """

    WLC = "wlc"  # least connections for its weight
    RR = "rr"  # one after the other
    SH = "sh"  # by a hash of the source address
    MH = "mh"  # the same, and a backend that leaves moves few others' clients


# Hundreds of thousands of these are made at a start, and none can be part of a cycle: gc=False.
class Vip(msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False):
    """A virtual address, port and protocol that clients connect to."""

    address: IPAddress
    port: int
    protocol: Protocol = Protocol.TCP

    def __str__(self) -> str:
        return f"{spell(self.address)}:{self.port}/{self.protocol}"


class Endpoint(msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False):
    """An address and port that a task listens on."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        return f"{spell(self.address)}:{self.port}"


class Backend(msgspec.Struct, frozen=True, order=True, gc=False):
    """An endpoint behind a VIP; with weight 0 it gets no new connections and keeps its old."""

    address: IPAddress
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
    that it equals no desired one. With *affinity_seconds* above 0 a source
    keeps its backend that long after its last connection.
    """

    backends: tuple[Backend, ...] = ()
    is_whole: bool = True
    scheduler: Scheduler = Scheduler.WLC
    affinity_seconds: int = 0

    @property
    def is_refused(self) -> bool:
        """Tell whether no backend may have new connections."""
        return not any(backend.weight > 0 for backend in self.backends)

    @classmethod
    def of(cls, backends: Iterable[Backend]) -> "Service":
        """Return the service of *backends*; of two for one endpoint the heavier counts."""
        weights: dict[tuple[IPAddress, int], Backend] = {}
        for backend in backends:
            known = weights.get((backend.address, backend.port))
            if known is None or known.weight < backend.weight:
                weights[backend.address, backend.port] = backend
        return cls(in_order(weights.values()))


def in_order(backends: Iterable[Backend]) -> tuple[Backend, ...]:
    """Return backends, one for each endpoint, by address and port."""
    # Numbers: addresses compare themselves in Python, ten times slower.
    return tuple(sorted(backends, key=lambda each: (int(each.address), each.port)))


def spell(address: IPAddress) -> str:
    """Return an address as it stands before a colon and a port."""
    return f"[{address}]" if address.version == 6 else str(address)
