"""Small files that are either whole or not there."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phalanx.core.error import PhalanxError


class CheckpointError(PhalanxError):
    """What must be on disk before anything follows from it can't be written."""


@contextmanager
def checkpointing(path: Path) -> Iterator[None]:
    """Write what must be on disk: raise CheckpointError where the disk refuses."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"checkpoint: {str(path)!r}: {error.strerror}") from error


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write *path* so that a reader sees the old content or the new; *durable* syncs it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.rename(path)
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in *path*; None if there is no such file or no object in it."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None
