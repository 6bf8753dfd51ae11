"""Files that a daemon shows under virtual paths (reference mesos §3.4)."""

import grp
import os
import pwd
from collections.abc import Callable, Mapping
from pathlib import Path

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.mesos.v1.mesos import FileInfo, TimeInfo

PAGE_BYTES = 16 * 4096  # the most that one read returns

Places = Callable[[], Mapping[str, Path]]


class VirtualFiles:
    """Real files and directories by the paths that clients name them with.

    *places* is asked anew each time: sandboxes come and go.
    """

    def __init__(self, places: Places) -> None:
        self.places = places

    def resolve(self, path: str) -> Path:
        """Return the real path; raise NotFoundError, without words as Mesos does.

        Nothing outside of the places is there, whatever links say.
        """
        wanted = "/" + path.strip("/")
        places = self.places()
        virtual = wanted
        while virtual not in places:
            virtual = virtual.rpartition("/")[0]
            if not virtual:
                raise NotFoundError
        home = places[virtual].resolve()
        found = (home / wanted[len(virtual) :].lstrip("/")).resolve()
        if not found.is_relative_to(home) or not found.exists():
            raise NotFoundError
        return found

    def browse(self, path: str) -> tuple[FileInfo, ...]:
        """Return what is in a directory, by name; a file has nothing in it."""
        real = self.resolve(path)
        if not real.is_dir():
            return ()
        head = path.rstrip("/")
        return tuple(_info(child, f"{head}/{child.name}") for child in sorted(real.iterdir()))

    def read(self, path: str, offset: int, length: int | None) -> tuple[int, bytes]:
        """Return a file's size and at most ``PAGE_BYTES`` of it.

        Raises NotFoundError, and InvalidError for a directory.
        """
        real = self.resolve(path)
        if real.is_dir():
            raise InvalidError("Cannot read a directory.\n")
        with real.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(min(offset, size))
            return size, file.read(PAGE_BYTES if length is None else min(length, PAGE_BYTES))


def _info(real: Path, path: str) -> FileInfo:
    facts = real.lstat()
    return FileInfo(
        path=path,
        nlink=facts.st_nlink,
        size=facts.st_size,
        mtime=TimeInfo(nanoseconds=int(facts.st_mtime) * 1_000_000_000),
        mode=facts.st_mode,
        uid=_user(facts.st_uid),
        gid=_group(facts.st_gid),
    )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
