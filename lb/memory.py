"""Services in memory: the twin that tests and other data planes are measured against."""

from collections.abc import Mapping

from phalanx.core.reconcile.delta import Delta
from phalanx.lb.service import Service, Vip


class MemoryServices:
    """A Dataplane that behaves like the kernel's; the same tests run on both."""

    name = "services"

    def __init__(self) -> None:
        self._services: dict[Vip, Service] = {}

    async def read(self) -> Mapping[Vip, Service]:
        """Return a copy of the services."""
        return dict(self._services)

    async def apply(self, change: Delta[Vip, Service]) -> None:
        """Remove, then upsert."""
        for vip in change.removals:
            self._services.pop(vip, None)
        self._services.update(change.upserts)
