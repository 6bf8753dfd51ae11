"""How much disk a container uses: its sandbox, and each persistent volume by itself."""

import os

from phalanx.agent.volume.persistent import path_of
from phalanx.mesos.resources import Resources

MEGABYTE = 1024 * 1024
BLOCK = 512  # what the kernel counts in, whatever the file system


def disk_quotas(resources: Resources, sandbox: str, work: str) -> dict[str, int | None]:
    """Return what is measured, with the bytes that may be there; None for no limit."""
    volumes = resources.volumes
    loose = resources - volumes
    megabytes = loose.scalar("disk")
    found: dict[str, int | None] = {sandbox: int(megabytes * MEGABYTE) if megabytes else None}
    for volume in volumes.messages():
        size = volume.scalar.value if volume.scalar else 0.0
        source = volume.disk.source if volume.disk else None
        if source is None or source.type != "MOUNT":  # whose end is the disk's
            found[path_of(volume, work)] = int(size * MEGABYTE)
    return found


def used_bytes(path: str) -> int:
    """Return the disk that a directory takes, a file of several names once; 0 if it is gone."""
    total = 0
    seen: set[tuple[int, int]] = set()
    places = [path]
    while places:
        try:
            entries = os.scandir(places.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                    if (found.st_dev, found.st_ino) in seen:
                        continue
                    seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * BLOCK
                if entry.is_dir(follow_symlinks=False):
                    places.append(entry.path)
    return total


def rendered(size: int) -> str:
    """Return a size in Mesos' words, the largest unit that leaves no rest."""
    for unit, name in ((1024**3, "GB"), (1024**2, "MB"), (1024, "KB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size}B"
