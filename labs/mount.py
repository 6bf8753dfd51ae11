"""The mounts of this mount namespace."""

import ctypes
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phalanx.core.error import ConflictError
from phalanx.labs.wait import wait_until

MNT_DETACH = 2
MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: where it is and of what kind."""

    path: Path
    kind: str


def parse_mountinfo(text: str) -> Sequence[Mount]:
    """Return the mounts that a mountinfo file lists, in its order."""
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4])
        mounts.append(Mount(Path(path), right.split()[0]))
    return mounts


def read_mounts() -> Sequence[Mount]:
    """Return the mounts there are."""
    return parse_mountinfo(MOUNTINFO.read_text())


def mounts_below(directory: Path) -> Sequence[Path]:
    """Return the mounts at and below *directory*, the last made first."""
    return [m.path for m in reversed(read_mounts()) if m.path.is_relative_to(directory)]


def unmount(path: Path) -> None:
    """Detach the mount at *path*; raise OSError if there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), MNT_DETACH) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


def unmount_below(directory: Path, *, seconds: float = 5.0) -> None:
    """Detach every mount at and below *directory*; raise ConflictError if one stays."""

    def none_left() -> bool:
        for path in mounts_below(directory):
            try:
                unmount(path)
            except OSError:
                return False
        return not mounts_below(directory)

    if not wait_until(none_left, seconds=seconds):
        left = ", ".join(map(str, mounts_below(directory)))
        raise ConflictError(f"mount: {left}: does not come off")


def remove_directory(directory: Path) -> None:
    """Remove *directory* with all it holds; nothing that is mounted in it is entered.

    A container's root may be a bind mount of this machine's own: so every mount is
    detached first, and if one stays, nothing is removed and ConflictError is raised.
    """
    unmount_below(directory)
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        raise ConflictError(f"directory: {directory}: could not be removed")
