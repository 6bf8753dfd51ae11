"""Requests to netlink, rtnetlink by default, and its answers, a hundred at a time."""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ERROR = struct.Struct("=i")

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x4, 0x300, 0x10
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400

SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK = 270, 10, 12

BATCH = 100  # requests under way at once: a refusal of each fits the socket's buffer
READ_BYTES = 1 << 18
TIMEOUT_SECONDS = 10.0
ATTEMPTS = 5
PORT_BITS = 22  # of a port are the process' id, which is never longer
_LOW_BITS = (1 << PORT_BITS) - 1


@dataclass(frozen=True, slots=True)
class Request:
    """One request: message type, flags besides REQUEST and ACK, and its payload."""

    kind: int
    flags: int
    payload: bytes


def is_own(port: int) -> bool:
    """Tell whether a port, such as notifications name, is that of a Conversation of this process.

    The kernel gives ports of its own choice from the other end of the range.
    """
    return port >> PORT_BITS != 0 and port & _LOW_BITS == _own_bits()


def _own_bits() -> int:
    return os.getpid() & _LOW_BITS


class Conversation:
    """A socket of one netlink *family* in the calling thread's network namespace."""

    def __init__(self, family: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family
        )
        self._socket.settimeout(TIMEOUT_SECONDS)
        for option in (NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        self._bind()
        self._sequence = 0

    def _bind(self) -> None:
        """Take a port that ``is_own`` knows, or any when all are taken."""
        for number in range(1, 1 << 10):
            try:
                self._socket.bind((number << PORT_BITS | _own_bits(), 0))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return
        self._socket.bind((0, 0))

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, requests: Sequence[Request]) -> list[int]:
        """Send *requests* in order; return the error number of each, 0 where there was none."""
        results: list[int] = []
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            refusals = self._refusals([(each.kind, each.flags, each.payload) for each in batch])
            results += [refusals.get(place, 0) for place in range(len(batch))]
        return results

    def tell(self, kind: int, payloads: Sequence[bytes]) -> dict[int, int]:
        """Send requests of one *kind* in order; return the error number of each refused."""
        found: dict[int, int] = {}
        for start in range(0, len(payloads), BATCH):
            batch = [(kind, 0, payload) for payload in payloads[start : start + BATCH]]
            found |= {start + place: each for place, each in self._refusals(batch).items()}
        return found

    def answers(self, kind: int, payload: bytes) -> list[bytes]:
        """Return the payloads that answer a question about one thing; raises OSError."""
        self._socket.send(self._packet(kind, NLM_F_ACK, payload))
        found: list[bytes] = []
        while True:
            for answer, _, sequence, data in _messages(self._socket.recv(READ_BYTES)):
                if sequence != self._sequence:
                    continue
                if answer == NLMSG_ERROR:
                    if number := -_ERROR.unpack_from(data)[0]:
                        raise OSError(number, os.strerror(number))
                    return found
                found.append(data)

    def dump(self, kind: int, payload: bytes) -> list[bytes]:
        """Return the payloads that a dump of *kind* answers, all of one moment.

        Raises OSError when the kernel refuses, or the table never holds still.
        """
        for _ in range(ATTEMPTS):
            found = self._dump(kind, payload)
            if found is not None:
                return found
        raise OSError(errno.EINTR, "the table changed during each of our dumps")

    def _refusals(self, batch: Sequence[tuple[int, int, bytes]]) -> dict[int, int]:
        """Send kinds, flags and payloads at once; return the error numbers of the refused by place.

        The kernel answers what it refuses without being asked to, in order, so only
        the last one asks for an answer: with it all is told.
        """
        first, size, pack = self._sequence + 1, HEADER.size, HEADER.pack
        last = self._sequence = self._sequence + len(batch)
        packets: list[bytes] = []
        for sequence, (kind, flags, payload) in enumerate(batch, first):
            flags |= NLM_F_REQUEST if sequence < last else NLM_F_REQUEST | NLM_F_ACK
            packets += (pack(size + len(payload), kind, flags, sequence, 0), payload)
        self._socket.send(b"".join(packets))
        found: dict[int, int] = {}
        while True:
            for kind, _, sequence, data in _messages(self._socket.recv(READ_BYTES)):
                if kind != NLMSG_ERROR or sequence < first:
                    continue
                if number := -_ERROR.unpack_from(data)[0]:
                    found[sequence - first] = number
                if sequence == last:
                    return found

    def _dump(self, kind: int, payload: bytes) -> list[bytes] | None:
        self._socket.send(self._packet(kind, NLM_F_DUMP, payload))
        found: list[bytes] = []
        is_torn = False
        while True:
            for answer, flags, sequence, data in _messages(self._socket.recv(READ_BYTES)):
                if sequence != self._sequence:
                    continue
                is_torn |= bool(flags & NLM_F_DUMP_INTR)
                if answer == NLMSG_DONE:
                    return None if is_torn else found
                if answer == NLMSG_ERROR:
                    number = -_ERROR.unpack_from(data)[0]
                    raise OSError(number, os.strerror(number))
                found.append(data)

    def _packet(self, kind: int, flags: int, payload: bytes) -> bytes:
        self._sequence += 1
        length = HEADER.size + len(payload)
        return HEADER.pack(length, kind, flags | NLM_F_REQUEST, self._sequence, 0) + payload


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3
