"""The file of a task's updates and acknowledgements: only appended to, synced before it counts."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import structlog

from phalanx.agent.files import checkpointing
from phalanx.agent.task.stream import Stream
from phalanx.core.error import InvalidError
from phalanx.core.files import sync_directory
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
    """Add a record; it is on disk when this returns; raise CheckpointError when it can't be."""
    raw = encode(record)
    with checkpointing(path):
        is_new = not path.exists()
        with path.open("ab", buffering=0) as file:
            whole = LENGTH.pack(len(raw)) + raw
            if file.write(whole) != len(whole):
                # The disk had room for a part; what is torn is cut off by the next recovery.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(file.fileno())
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
