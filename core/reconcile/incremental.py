"""The reconcile pass of a table so large that a change of its input must not cost a whole one."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import structlog

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.dataplane import Dataplane
from phalanx.core.reconcile.delta import Delta, delta

log = structlog.get_logger()

S = TypeVar("S")
K = TypeVar("K")
V = TypeVar("V")


class IncrementalReconciler(Generic[S, K, V]):
    """Makes of a change of its input only what follows from it; otherwise like a Reconciler.

    *state* returns the input, None before the first; *desired* what the table
    holds for it; *changed* what leads from one input to another, None where
    only the whole can tell. *desired* must be pure: it is called in another thread,
    for all of a large table would keep the event loop for long. The table is
    read back in each resync, after a failure and at first; between those it is
    trusted while *is_known* says that nobody else changed it. Whoever can't
    tell must be told of drift and ask for a resync. *changed* must be pure, too: while *aside* says
    that its input may differ in much, it is called in another thread.
    """

    def __init__(
        self,
        dataplane: Dataplane[K, V],
        state: Callable[[], S | None],
        desired: Callable[[S], Mapping[K, V]],
        changed: Callable[[S, S], Delta[K, V] | None],
        *,
        is_known: Callable[[], bool] = lambda: True,
        aside: Callable[[], bool] = lambda: False,
    ) -> None:
        self._dataplane = dataplane
        self._state = state
        self._desired = desired
        self._changed = changed
        self._is_known = is_known
        self._aside = aside
        self._held: S | None = None  # the input that the table held after the last pass

    @property
    def name(self) -> str:
        """Return the name of the dataplane."""
        return self._dataplane.name

    @property
    def held(self) -> S | None:
        """Return the input of the last pass if it succeeded, None before the first."""
        return self._held

    async def reconcile_once(self, *, resync: bool = True) -> bool:
        """Make one pass; return whether the dataplane now holds the desired state."""
        state, held = self._state(), self._held
        if state is None or (not resync and state is held):
            return True
        self._held = None
        change: Delta[K, V] | None = None
        if not resync and held is not None and self._is_known():
            if self._aside():
                change = await asyncio.to_thread(self._changed, held, state)
            else:
                change = self._changed(held, state)
        is_whole = change is None
        try:
            if change is None:
                actual = await self._dataplane.read()
                change = await asyncio.to_thread(lambda: delta(self._desired(state), actual))
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
        if not is_whole and not self._is_known():
            return False  # somebody else came between: the next pass reads what is there
        self._held = state
        return True
