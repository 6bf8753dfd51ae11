"""What a table that this node owns looks like to the loop that keeps it right."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from phalanx.core.reconcile.delta import Delta

K = TypeVar("K")
V = TypeVar("V")


class Dataplane(Protocol[K, V]):
    """One table that this node owns: routes, LB services, an nftables set."""

    name: str

    async def read(self) -> Mapping[K, V]:
        """Return what is there now and is ours; never what we remember writing."""
        ...

    async def apply(self, change: Delta[K, V]) -> None:
        """Make the change; raise DataplaneError if any part of it failed."""
        ...
