"""Processes by identity: a pid alone may be somebody else's by now."""

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A pid with the kernel's start time of it, in clock ticks since boot."""

    pid: int
    start_time: int


def start_time(pid: int) -> int | None:
    """Return when the process started; None if there is none, or only its zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def parent_of(pid: int) -> int:
    """Return a process' parent; 0 if there is none, or no such process."""
    fields = _stat(pid)
    return int(fields[1]) if fields is not None else 0


def _stat(pid: int) -> list[str] | None:
    """Return the fields of a process' ``stat`` from its state on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def is_alive(process: Process) -> bool:
    """Tell whether this very process still runs."""
    return start_time(process.pid) == process.start_time


def open_process(process: Process) -> int | None:
    """Return a pidfd, readable when the process ends; None if it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if is_alive(process):
        return descriptor
    os.close(descriptor)
    return None


def kill(process: Process, number: int = signal.SIGKILL) -> bool:
    """Send a signal to this very process; tell whether it was there to get it."""
    descriptor = open_process(process)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _settle(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


async def ended(process: Process) -> None:
    """Wait until a process that need not be our child has ended."""
    descriptor = open_process(process)
    if descriptor is None:
        return
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _settle, over)
    try:
        await over
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
