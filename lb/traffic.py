"""What the kernel counted, whichever data plane asked it."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from phalanx.lb.exec import Flows
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


class ReadTraffic(Protocol):
    """What asks the kernel for its counters."""

    async def __call__(self, *, with_open: bool = False) -> Traffic:
        """Return them, *with_open* also how many connections are open; raise DataplaneError.

        That may cost a look at all flows of the node: ask for it when somebody wants to know.
        """
        ...


def traffic_of_ipvs(services: IpvsServices) -> ReadTraffic:
    """Return what asks IPVS for its counters; they end with the backend."""

    async def read(*, with_open: bool = False) -> Traffic:
        return {
            (vip, each.backend.endpoint): Counted(
                each.connections, each.active, each.bytes_in, each.bytes_out
            )
            for vip, kept in (await services.traffic()).items()
            for each in kept.destinations
        }

    return read


def traffic_of_nftables(table: NftablesTraffic, flows: Flows) -> ReadTraffic:
    """Return what asks the counting table, and tracked flows for what is open."""

    async def read(*, with_open: bool = False) -> Traffic:
        counted = await table.connections()
        active = await flows.count_open() if with_open else None
        sent, answered = await table.volumes() if table.has_bytes else ({}, {})
        return {
            key: Counted(
                counted.get(key, 0),
                None if active is None else active.get(key, 0),
                sent.get(key, 0) if table.has_bytes else None,
                answered.get(key, 0) if table.has_bytes else None,
            )
            for key in (counted if active is None else counted.keys() | active.keys())
        }

    return read


async def no_traffic(*, with_open: bool = False) -> Traffic:
    """Return nothing: nobody counts."""
    return {}
