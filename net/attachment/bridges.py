"""The bridges of a node's networks as a Dataplane."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from phalanx.core.error import ConflictError, DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.attachment.bridge import Bridge, bridge_name
from phalanx.net.attachment.kernel import KernelLinks

T = TypeVar("T")


class KernelBridges:
    """A Dataplane of our bridges, by VNI; a bridge is removed only when no port is left on it."""

    name = "bridges"

    def __init__(self, links: KernelLinks) -> None:
        self._links = links

    async def read(self) -> Mapping[int, Bridge]:
        """Dump the bridges that are ours by their names."""
        return await self._in_thread(self._links.bridges)

    async def apply(self, change: Delta[int, Bridge]) -> None:
        """Upsert, then remove; a refused bridge does not hold up the others."""
        refusals: list[str] = []
        for bridge in change.upserts.values():
            await self._try(partial(self._links.repair_bridge, bridge), refusals)
        for vni in change.removals:
            await self._try(partial(self._links.remove_bridge, bridge_name(vni)), refusals)
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)

    async def _try(self, function: Callable[[], None], refusals: list[str]) -> None:
        try:
            await self._in_thread(function)
        except (ConflictError, DataplaneError) as error:
            refusals.append(str(error))

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._links.thread, function)
