"""The loop that keeps one dataplane at its desired state."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import structlog

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.dataplane import Dataplane
from phalanx.core.reconcile.delta import delta

log = structlog.get_logger()

K = TypeVar("K")
V = TypeVar("V")


class Table(Protocol):
    """What a row of tables, reconciled one after the other, asks of each."""

    @property
    def name(self) -> str:
        """Return the name of the dataplane."""
        ...

    async def reconcile_once(self, *, resync: bool) -> bool:
        """Make one pass; return whether the dataplane now holds the desired state."""
        ...


class Reconciler(Generic[K, V]):
    """Bring one dataplane to the desired state, on every poke and every resync.

    The desired state is asked for anew each time, so a burst of pokes costs
    one pass, a lost event costs one resync interval, and a restart needs no
    memory. Until *desired* has a first answer it returns None, and nothing is
    touched: a sweep before that would remove what we had not heard of yet.
    """

    def __init__(
        self,
        dataplane: Dataplane[K, V],
        desired: Callable[[], Mapping[K, V] | None],
        *,
        resync: float = 30.0,
        retry: float = 1.0,
    ) -> None:
        self._dataplane = dataplane
        self._desired = desired
        self._resync = resync
        self._retry = retry
        self._poked = asyncio.Event()
        self._settled: Mapping[K, V] | None = None

    @property
    def name(self) -> str:
        """Return the name of the dataplane."""
        return self._dataplane.name

    @property
    def settled(self) -> Mapping[K, V] | None:
        """Return the desired state of the last pass that succeeded, None before the first."""
        return self._settled

    def poke(self) -> None:
        """Ask for a pass soon; cheap, never blocks, safe to call in a burst."""
        self._poked.set()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        while True:
            self._poked.clear()
            ok = await self.reconcile_once()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._resync if ok else self._retry):
                    await self._poked.wait()

    async def reconcile_once(self, *, resync: bool = True) -> bool:
        """Make one pass; return whether the dataplane now holds the desired state.

        Without *resync* a desired state that the last good pass already had is
        taken as held, and the dataplane is not read.
        """
        desired = self._desired()
        if desired is None or (not resync and desired == self._settled):
            return True
        self._settled = None
        try:
            change = delta(desired, await self._dataplane.read())
            if change:
                await self._dataplane.apply(change)
        except DataplaneError as error:
            log.warning("reconcile_failed", table=self.name, error=str(error))
            return False
        if change:
            log.info(
                "reconciled",
                table=self.name,
                upserts=len(change.upserts),
                removals=len(change.removals),
            )
        self._settled = desired
        return True
