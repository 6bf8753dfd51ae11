"""The file of a task's updates and acknowledgements: only appended to, synced before it counts."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import structlog

from phalanx.agent.files import sync_directory
from phalanx.agent.task.stream import Stream
from phalanx.core.error import InvalidError
from phalanx.mesos.v1.codec import Message, decode, encode
from phalanx.mesos.v1.mesos import TaskStatus

log = structlog.get_logger()

LENGTH = struct.Struct("=I")
MOST_BYTES = 64 * 1024 * 1024


class UpdateRecord(Message, frozen=True, kw_only=True):
    """One record: an update, or the acknowledgement of one."""

    type: str
    update: TaskStatus | None = None
    uuid: bytes | None = None


def append(path: Path, record: UpdateRecord) -> None:
    """Add a record; it is on disk when this returns."""
    raw = encode(record)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, LENGTH.pack(len(raw)) + raw)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_directory(path.parent)


def recover(path: Path) -> Stream:
    """Replay a log; whatever follows its last whole record is cut off."""
    stream = Stream()
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return stream
    end = 0
    for end, record in records(raw):  # noqa: B007 - the last end is used below
        if record.type == "UPDATE" and record.update is not None:
            stream = stream.with_update(record.update)
        elif record.type == "ACK" and record.uuid is not None:
            stream = stream.with_acknowledgement(record.uuid)
    if end < len(raw):
        log.warning("updates_truncated", file=str(path), bytes=len(raw) - end)
        os.truncate(path, end)
    return stream


def records(raw: bytes) -> Iterator[tuple[int, UpdateRecord]]:
    """Yield each whole record with where it ends; stop at the first that is torn or broken."""
    at = 0
    while at + LENGTH.size <= len(raw):
        (length,) = LENGTH.unpack_from(raw, at)
        end = at + LENGTH.size + length
        if length > MOST_BYTES or end > len(raw):
            return
        try:
            record = decode(UpdateRecord, raw[at + LENGTH.size : end])
        except InvalidError:
            return
        yield end, record
        at = end
