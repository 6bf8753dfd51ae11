"""What a lab consists of, written down before it is made."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from phalanx.core.error import ConflictError
from phalanx.core.files import write_whole
from phalanx.labs.place import Place
from phalanx.labs.process import Birth
from phalanx.labs.topology import Topology
from phalanx.labs.topology_file import topology_from_json, topology_to_json
from phalanx.labs.wait import wait_until

# Stands where a node's name would, for what runs beside the nodes.
HOST = "host"


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process of a lab: how it is started, and who it is once it was."""

    node: str
    name: str
    command: tuple[str, ...]
    birth: Birth | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A lab as written down."""

    topology: Topology
    processes: tuple[ProcessRecord, ...] = ()
    complete: bool = False
    powered_off: frozenset[str] = frozenset()

    def of_node(self, node: str) -> tuple[ProcessRecord, ...]:
        """Return a node's processes."""
        return tuple(process for process in self.processes if process.node == node)

    def with_process(self, process: ProcessRecord) -> "Record":
        """Return the record with *process* in the place of the one of its node and name."""
        key = (process.node, process.name)
        kept = [process if (p.node, p.name) == key else p for p in self.processes]
        if process not in kept:
            kept.append(process)
        return replace(self, processes=tuple(kept))


def record_to_json(record: Record) -> dict[str, Any]:
    """Return the record as plain JSON values."""
    return {
        "topology": topology_to_json(record.topology),
        "processes": [
            {
                "node": process.node,
                "name": process.name,
                "command": list(process.command),
                "pid": process.birth and process.birth.pid,
                "start": process.birth and process.birth.start,
            }
            for process in record.processes
        ],
        "complete": record.complete,
        "powered_off": sorted(record.powered_off),
    }


def record_from_json(table: Mapping[str, Any]) -> Record:
    """Return what `record_to_json` wrote; raise KeyError, TypeError or ValueError if torn."""
    return Record(
        topology=topology_from_json(table["topology"]),
        processes=tuple(
            ProcessRecord(
                p["node"],
                p["name"],
                tuple(p["command"]),
                None if p["pid"] is None else Birth(p["pid"], p["start"]),
            )
            for p in table["processes"]
        ),
        complete=table["complete"],
        powered_off=frozenset(table["powered_off"]),
    )


def write_record(place: Place, record: Record) -> None:
    """Write the record down."""
    text = json.dumps(record_to_json(record), indent=1) + "\n"
    write_whole(place.record, text.encode())


def read_record(place: Place) -> Record | None:
    """Return the record; None when there is none or it can't be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return record_from_json(json.loads(place.record.read_text()))
    return None


@contextmanager
def locked(place: Place, *, seconds: float = 0.0) -> Iterator[None]:
    """Hold the lab's lock, making its directory if need be.

    The lock is on the directory itself, so that it goes with the lab. Raises
    ConflictError when another command still holds it after *seconds*.
    """
    held: list[int] = []

    def take() -> bool:
        place.directory.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(place.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed the directory: then it is another one now.
            fresh = place.directory.stat().st_ino == os.fstat(descriptor).st_ino
        except (BlockingIOError, FileNotFoundError):
            fresh = False
        if not fresh:
            os.close(descriptor)
            return False
        held.append(descriptor)
        return True

    if not wait_until(take, seconds=seconds):
        raise ConflictError(f"lab {place.lab}: another command is at work on it right now")
    try:
        yield
    finally:
        os.close(held[0])
