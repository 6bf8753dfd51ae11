"""What the data plane that is not in use left behind, on a node that has changed ``--lb``."""

from collections.abc import Awaitable, Callable, Mapping

from phalanx.core.reconcile.delta import Delta
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.nftables.ruleset import NAME, TABLE
from phalanx.net.nft.library import Nft
from phalanx.net.nft.structure import read_structure


class Leftovers:
    """A Dataplane of one element at most, whose desired state is empty: the other's services.

    It comes after the services in use: these are in place when the others go.
    """

    name = "services_left_behind"

    def __init__(
        self,
        kind: str,
        is_there: Callable[[], Awaitable[bool]],
        clear: Callable[[], Awaitable[None]],
    ) -> None:
        self._kind = kind
        self._is_there = is_there
        self._clear = clear

    async def read(self) -> Mapping[str, None]:
        """Return the name of the other data plane if there is anything of it."""
        return {self._kind: None} if await self._is_there() else {}

    async def apply(self, change: Delta[str, None]) -> None:
        """Remove all of it."""
        if self._kind in change.removals:
            await self._clear()


def leftovers_of_ipvs(services: IpvsServices) -> Leftovers:
    """Return what IPVS left behind."""
    return Leftovers("ipvs", services.is_there, services.clear)


def leftovers_of_nftables(nft: Nft) -> Leftovers:
    """Return what nftables left behind; its tracked connections go on."""

    async def is_there() -> bool:
        return await nft.open(lambda: read_structure(NAME)) is not None

    async def clear() -> None:
        await nft.run(f"delete table {TABLE}\n", table=Leftovers.name)

    return Leftovers("nftables", is_there, clear)
