"""Tell who changed a table, without listing it.

A listing costs seconds when there are 10,000 services. The kernel notifies of
each change with the table's name and the netlink port of its writer before
the writer has its answer. So an earlier listing with our own changes on top is
still the truth while no other writer was notified.
"""

import errno
import socket
import struct

NETLINK_NETFILTER = 12
NETLINK_ADD_MEMBERSHIP = 1
NFNLGRP_NFTABLES = 7
SOL_NETLINK = 270
SO_RCVBUFFORCE = 33

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port of the writer
BUFFER_BYTES = 4 << 20
DATAGRAM_BYTES = 1 << 17

LOST = 0  # stands for any writer when news were lost; no socket of a process has this port


class TableWatch:
    """The news of some tables in the namespace that the watch was opened in."""

    def __init__(self, *tables: str) -> None:
        """Start watching the tables of these names; needs CAP_NET_ADMIN."""
        self._names = {table.encode() + b"\0": table for table in tables}
        self._news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._news.setblocking(False)
        self._news.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._news.bind((0, 0))
        self._news.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is news, of whatever table."""
        return self._news.fileno()

    def writers(self) -> frozenset[int]:
        """Return the netlink ports that changed one of the tables since the last call."""
        return frozenset(port for _, port in self.changes())

    def changes(self) -> frozenset[tuple[str, int]]:
        """Return which tables changed since the last call, and the netlink ports of who did it.

        Of all tables when news were lost, by LOST.
        """
        found: set[tuple[str, int]] = set()
        while True:
            try:
                # One datagram never holds more than one transaction.
                datagram = self._news.recv(DATAGRAM_BYTES)
            except BlockingIOError:
                return frozenset(found)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.update((name, LOST) for name in self._names.values())
            else:
                port = HEADER.unpack_from(datagram)[4]
                found.update((name, port) for raw, name in self._names.items() if raw in datagram)

    def close(self) -> None:
        """Stop watching."""
        self._news.close()
