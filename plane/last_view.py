"""The last View on disk: what a plane goes on with when it starts and no source answers."""

import os
from pathlib import Path

import structlog

from phalanx.core.error import ProtocolError
from phalanx.net.feed.record import Numbered, after, decode, encode, snapshot_of

log = structlog.get_logger()


def load_last_view(path: Path) -> Numbered | None:
    """Return the View that was saved; None if there is none that can be read."""
    try:
        return after(None, decode(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ProtocolError) as error:
        log.warning("last_view_unreadable", path=str(path), error=str(error))
        return None


def save_last_view(path: Path, numbered: Numbered) -> None:
    """Replace the file by *numbered*; a disk that refuses costs a warning, not the plane."""
    draft = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(encode(snapshot_of(numbered)))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        log.warning("last_view_not_saved", path=str(path), error=str(error))
