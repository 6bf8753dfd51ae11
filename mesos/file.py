"""Files that a daemon shows under virtual paths (reference mesos §3.4)."""

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
        try:
            home = places[virtual].resolve()
            found = (home / wanted[len(virtual) :].lstrip("/")).resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:  # links in a circle, zero bytes
            raise NotFoundError from error
        if not found.is_relative_to(home):
            raise NotFoundError
        return found

    @contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """Give a descriptor of a regular file, closed afterwards.

        Raises NotFoundError, and InvalidError for anything else: a pipe would hang who
        reads it, a device of a task's making is the machine's. Whoever writes in a
        sandbox can't lead us astray between a look and the next: what is open is looked at.
        """
        real = self.resolve(path)
        try:
            found = os.open(real, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise NotFoundError from error
        try:
            own = f"/proc/self/fd/{found}"
            mode = os.fstat(found).st_mode
            if stat.S_ISDIR(mode):
                raise InvalidError("Cannot read a directory.\n")
            if not stat.S_ISREG(mode):
                raise InvalidError("Cannot read what is no file.\n")
            if os.readlink(own).removesuffix(" (deleted)") != str(real):
                raise NotFoundError
            descriptor = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(found)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def browse(self, path: str) -> tuple[FileInfo, ...]:
        """Return what is in a directory, by name; a file has nothing in it."""
        real = self.resolve(path)
        if not real.is_dir():
            return ()
        head = path.rstrip("/")
        found = ((child, _facts(child)) for child in sorted(real.iterdir()))
        return tuple(
            _info(facts, f"{head}/{child.name}") for child, facts in found if facts is not None
        )

    def read(self, path: str, offset: int, length: int | None) -> tuple[int, bytes]:
        """Return a file's size and at most ``PAGE_BYTES`` of it.

        Raises NotFoundError, and InvalidError for a directory.
        """
        with self.opened(path) as descriptor:
            size = os.fstat(descriptor).st_size
            wanted = PAGE_BYTES if length is None else min(length, PAGE_BYTES)
            return size, os.pread(descriptor, wanted, min(offset, size))


def _facts(path: Path) -> os.stat_result | None:
    """Return what is known of a file; None if it has just gone."""
    try:
        return path.lstat()
    except OSError:
        return None


def _info(facts: os.stat_result, path: str) -> FileInfo:
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
