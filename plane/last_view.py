"""The last View on disk: what a plane goes on with when it starts and no source answers.

The file holds records of the feed, one a line: a whole View in parts, then the
deltas since. So a change costs what it says, not a View of 26 MB at 50,000 tasks.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import structlog

from phalanx.core.error import ProtocolError
from phalanx.core.files import replacing
from phalanx.net.feed.record import (
    Delta,
    Heartbeat,
    Numbered,
    Position,
    Record,
    Snapshot,
    decode,
    encode,
    parts_of,
)
from phalanx.net.model.view import FIELD_OF, View

log = structlog.get_logger()

LEAST_BYTES = (
    1 << 20
)  # of deltas before the whole View is written anew; else half as many as it has
MOST_CHANGES = 10_000  # that are kept for a disk that takes its time


def load_last_view(path: Path) -> Numbered | None:
    """Return the View that was saved; None if there is none that can be read.

    Of deltas the last may be cut off, by a crash or a full disk: it is left out.
    """
    objects: dict[str, dict[str, Any]] = {}
    position: Position | None = None
    try:
        with path.open("rb") as file:
            for line in file:
                position = _take(line, objects, position)
    except FileNotFoundError:
        return None
    except (OSError, ProtocolError) as error:
        log.warning("last_view_torn", path=str(path), error=str(error))
    return None if position is None else Numbered(position, View(**objects))


def _take(
    line: bytes, objects: dict[str, dict[str, Any]], position: Position | None
) -> Position | None:
    """Put the objects of a line in place; return where that leads to, None amid a whole View."""
    record = decode(line)
    if isinstance(record, Heartbeat):
        return position
    if isinstance(record, Delta):
        if position is None or record.sequence != position.sequence + 1:
            raise ProtocolError(f"delta {record.sequence} does not follow {position}")
        for kind, key in record.removals:
            objects.get(FIELD_OF[kind], {}).pop(key, None)
        upserts, position = record.upserts, Position(position.epoch, record.sequence)
    else:
        upserts = record.objects
        position = None
        if isinstance(record, Snapshot):
            position = Position(record.epoch, record.sequence)
    for each in upserts:
        objects.setdefault(FIELD_OF[each.kind], {})[each.key] = each
    return position


class Lacking:
    """What the file lacks of the newest View: deltas, as long as they are few.

    A disk that takes a minute, or none at all, while thousands of changes come
    must not cost their memory: then the whole View is to be saved.
    """

    def __init__(self) -> None:
        self._deltas: list[Delta] | None = None  # None: all of it
        self._changes = 0

    def note(self, record: Record) -> None:
        """Remember what led to the newest View."""
        if self._deltas is None or not isinstance(record, Delta):
            self._deltas = None
            return
        self._deltas.append(record)
        self._changes += len(record.upserts) + len(record.removals)
        if self._changes > MOST_CHANGES:
            self._deltas = None

    def take(self) -> Sequence[Delta] | None:
        """Return what leads from the last call to the newest View, None for all that there is."""
        deltas, self._deltas, self._changes = self._deltas, [], 0
        return deltas


class LastView:
    """Keeps the file; a disk that refuses costs a warning, not the plane. Any thread may save."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._room = -1  # bytes of deltas that the file may still take; negative: none at all
        self._refusal: str | None = None
        self._lock = Lock()

    def save(self, numbered: Numbered, deltas: Sequence[Delta] | None = None) -> bool:
        """Bring the file to *numbered*; return whether the disk took it.

        *deltas* lead there from what was saved last; None stands for all of it.
        """
        with self._lock:
            added = None if deltas is None else b"".join(encode(each) + b"\n" for each in deltas)
            room, self._room = self._room, -1
            refusal = None
            try:
                if added is not None and len(added) <= room:
                    self._append(added)
                    self._room = room - len(added)
                else:
                    self._room = max(LEAST_BYTES, self._replace(numbered) // 2)
            except OSError as error:
                refusal = str(error)
            if refusal is not None and refusal != self._refusal:
                log.warning("last_view_not_saved", path=str(self._path), error=refusal)
            self._refusal = refusal
            return refusal is None

    def _append(self, lines: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(descriptor, "wb") as file:
            file.write(lines)
            file.flush()
            os.fsync(descriptor)

    def _replace(self, numbered: Numbered) -> int:
        """Write the whole View beside the file, and put it in its place; return its bytes."""
        draft = self._path.with_suffix(".new")
        with replacing(self._path, durable=True, draft=draft) as file:
            for record in parts_of(numbered):
                file.write(encode(record) + b"\n")
            return file.tell()
