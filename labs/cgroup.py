"""The cgroups of a lab, in every hierarchy that this machine has mounted."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from phalanx.core.error import ConflictError
from phalanx.labs.mount import read_mounts
from phalanx.labs.process import kill_all
from phalanx.labs.wait import wait_until


def hierarchies() -> list[Path]:
    """Return where cgroup hierarchies are mounted, of either version."""
    return sorted({mount.path for mount in read_mounts() if mount.kind in ("cgroup", "cgroup2")})


def find_cgroups(name: str) -> list[Path]:
    """Return the directories of the cgroup *name*, one a hierarchy that has it."""
    return [root / name for root in hierarchies() if (root / name).is_dir()]


def _tree(top: Path) -> Iterator[Path]:
    """Yield *top* and every cgroup below it, the deepest first."""
    with suppress(OSError):
        for child in top.iterdir():
            if child.is_dir() and not child.is_symlink():
                yield from _tree(child)
    yield top


def cgroup_pids(name: str) -> frozenset[int]:
    """Return the processes in the cgroup *name* and below it."""
    found = set[int]()
    for top in find_cgroups(name):
        for cgroup in _tree(top):
            with suppress(OSError):
                found.update(map(int, (cgroup / "cgroup.procs").read_text().split()))
    return frozenset(found)


def remove_cgroup(name: str, *, seconds: float = 5.0) -> None:
    """Kill what runs in the cgroup *name*, and remove it with all below.

    Raises ConflictError when the kernel keeps one busy for *seconds*.
    """
    kill_all(lambda: cgroup_pids(name))

    def gone() -> bool:
        for top in find_cgroups(name):
            for cgroup in _tree(top):
                with suppress(OSError):
                    cgroup.rmdir()
        return not find_cgroups(name)

    if not wait_until(gone, seconds=seconds):
        left = ", ".join(map(str, find_cgroups(name)))
        raise ConflictError(f"cgroup: {left}: is still busy")


def remove_if_empty(name: str) -> None:
    """Remove the cgroup *name* wherever nothing lies below it."""
    for top in find_cgroups(name):
        with suppress(OSError):
            top.rmdir()
