"""What an agent keeps on disk, and reads again."""

import json
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


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in *path*; None if there is no such file or no object in it."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None
