"""Which netlink ports are of this process: those of its sockets that stay open."""

import os
import re
from contextlib import suppress
from pathlib import Path

TABLE = Path("/proc/thread-self/net/netlink")
FILES = Path("/proc/self/fd")
_SOCKET = re.compile(r"socket:\[(\d+)\]")


class OwnPorts:
    """The ports of one netlink *family* in the calling thread's network namespace.

    A port that was ours once stays so: whoever uses this keeps his sockets open.
    """

    def __init__(self, family: int) -> None:
        self._family = str(family)
        self._known: frozenset[int] = frozenset()

    def __contains__(self, port: int) -> bool:
        if port and port not in self._known:
            self._known |= self._ports()
        return port in self._known

    def _ports(self) -> frozenset[int]:
        inodes = set()
        for file in FILES.iterdir():
            with suppress(OSError):  # closed meanwhile
                if found := _SOCKET.match(os.readlink(file)):
                    inodes.add(found[1])
        rows = (line.split() for line in TABLE.read_text().splitlines()[1:])
        return frozenset(
            int(row[2]) for row in rows if row[1] == self._family and row[-1] in inodes
        )
