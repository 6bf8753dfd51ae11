"""Which of the host's file systems a container sees, read-only but for what is temporary."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

PRIVATE = ("/proc", "/sys", "/dev", "/run", "/tmp")
TEMPORARY = ("/tmp", "/var/tmp")
NOT_FILES = frozenset({"nsfs", "proc", "sysfs", "cgroup", "cgroup2", "devtmpfs", "devpts"})

_OCTAL = re.compile(r"\\([0-7]{3})")


def host_mounts(mountinfo: str) -> tuple[str, ...]:
    """Return the mount points of the host's root file system, outermost first.

    Each is bound by itself instead of the root recursively: a recursive bind
    would carry along, and keep alive, the network namespaces that are held by
    mounts below ``/run``. What a container has of its own is left out.
    """
    points: list[str] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if not after:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), before.split()[4])
        if after.split()[0] not in NOT_FILES and not is_below(point, PRIVATE):
            points.append(point)
    unique = dict.fromkeys(points)
    return tuple(sorted(unique, key=lambda point: len(PurePosixPath(point).parts)))


def is_below(path: str, tops: Iterable[str]) -> bool:
    """Tell whether *path* is one of *tops* or lies below one."""
    return any(PurePosixPath(path).is_relative_to(top) for top in tops)
