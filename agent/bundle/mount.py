"""Which of the host's file systems a container without an image sees."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

PRIVATE = ("/proc", "/sys", "/dev", "/run")
TEMPORARY = ("/tmp", "/var/tmp")
# Below these, mounts come and go with the containers of others.
ENGINES = ("/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/kubelet")
NOT_FILES = frozenset({"nsfs", "proc", "sysfs", "cgroup", "cgroup2", "devtmpfs", "devpts"})

_OCTAL = re.compile(r"\\([0-7]{3})")


def host_mounts(mountinfo: str) -> tuple[str, ...]:
    """Return the mount points of the host's root file system, outermost first.

    Each is bound by itself instead of the root recursively: a recursive bind
    would carry along, and keep alive, the network namespaces that are held by
    mounts below ``/run``. What a container has of its own is left out, and what
    is mounted below a directory where mounts may be gone before runc is there.
    """
    points: list[str] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if not after:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), before.split()[4])
        is_hidden = is_below(point, (*PRIVATE, *TEMPORARY))
        is_passing = point not in ENGINES and is_below(point, ENGINES)
        if after.split()[0] not in NOT_FILES and not is_hidden and not is_passing:
            points.append(point)
    unique = dict.fromkeys(points)
    return tuple(sorted(unique, key=lambda point: len(PurePosixPath(point).parts)))


def is_below(path: str, tops: Iterable[str]) -> bool:
    """Tell whether *path* is one of *tops* or lies below one."""
    return any(PurePosixPath(path).is_relative_to(top) for top in tops)
