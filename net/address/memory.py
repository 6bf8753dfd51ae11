"""Service addresses in memory."""

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta


class MemoryAddresses:
    """A Dataplane that behaves like KernelAddresses; *foreign* are on lo without our label."""

    name = "addresses"

    def __init__(self, *, foreign: Collection[IPv4Address] = ()) -> None:
        self._foreign = frozenset(foreign)
        self._addresses: set[IPv4Address] = set()

    async def read(self) -> Mapping[IPv4Address, None]:
        """Return the addresses."""
        return dict.fromkeys(self._addresses)

    async def apply(self, change: Delta[IPv4Address, None]) -> None:
        """Remove, then add; a refused address does not hold up the others."""
        self._addresses -= change.removals
        self._addresses |= change.upserts.keys() - self._foreign
        refused = sorted(change.upserts.keys() & self._foreign)
        if refused:
            refusals = [f"{address}: there is one on lo that is not ours" for address in refused]
            raise DataplaneError("; ".join(refusals), table=self.name)
