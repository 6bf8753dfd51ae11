"""Routing rules in memory."""

from collections.abc import Mapping
from ipaddress import IPv4Network

from phalanx.core.reconcile.delta import Delta


class MemoryRules:
    """A Dataplane that behaves like KernelRules."""

    name = "rules"

    def __init__(self) -> None:
        self._sources: set[IPv4Network] = set()

    async def read(self) -> Mapping[IPv4Network, None]:
        """Return the sources."""
        return dict.fromkeys(self._sources)

    async def apply(self, change: Delta[IPv4Network, None]) -> None:
        """Remove, then add."""
        self._sources -= change.removals
        self._sources |= change.upserts.keys()
