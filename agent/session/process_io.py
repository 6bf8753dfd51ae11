"""Between ProcessIO records and the frames of a switchboard (reference mesos §3.3); pure."""

import struct

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.agent import (
    AttachContainerInput,
    Call,
    ControlHeartbeat,
    ProcessIO,
    ProcessIOControl,
    ProcessIOData,
)
from phalanx.mesos.v1.mesos import ContainerID, DurationInfo, TTYInfo, WindowSize

FRAME = struct.Struct(">cI")
WINDOW = struct.Struct(">HH")
LISTEN = FRAME.pack(b"l", 0)
LARGEST_SIDE = 0xFFFF

KINDS = {b"1": "STDOUT", b"2": "STDERR"}


def frame(kind: bytes, data: bytes = b"") -> bytes:
    """Return one frame."""
    return FRAME.pack(kind, len(data)) + data


def output(kind: bytes, data: bytes) -> ProcessIO:
    """Return the record of what a container wrote."""
    return ProcessIO(type="DATA", data=ProcessIOData(type=KINDS[kind], data=data))


def heartbeat(seconds: float) -> ProcessIO:
    """Return the record that keeps a silent connection alive."""
    beat = ControlHeartbeat(interval=DurationInfo(nanoseconds=int(seconds * 1e9)))
    return ProcessIO(type="CONTROL", control=ProcessIOControl(type="HEARTBEAT", heartbeat=beat))


def target(call: Call) -> ContainerID:
    """Return the container that the first record of an input names; raise InvalidError."""
    part = attached(call)
    if part.type != "CONTAINER_ID" or part.container_id is None:
        raise InvalidError(
            "Expecting 'attach_container_input.type' to be CONTAINER_ID in the first record"
        )
    return part.container_id


def attached(call: Call) -> AttachContainerInput:
    """Return the input that a record carries; raise InvalidError for any other call."""
    if call.type != "ATTACH_CONTAINER_INPUT" or call.attach_container_input is None:
        raise InvalidError(
            "Failed to validate agent::Call: Expecting 'attach_container_input' to be present"
        )
    return call.attach_container_input


def input_frame(call: Call) -> bytes | None:
    """Return the frame for a record after the first; None for one that says nothing.

    Raises InvalidError for a record that can't follow the first.
    """
    part = attached(call)
    io = part.process_io
    if part.type != "PROCESS_IO" or io is None:
        raise InvalidError("Expecting 'attach_container_input.type' to be PROCESS_IO")
    if io.type == "DATA" and io.data is not None:
        if io.data.type != "STDIN":
            raise InvalidError("Expecting 'process_io.data.type' to be STDIN")
        return frame(b"i", io.data.data) if io.data.data else frame(b"e")
    if io.type == "CONTROL" and io.control is not None:
        return _control_frame(io.control)
    raise InvalidError("Expecting 'process_io.data' or 'process_io.control' to be present")


def _control_frame(control: ProcessIOControl) -> bytes | None:
    if control.type == "HEARTBEAT":
        return None
    if control.type == "TTY_INFO" and control.tty_info is not None:
        size = control.tty_info.window_size
        if size is None:
            raise InvalidError("Expecting 'tty_info.window_size' to be present")
        return frame(b"w", WINDOW.pack(*_sides(size)))
    raise InvalidError("Expecting 'control.tty_info' or 'control.heartbeat' to be present")


def _sides(size: WindowSize) -> tuple[int, int]:
    return min(size.rows, LARGEST_SIDE), min(size.columns, LARGEST_SIDE)


def terminal(info: TTYInfo | None) -> str:
    """Return what kind of ends a switchboard makes: three pipes, or a terminal of a size."""
    if info is None:
        return "pipes"
    rows, columns = _sides(info.window_size) if info.window_size else (0, 0)
    return f"tty:{rows}x{columns}"
