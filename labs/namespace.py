"""Sockets and sysctls of a node, from outside its namespace."""

import socket
from collections.abc import Mapping
from pathlib import Path

from phalanx.core.netns import call_in

SYSCTLS = Path("/proc/sys")


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
