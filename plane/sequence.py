"""All tables of a node, brought to their desired state in one fixed order."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from phalanx.core.reconcile.reconciler import Table

log = structlog.get_logger()

RETRY_SECONDS = 1.0


class TableSequence:
    """Reconciles tables one after the other, in the order given, on every poke and resync.

    A table that fails does not hold up the ones after it; the sequence is
    tried again soon. *begin* is called before each pass, so that all tables of
    a pass see one View; *done* after it, with the outcome of each table; what fails there
    is tried again, too.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        *,
        begin: Callable[[], Awaitable[None]],
        done: Callable[[Mapping[str, bool]], Awaitable[None]],
        resync_seconds: float,
        registry: CollectorRegistry,
    ) -> None:
        self._tables = tables
        self._begin = begin
        self._done = done
        self._resync_seconds = resync_seconds
        self._poked = asyncio.Event()
        self._is_resync_due = True
        self._suspects: set[str] = set()  # tables that somebody else may have changed
        self._failures = Counter(
            "phalanx_plane_reconcile_failures_total",
            "passes that left a table other than desired",
            ["table"],
            registry=registry,
        )
        self._seconds = Histogram(
            "phalanx_plane_reconcile_seconds", "time of one pass over all tables", registry=registry
        )

    def poke(self) -> None:
        """Ask for a pass soon."""
        self._poked.set()

    def suspect(self, names: Iterable[str]) -> None:
        """Ask for a pass soon that reads these tables back; every one for a name of none."""
        self._suspects.update(names)
        self._is_resync_due |= not self._suspects <= {table.name for table in self._tables}
        self._poked.set()

    async def run(self) -> None:
        """Reconcile until cancelled: what changed on each poke, everything on each resync."""
        resync_at = 0.0
        while True:
            self._poked.clear()
            self._is_resync_due |= time.monotonic() >= resync_at
            is_due, self._is_resync_due = self._is_resync_due, False
            ok = await self.run_once(resync=is_due)
            now = time.monotonic()
            if is_due:
                resync_at = now + self._resync_seconds
            wait = resync_at - now if ok else min(RETRY_SECONDS, resync_at - now)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(wait, 0.0)):
                    await self._poked.wait()

    async def run_once(self, *, resync: bool) -> bool:
        """Make one pass; return whether every table is as desired."""
        await self._begin()
        outcome: dict[str, bool] = {}
        suspects, self._suspects = self._suspects, set()
        with self._seconds.time():
            for table in self._tables:
                must_read = resync or table.name in suspects
                outcome[table.name] = await self._reconcile(table, resync=must_read)
                if not outcome[table.name]:
                    self._failures.labels(table.name).inc()
        try:
            await self._done(outcome)
        except Exception:  # as a table's: a bug costs what it is about
            log.exception("pass_not_ended")
            return False
        return all(outcome.values())

    async def _reconcile(self, table: Table, *, resync: bool) -> bool:
        """Reconcile one table; a bug in it is logged and costs this table, not the others."""
        try:
            return await table.reconcile_once(resync=resync)
        except Exception:
            log.exception("table_failed", table=table.name)
            return False
