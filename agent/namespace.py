"""Network namespaces of containers: make, hold by a bind mount, open sockets in, let go.

Each change of namespace happens in a thread that ends with it, so that no
other code can ever find itself in the wrong network.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from phalanx.core.error import ContainerError

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
OWN = Path("/proc/thread-self/ns/net")


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc(), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _in_thread(work: Callable[[], T]) -> T:
    """Run *work* in a thread of its own and return what it returns."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def make_network(path: Path) -> None:
    """Make a network namespace with ``lo`` up and hold it at *path*; raise ContainerError."""

    def enter() -> None:
        _call("unshare", CLONE_NEWNET)
        _raise_loopback()
        _call("mount", os.fsencode(OWN), os.fsencode(path), None, MS_BIND, None)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        _in_thread(enter)
    except OSError as error:
        raise ContainerError(f"network namespace {path}: {error}") from error


def release_network(path: Path) -> None:
    """Let go of the namespace held at *path*, if there is one, and remove the file."""
    release_mount(path)
    path.unlink(missing_ok=True)


def release_mount(path: Path) -> None:
    """Unmount whatever is mounted on *path*; nothing there is fine."""
    while True:
        try:
            _call("umount2", os.fsencode(path), MNT_DETACH)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def open_socket(network: Path | None) -> socket.socket:
    """Open a TCP socket that lives in the namespace at *network*, or in our own; raise OSError."""
    if network is None:
        return _tcp_socket()
    target = network

    def enter() -> socket.socket:
        descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("setns", descriptor, CLONE_NEWNET)
        finally:
            os.close(descriptor)
        return _tcp_socket()

    return _in_thread(enter)


def _tcp_socket() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setblocking(False)
    return opened


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
