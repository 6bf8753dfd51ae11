"""Many datagrams by one system call: recvmmsg(2) and sendmmsg(2) over memory that is kept."""

import ctypes
import mmap
import socket
from collections.abc import Sequence

SLOT_BYTES = 4096  # a longer datagram is cut, and answered FORMERR
NAME_BYTES = 28  # of a sockaddr_in6; a sockaddr_in is shorter

Datagram = tuple[bytes, bytes]  # and the peer's sockaddr

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg, _sendmmsg = _libc.recvmmsg, _libc.sendmmsg
_recvmmsg.argtypes = (
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p
)  # fmt: skip
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)

_NAME_SIZES = {socket.AF_INET: 16, socket.AF_INET6: NAME_BYTES}


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_int),  # a struct msghdr ends on a multiple of eight
        ("size", ctypes.c_uint32),
    )


class Batch:
    """Slots for datagrams of one address family, each with its peer's address.

    The address is the kernel's own form, a sockaddr: it is only handed back
    to the kernel and told apart from others (see ``packed_of``).
    """

    def __init__(self, family: int, slots: int) -> None:
        self.slots = slots
        self._name_size = _NAME_SIZES[socket.AddressFamily(family)]
        self._memory = mmap.mmap(-1, slots * SLOT_BYTES)  # a slice of it is bytes at once
        self._names = mmap.mmap(-1, slots * NAME_BYTES)
        vectors, headers = (_Vector * slots)(), (_Header * slots)()
        memory, names, first = _at(self._memory), _at(self._names), ctypes.addressof(vectors)
        for number in range(slots):
            vectors[number].base = memory + number * SLOT_BYTES
            vectors[number].length = SLOT_BYTES
            header = headers[number]
            header.name = names + number * NAME_BYTES
            header.name_size = self._name_size
            header.vectors = first + number * ctypes.sizeof(_Vector)
            header.vector_count = 1
        self._start = ctypes.addressof(headers)
        words = ctypes.sizeof(_Header) // 4
        self._sizes = memoryview(headers).cast("B").cast("I")[_Header.size.offset // 4 :: words]
        self._lengths = memoryview(vectors).cast("B").cast("Q")[1::2]

    def receive(self, fd: int) -> list[Datagram]:
        """Return the datagrams that wait, each with its sender; at most as many as slots.

        An error that an earlier reply's ICMP message left on the socket counts as none.
        """
        count = _recvmmsg(fd, self._start, self.slots, socket.MSG_DONTWAIT, None)
        if count <= 0:
            return []
        memory, names, name_size = self._memory, self._names, self._name_size
        found = []
        at = name_at = 0
        for size in self._sizes[:count].tolist():
            found.append((memory[at : at + size], names[name_at : name_at + name_size]))
            at += SLOT_BYTES
            name_at += NAME_BYTES
        return found

    def send(self, fd: int, datagrams: Sequence[Datagram]) -> None:
        """Send each, at most SLOT_BYTES; one that can't be sent is left out: its client asks again.

        A batch that receives must not send: the kernel takes the slots' sizes from here.
        """
        for first in range(0, len(datagrams), self.slots):
            self._send(fd, datagrams[first : first + self.slots])

    def _send(self, fd: int, datagrams: Sequence[Datagram]) -> None:
        memory, names, lengths, name_size = (
            self._memory, self._names, self._lengths, self._name_size
        )  # fmt: skip
        at = name_at = number = 0
        for message, peer in datagrams:
            size = len(message)
            memory[at : at + size] = message
            lengths[number] = size
            names[name_at : name_at + name_size] = peer
            at += SLOT_BYTES
            name_at += NAME_BYTES
            number += 1
        done = 0
        while done < number:
            start = self._start + done * ctypes.sizeof(_Header)
            sent = _sendmmsg(fd, start, number - done, socket.MSG_DONTWAIT)
            done += sent if sent > 0 else 1


def packed_of(peer: bytes) -> bytes:
    """Return the address in a sockaddr, as inet_pton(3) has it."""
    return peer[4:8] if len(peer) < NAME_BYTES else peer[8:24]


def _at(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
