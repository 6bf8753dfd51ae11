"""The processes of this machine, as /proc shows them."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from phalanx.core.error import ConflictError
from phalanx.labs.wait import wait_until

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Birth:
    """One process for ever: its number and when it started, in clock ticks since boot."""

    pid: int
    start: int


def birth_of(pid: int) -> Birth | None:
    """Return the process that has number *pid* now; None if there is none, or it ended."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name between the parentheses may hold anything, so count from the last one.
    state, *rest = text[text.rindex(")") + 2 :].split()
    return None if state in "ZX" else Birth(pid, int(rest[18]))


def is_alive(birth: Birth) -> bool:
    """Say whether exactly this process still runs."""
    return birth_of(birth.pid) == birth


def all_pids() -> Iterator[int]:
    """Yield the number of every process."""
    return (int(entry) for entry in os.listdir(PROC) if entry.isdecimal())


def ancestry() -> frozenset[int]:
    """Return the numbers of this process and of those it descends from."""
    pid, found = os.getpid(), set[int]()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            status = (PROC / str(pid) / "stat").read_text()
        except OSError:
            break
        pid = int(status[status.rindex(")") + 2 :].split()[1])
    return frozenset(found)


def in_netns(path: Path) -> frozenset[int]:
    """Return the processes that live in the network namespace kept at *path*."""
    try:
        wanted = path.stat()
    except OSError:
        return frozenset()
    found = set[int]()
    for pid in all_pids():
        with suppress(OSError):
            its = (PROC / str(pid) / "ns" / "net").stat()
            if (its.st_dev, its.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.add(pid)
    return frozenset(found)


def with_environment(*settings: str) -> frozenset[int]:
    """Return the processes that were started with all of these ``NAME=value`` settings."""
    wanted = {setting.encode() for setting in settings}
    found = set[int]()
    for pid in all_pids():
        with suppress(OSError):
            if wanted <= set((PROC / str(pid) / "environ").read_bytes().split(b"\0")):
                found.add(pid)
    return frozenset(found)


def send_signal(birth: Birth, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; return whether it was there."""
    try:
        descriptor = os.pidfd_open(birth.pid)
    except OSError:
        return False
    try:
        # The descriptor holds on to the process, so this check can't be outrun.
        if birth_of(birth.pid) != birth:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def kill_all(find: Callable[[], Iterable[int]], *, seconds: float = 10.0) -> int:
    """Kill what *find* finds until it finds nothing; return how many there were.

    This process and its ancestors are spared. Raises ConflictError when
    something is still there after *seconds*.
    """
    spared = ancestry()
    killed = set[Birth]()

    def none_left() -> bool:
        births = {birth for pid in find() if pid not in spared and (birth := birth_of(pid))}
        for birth in births - killed:
            send_signal(birth, signal.SIGKILL)
        killed.update(births)
        return not births

    if not wait_until(none_left, seconds=seconds):
        left = ", ".join(str(birth.pid) for birth in killed if is_alive(birth))
        raise ConflictError(f"processes: {left}: do not end, {seconds:g} s after SIGKILL")
    return len(killed)
