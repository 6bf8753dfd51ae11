"""Service addresses in memory."""

from collections.abc import Collection, Mapping

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.model.objects import IPAddress


class MemoryAddresses:
    """A Dataplane that behaves like KernelAddresses; *foreign* are on lo without our label."""

    name = "addresses"

    def __init__(self, *, foreign: Collection[IPAddress] = ()) -> None:
        self._foreign = frozenset(foreign)
        self._addresses: set[IPAddress] = set()

    async def read(self) -> Mapping[IPAddress, None]:
        """Return the addresses."""
        return dict.fromkeys(self._addresses)

    async def apply(self, change: Delta[IPAddress, None]) -> None:
        """Remove, then add; a refused address does not hold up the others."""
        self._addresses -= change.removals
        self._addresses |= change.upserts.keys() - self._foreign
        refused = sorted(map(str, change.upserts.keys() & self._foreign))
        if refused:
            refusals = [f"{address}: there is one on lo that is not ours" for address in refused]
            raise DataplaneError("; ".join(refusals), table=self.name)
