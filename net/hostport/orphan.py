"""What is kept of network namespaces that are gone, as those of a lab are in the end.

A node has one namespace, and what is kept of it goes with a reboot. Labs and
tests make nodes as they like.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from phalanx.core.netns import call_in, call_in_thread, enter
from phalanx.net.hostport.store import DIRECTORY
from phalanx.net.netlink.wire import namespace_cookie

MOUNTS = Path("/proc/self/mountinfo")


def remove_kept(netns: Path, *, directory: Path = Path(DIRECTORY)) -> None:
    """Remove what is kept of a namespace that is about to go; raise OSError if there is none."""
    cookie = call_in(netns, namespace_cookie)
    shutil.rmtree(directory / str(cookie), ignore_errors=True)


def remove_orphans(*, directory: Path = Path(DIRECTORY)) -> list[str]:
    """Remove what is kept of namespaces in which nobody is and which nothing names.

    Returns their cookies. Needs the processes and mounts of the whole machine
    in sight, as a plane has them.
    """
    kept = {name for name in _names(directory) if name.isdecimal()}
    if len(kept) < 2:  # our own at most
        return []
    gone = sorted(kept - call_in_thread(_cookies))
    for name in gone:
        shutil.rmtree(directory / name, ignore_errors=True)
    return gone


def _names(directory: Path) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return os.listdir(directory)
    return []


def _cookies() -> set[str]:
    """Return the cookies of all namespaces, having been in each; the calling thread is spoilt."""
    found, seen = {str(namespace_cookie())}, set()
    for path in _paths():
        with suppress(OSError):  # a process that has just ended
            inode = path.stat().st_ino
            if inode not in seen:
                seen.add(inode)
                enter(path)
                found.add(str(namespace_cookie()))
    return found


def _paths() -> Iterator[Path]:
    for line in MOUNTS.read_text().splitlines():
        words, _, rest = line.partition(" - ")
        if rest.startswith("nsfs "):
            yield Path(words.split()[4].encode().decode("unicode_escape"))
    for name in os.listdir("/proc"):
        if name.isdecimal():
            yield Path("/proc", name, "ns/net")
