"""Doing something in another network namespace without leaving one's own."""

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
SYSCTLS = Path("/proc/sys")


def call_in(netns: Path, function: Callable[[], T]) -> T:
    """Call *function* in the network namespace kept at *netns*; return what it returned.

    It runs in a thread of its own, for a thread can be in another namespace than
    its process. Sockets and descriptors opened there stay there. Raises what
    *function* raises, and OSError when there is no such namespace.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            _enter(netns)
            results.append(function())
        except Exception as error:  # noqa: BLE001 - carried over to the caller and raised there
            errors.append(error)

    thread = threading.Thread(target=run, name=f"in-{netns.name}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter(netns: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(netns))
    finally:
        os.close(descriptor)


def tcp_socket(netns: Path | None) -> socket.socket:
    """Return a TCP socket that lives in the namespace kept at *netns*, or in this one."""
    if netns is None:
        return socket.socket()
    return call_in(netns, socket.socket)


def write_sysctls(netns: Path, sysctls: Mapping[str, str]) -> None:
    """Set sysctls of the namespace kept at *netns*; one that this kernel lacks is left out."""

    def write() -> None:
        for key, value in sysctls.items():
            path = SYSCTLS / key.replace(".", "/")
            if path.exists():
                path.write_text(value)

    call_in(netns, write)
