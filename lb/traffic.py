"""What the kernel counted, whichever data plane asked it."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.nftables.traffic import NftablesTraffic
from phalanx.lb.service import Endpoint, Vip


class Counted(msgspec.Struct, frozen=True):
    """What went from a VIP to a backend on this node; None is not counted by the data plane."""

    connections: int  # begun since the backend is known
    active: int | None = None  # open now
    bytes_in: int | None = None
    bytes_out: int | None = None


Traffic = Mapping[tuple[Vip, Endpoint], Counted]
ReadTraffic = Callable[[], Awaitable[Traffic]]


def traffic_of_ipvs(services: IpvsServices) -> ReadTraffic:
    """Return what asks IPVS for its counters; they end with the backend."""

    async def read() -> Traffic:
        return {
            (vip, each.backend.endpoint): Counted(
                each.connections, each.active, each.bytes_in, each.bytes_out
            )
            for vip, kept in (await services.traffic()).items()
            for each in kept.destinations
        }

    return read


def traffic_of_nftables(table: NftablesTraffic) -> ReadTraffic:
    """Return what asks the counting table."""

    async def read() -> Traffic:
        counted = await table.connections()
        return {key: Counted(connections) for key, connections in counted.items()}

    return read


async def no_traffic() -> Traffic:
    """Return nothing: nobody counts."""
    return {}
