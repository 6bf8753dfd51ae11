"""Network namespaces of containers: make, hold by a bind mount, open sockets in, let go.

Each change of namespace happens in a thread that ends with it, so that no
other code can ever find itself in the wrong network.
"""

import errno
import fcntl
import os
import socket
import struct
from functools import partial
from pathlib import Path

from phalanx.core.error import ContainerError
from phalanx.core.netns import CLONE_NEWNET, call_in, call_in_thread, system_call

MS_BIND = 0x1000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MNT_DETACH = 2
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
OWN = Path("/proc/thread-self/ns/net")


def make_network(path: Path) -> None:
    """Make a network namespace with ``lo`` up and hold it at *path*; raise ContainerError."""

    def make() -> None:
        system_call("unshare", CLONE_NEWNET)
        _raise_loopback()
        system_call("mount", os.fsencode(OWN), os.fsencode(path), None, MS_BIND, None)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        call_in_thread(make)
    except OSError as error:
        raise ContainerError(f"network namespace {path}: {error}") from error


def hold_network(path: Path, pid: int) -> None:
    """Hold the network namespace of a process at *path*; raise ContainerError.

    IPv6 is turned on in it, which an engine leaves off where it has no network itself.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        source = os.fsencode(f"/proc/{pid}/ns/net")
        system_call("mount", source, os.fsencode(path), None, MS_BIND, None)
        call_in(path, _allow_ipv6)
    except OSError as error:
        raise ContainerError(f"network namespace {path}: {error}") from error


def _allow_ipv6() -> None:
    for place in ("all", "default", "lo"):
        switch = Path(f"/proc/sys/net/ipv6/conf/{place}/disable_ipv6")
        if switch.exists():
            switch.write_text("0")


def make_memory_disk(path: Path, size_bytes: int) -> None:
    """Mount a file system in memory at *path*, as a ``/dev/shm``; raise OSError."""
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    options = f"mode=1777,size={size_bytes}".encode()
    system_call("mount", b"shm", os.fsencode(path), b"tmpfs", flags, options)


def release_network(path: Path) -> None:
    """Let go of the namespace held at *path*, if there is one, and remove the file."""
    release_mount(path)
    path.unlink(missing_ok=True)


def release_mount(path: Path) -> None:
    """Unmount whatever is mounted on *path*; nothing there is fine."""
    while True:
        try:
            system_call("umount2", os.fsencode(path), MNT_DETACH)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def open_socket(
    network: Path | None, family: socket.AddressFamily = socket.AF_INET
) -> socket.socket:
    """Open a TCP socket that lives in the namespace at *network*, or in our own; raise OSError."""
    if network is None:
        return _tcp_socket(family)
    return call_in(network, partial(_tcp_socket, family))


def _tcp_socket(family: socket.AddressFamily) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setblocking(False)
    return opened


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
