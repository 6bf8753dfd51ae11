"""What cgroups say of a container, in the version 1 hierarchies or the unified one."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HIERARCHY = Path("/sys/fs/cgroup")
UNIFIED_MARK = "cgroup.controllers"
EMPTY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has used and may use."""

    cpu_user_seconds: float = 0.0
    cpu_system_seconds: float = 0.0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The cgroups of containers below one root, as ``phalanx/lab/a1``."""

    root: str
    hierarchy: Path = HIERARCHY

    def path_of(self, container_id: str) -> str:
        """Return a container's cgroup as runc is told it: a nested one lies in its parent's.

        In the unified hierarchy it lies beside it, since there a cgroup that has
        processes can't have limited children.
        """
        return f"/{self.root.strip('/')}/{self._below(container_id)}"

    @property
    def is_unified(self) -> bool:
        """Tell whether this machine has the version 2 hierarchy alone."""
        return (self.hierarchy / UNIFIED_MARK).exists()

    def _below(self, container_id: str) -> str:
        return container_id if self.is_unified else container_id.replace(".", "/")

    def _place(self, controller: str, container_id: str) -> Path:
        top = self.hierarchy if self.is_unified else self.hierarchy / controller
        return top / self.root.strip("/") / self._below(container_id)

    def places(self) -> tuple[Path, ...]:
        """Return our root in every hierarchy that there is."""
        if self.is_unified:
            return (self.hierarchy / self.root.strip("/"),)
        return tuple(sorted(top / self.root.strip("/") for top in self.hierarchy.iterdir()))

    def make_below(self, container_id: str, host: str) -> str | None:
        """Make a cgroup below *host*'s that only counts; return it as ``runc exec`` is told it.

        In the unified hierarchy there is none.
        """
        if self.is_unified:
            return None
        self._place("pids", container_id).mkdir(parents=True, exist_ok=True)
        return f"pids:{self._below(container_id.removeprefix(host + '.'))}"

    def processes(self, container_id: str) -> tuple[int, ...]:
        """Return the pids in a container; none when it is gone."""
        try:
            text = (self._place("pids", container_id) / "cgroup.procs").read_text()
        except OSError:
            return ()
        return tuple(map(int, text.split()))

    def usage(self, container_id: str) -> Usage:
        """Return a container's usage; zeros when it is gone."""
        if self.is_unified:
            place = self._place("", container_id)
            cpu = _table(place / "cpu.stat")
            return Usage(
                cpu.get("user_usec", 0) / 1e6,
                cpu.get("system_usec", 0) / 1e6,
                _table(place / "memory.stat").get("anon", 0),
                _number(place / "memory.max"),
            )
        memory = self._place("memory", container_id)
        cpu = _table(self._place("cpuacct", container_id) / "cpuacct.stat")
        tick = os.sysconf("SC_CLK_TCK")
        return Usage(
            cpu.get("user", 0) / tick,
            cpu.get("system", 0) / tick,
            _table(memory / "memory.stat").get("rss", 0),
            _number(memory / "memory.limit_in_bytes"),
        )

    def remove_container(self, container_id: str) -> None:
        """Kill what is left of a container whose runtime was cut short, and its cgroups."""
        for place in self.places():
            for directory in _deepest_first(place / self._below(container_id)):
                _empty(directory)

    def remove(self) -> None:
        """Kill whatever is below our root, in every hierarchy, and remove it all."""
        for place in self.places():
            for directory in _deepest_first(place):
                _empty(directory)
            _remove_parents(place, len(Path(self.root.strip("/")).parts))


def _deepest_first(top: Path) -> Iterator[Path]:
    for directory, _, _ in os.walk(top, topdown=False):
        yield Path(directory)


def _empty(directory: Path) -> None:
    """Kill a cgroup's processes and remove it, trying until its last one is reaped."""
    deadline = time.monotonic() + EMPTY_SECONDS
    patience = threading.Event()
    while directory.is_dir():
        try:
            pids = [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]
        except OSError:
            pids = []
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            directory.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return
            patience.wait(0.005)


def _remove_parents(place: Path, depth: int) -> None:
    """Remove the empty cgroups above our root that only led to it."""
    for parent in tuple(place.parents)[: depth - 1]:
        try:
            parent.rmdir()
        except OSError:
            return


def _table(path: Path) -> dict[str, int]:
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _number(path: Path) -> int:
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0
