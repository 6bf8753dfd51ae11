"""Being in another network namespace: one thread, for as long as it takes.

A thread can be in another namespace than the rest of its process. Sockets and
descriptors that it opens there stay there, whoever uses them later.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000


@cache
def libc() -> ctypes.CDLL:
    """Return the C library, with errno kept for `system_call`."""
    return ctypes.CDLL(None, use_errno=True)


def system_call(name: str, *arguments: object) -> None:
    """Call a function of the C library that returns 0 when it worked; raise OSError."""
    if getattr(libc(), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def enter(netns: Path | int) -> None:
    """Move the calling thread, and it alone, into a namespace: a path or a descriptor of one.

    Raises OSError when there is none, or when we may not.
    """
    if isinstance(netns, int):
        system_call("setns", netns, CLONE_NEWNET)
        return
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        system_call("setns", descriptor, CLONE_NEWNET)
    finally:
        os.close(descriptor)


def call_in_thread(function: Callable[[], T]) -> T:
    """Call *function* in a thread of its own; return what it returned, raise what it raised."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def call_in(netns: Path, function: Callable[[], T]) -> T:
    """Call *function* in the namespace kept at *netns*; return what it returned.

    Raises what *function* raises, and OSError when there is no such namespace.
    """

    def run() -> T:
        enter(netns)
        return function()

    return call_in_thread(run)
