"""Files that are either whole or not there: written beside their place, then renamed into it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import BinaryIO


@contextmanager
def replacing(
    path: Path, *, durable: bool = False, mode: int | None = None, draft: Path | None = None
) -> Iterator[BinaryIO]:
    """Yield a file that takes *path*'s place when the block ends; an error leaves *path* as it was.

    A reader sees the old content or the new. *durable*: both the content and its name outlive a
    power cut when this returns. *mode* is the file's, else the umask decides. *draft* is where it
    is written until then, for a lone writer of something large, whose death should leave one
    draft at most; else any number of threads and processes may write at once.

    Raises OSError: the disk refuses; the draft is gone then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft or path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}")
    try:
        with draft.open("wb") as file:
            yield file
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()  # of no use, and perhaps what fills the disk
        raise
    if durable:
        sync_directory(path.parent)


def write_whole(
    path: Path, content: bytes, *, durable: bool = False, mode: int | None = None
) -> None:
    """Replace *path*, whose directories are made where missing, as `replacing` says."""
    with replacing(path, durable=durable, mode=mode) as file:
        file.write(content)


def link_whole(path: Path, target: str) -> None:
    """Make *path* a symbolic link to *target*, in place of whatever link was there."""
    draft = path.with_name(f".{path.name}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(path)


def sync_directory(path: Path) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
