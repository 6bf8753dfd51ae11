"""Removes the sandboxes of ended containers, sooner as the disk fills (reference mesos §4.7)."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from phalanx.agent.layout import LATEST, Layout

log = structlog.get_logger()


def allowed_age(delay_seconds: float, headroom: float, usage: float) -> float:
    """Return how many seconds a sandbox may stay; *headroom* and *usage* are shares of the disk."""
    return max(delay_seconds * (1.0 - headroom - usage), 0.0)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long sandboxes are kept and how often that is looked at; in seconds."""

    delay_seconds: float
    headroom: float
    interval_seconds: float


def disk_usage(work: Path) -> float:
    """Return the share of the work directory's disk that is in use."""
    usage = shutil.disk_usage(work)
    return usage.used / usage.total if usage.total else 0.0


class Collector:
    """Looks for sandboxes that nothing uses any more and removes those that are old enough.

    A sandbox's age counts from the time of its directory, which `ended` sets: it
    is on the disk, so that a restarted agent goes on counting.
    """

    def __init__(
        self,
        layout: Layout,
        patience: Patience,
        *,
        in_use: Callable[[], Set[str]],
        clock: Callable[[], float],
        usage: Callable[[Path], float] = disk_usage,
    ) -> None:
        """Collect below *layout*; *in_use* are the container ids whose sandboxes are needed."""
        self.succeeded = 0
        self.failed = 0
        self.pending = 0
        self.age_seconds = patience.delay_seconds
        self._layout = layout
        self._patience = patience
        self._in_use = in_use
        self._clock = clock
        self._usage = usage

    def ended(self, sandbox: Path) -> None:
        """Note that a container has ended now: its sandbox is not older than that."""
        now = self._clock()
        with suppress(OSError):
            os.utime(sandbox, (now, now))

    async def run(self) -> None:
        """Collect for ever."""
        while True:
            await asyncio.to_thread(self.collect)
            await asyncio.sleep(self._patience.interval_seconds)

    def collect(self) -> None:
        """Remove what is old enough by now; blocks as long as that takes."""
        patience = self._patience
        usage = self._usage(self._layout.work)
        self.age_seconds = allowed_age(patience.delay_seconds, patience.headroom, usage)
        pending = 0
        for sandbox in tuple(self._unused()):
            try:
                is_old = sandbox.stat().st_mtime + self.age_seconds <= self._clock()
                if is_old:
                    shutil.rmtree(sandbox)
                    self.succeeded += 1
                    log.info("sandbox_removed", path=str(sandbox))
                    _remove_empty(sandbox.parent, self._layout.work / "slaves")
                else:
                    pending += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                self.failed += 1
                log.warning("sandbox_not_removed", path=str(sandbox), error=str(error))
        self.pending = pending

    def _unused(self) -> Iterator[Path]:
        used = self._in_use()
        for run in (self._layout.work / "slaves").glob("*/frameworks/*/executors/*/runs/*"):
            if run.name not in used and not run.is_symlink() and run.is_dir():
                yield run


def _remove_empty(directory: Path, top: Path) -> None:
    """Remove directories that nothing but a link to the last run is left in, up to *top*."""
    while directory != top and directory.is_relative_to(top):
        link = directory / LATEST
        with suppress(OSError):
            if link.is_symlink() and not link.exists():
                link.unlink()
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent
