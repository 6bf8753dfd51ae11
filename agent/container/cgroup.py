"""What cgroups say of a container, in the version 1 hierarchies or the unified one."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HIERARCHY = Path("/sys/fs/cgroup")
UNIFIED_MARK = "cgroup.controllers"
EMPTY_SECONDS = 5.0


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

    def statistics(self, container_id: str) -> dict[str, Any]:
        """Return a container's usage as fields of ``ResourceStatistics``; none when it is gone."""
        found = self._unified(container_id) if self.is_unified else self._split(container_id)
        return {name: value for name, value in found.items() if value is not None}

    def _unified(self, container_id: str) -> dict[str, Any]:
        place = self._place("", container_id)
        cpu, memory = _table(place / "cpu.stat"), _table(place / "memory.stat")
        return {
            "cpus_user_time_secs": cpu.get("user_usec", 0) / 1e6,
            "cpus_system_time_secs": cpu.get("system_usec", 0) / 1e6,
            "cpus_nr_periods": cpu.get("nr_periods"),
            "cpus_nr_throttled": cpu.get("nr_throttled"),
            "cpus_throttled_time_secs": cpu.get("throttled_usec", 0) / 1e6,
            "mem_total_bytes": _number(place / "memory.current"),
            "mem_limit_bytes": _number(place / "memory.max"),
            "mem_soft_limit_bytes": _number(place / "memory.low"),
            "mem_rss_bytes": memory.get("anon"),
            "mem_anon_bytes": memory.get("anon"),
            "mem_file_bytes": memory.get("file"),
            "mem_cache_bytes": memory.get("file"),
            "mem_mapped_file_bytes": memory.get("file_mapped"),
            "mem_unevictable_bytes": memory.get("unevictable"),
            "threads": _number(place / "pids.current"),
            "processes": len(self.processes(container_id)),
        }

    def _split(self, container_id: str) -> dict[str, Any]:
        place = self._place("memory", container_id)
        used = _table(self._place("cpuacct", container_id) / "cpuacct.stat")
        cpu, memory = (
            _table(self._place("cpu", container_id) / "cpu.stat"),
            _table(place / "memory.stat"),
        )
        tick = os.sysconf("SC_CLK_TCK")
        return {
            "cpus_user_time_secs": used.get("user", 0) / tick,
            "cpus_system_time_secs": used.get("system", 0) / tick,
            "cpus_nr_periods": cpu.get("nr_periods"),
            "cpus_nr_throttled": cpu.get("nr_throttled"),
            "cpus_throttled_time_secs": cpu.get("throttled_time", 0) / 1e9,
            "mem_total_bytes": _number(place / "memory.usage_in_bytes"),
            "mem_total_memsw_bytes": _number(place / "memory.memsw.usage_in_bytes"),
            "mem_limit_bytes": _number(place / "memory.limit_in_bytes"),
            "mem_soft_limit_bytes": _number(place / "memory.soft_limit_in_bytes"),
            "mem_rss_bytes": memory.get("total_rss"),
            "mem_anon_bytes": memory.get("total_rss"),
            "mem_file_bytes": memory.get("total_cache"),
            "mem_cache_bytes": memory.get("total_cache"),
            "mem_mapped_file_bytes": memory.get("total_mapped_file"),
            "mem_swap_bytes": memory.get("total_swap"),
            "mem_unevictable_bytes": memory.get("total_unevictable"),
            "threads": _number(self._place("pids", container_id) / "pids.current"),
            "processes": len(self.processes(container_id)),
        }

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


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
