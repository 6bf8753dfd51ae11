"""Many datagrams by one system call: recvmmsg(2) and sendmmsg(2) over memory that is kept."""

import ctypes
import errno
import mmap
import os
import socket
from array import array
from collections.abc import Iterable, Mapping, Sequence

from phalanx.dns.answer.ready import Ready

SLOT_BYTES = 4096  # a longer datagram is cut, and answered FORMERR
NAME_BYTES = 28  # of a sockaddr_in6; a sockaddr_in is shorter

Datagram = tuple[bytes, bytes]  # and the peer's sockaddr

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg, _sendmmsg = _libc.recvmmsg, _libc.sendmmsg
_recvmmsg.argtypes = (
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p
)  # fmt: skip
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)

_NOTHING_THERE = (errno.EAGAIN, errno.EINTR)
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


_HEADER_BYTES = ctypes.sizeof(_Header)


class Batch:
    """Slots for datagrams of one address family, each with its peer's address.

    The address is the kernel's own form, a sockaddr: it is only handed back
    to the kernel and told apart from others (see ``packed_of``).
    """

    def __init__(self, family: int | None, slots: int) -> None:
        self.slots = slots
        self._name_size = 0 if family is None else _NAME_SIZES[socket.AddressFamily(family)]
        self._memory = mmap.mmap(-1, slots * SLOT_BYTES)  # a slice of it is bytes at once
        self._names = mmap.mmap(-1, slots * NAME_BYTES)
        vectors, headers = (_Vector * slots)(), (_Header * slots)()
        memory, names, first = _at(self._memory), _at(self._names), ctypes.addressof(vectors)
        for number in range(slots):
            vectors[number].base = memory + number * SLOT_BYTES
            vectors[number].length = SLOT_BYTES
            header = headers[number]
            if family is not None:
                header.name = names + number * NAME_BYTES
            header.name_size = self._name_size
            header.vectors = first + number * ctypes.sizeof(_Vector)
            header.vector_count = 1
        self._start = ctypes.addressof(headers)
        words = ctypes.sizeof(_Header) // 4
        self._sizes = memoryview(headers).cast("B").cast("I")[_Header.size.offset // 4 :: words]
        self._lengths = memoryview(vectors).cast("B").cast("Q")[1::2]
        self._whole_lengths = memoryview(array("Q", [SLOT_BYTES] * slots))

    def receive(self, fd: int) -> int:
        """Return how many datagrams were taken into the slots, as many as wait or there are slots.

        An error that an earlier reply's ICMP message left on the socket counts as none.
        """
        count: int = _recvmmsg(fd, self._start, self.slots, socket.MSG_DONTWAIT, None)
        return max(0, count)

    def datagrams(self, slots: Iterable[int]) -> list[Datagram]:
        """Return what was received into these slots, each with its sender."""
        memory, names, name_size, sizes = self._memory, self._names, self._name_size, self._sizes
        found = []
        for slot in slots:
            at, name_at = slot * SLOT_BYTES, slot * NAME_BYTES
            found.append((memory[at : at + sizes[slot]], names[name_at : name_at + name_size]))
        return found

    def reply(
        self,
        count: int,
        usual: Mapping[bytes, Ready],
        recent: Mapping[bytes, Ready],
        now: float,
    ) -> list[int]:
        """Write ready replies over the *count* datagrams received; return the slots without one.

        A reply is looked for in *usual*, then in *recent*, by all of the
        datagram but its id. The id stays where it is, and so does its sender.
        """
        memory, lengths = self._memory, self._lengths
        find, find_recent = usual.get, recent.get
        left = []
        at = 0
        for slot, size in enumerate(self._sizes[:count].tolist()):
            rest = memory[at + 2 : at + size]
            ready = find(rest) or find_recent(rest)
            if ready is None or now >= ready[0]:
                left.append(slot)
            else:
                _, cell, turns, replies = ready
                cell[0] += 1
                reply = replies[memory[at + 1] % turns]
                end = len(reply) + 2
                memory[at + 2 : at + end] = reply
                lengths[slot] = end
            at += SLOT_BYTES
        return left

    def send_back(self, fd: int, count: int, left: Sequence[int]) -> None:
        """Send what was written over the *count* datagrams received, but for the slots *left*."""
        start = 0
        for slot in left:
            if start < slot:
                self._send_slots(fd, start, slot)
            start = slot + 1
        if start < count:
            self._send_slots(fd, start, count)
        self._lengths[:count] = self._whole_lengths[:count]

    def send(self, fd: int, datagrams: Sequence[Datagram]) -> None:
        """Send each, at most SLOT_BYTES; one that can't be sent is left out: its client asks again.

        A batch that receives must not send by this: the kernel takes the slots' sizes from here.
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
        self._send_slots(fd, 0, number)

    def _send_slots(self, fd: int, first: int, last: int) -> list[int]:
        """Send the slots from *first* up to *last*; return those that can't be sent."""
        failed = []
        while first < last:
            start = self._start + first * _HEADER_BYTES
            sent = _sendmmsg(fd, start, last - first, socket.MSG_DONTWAIT)
            if sent > 0:
                first += sent
            else:
                failed.append(first)
                first += 1
        return failed


class PeerBatch(Batch):
    """Slots for datagrams of connected sockets, whose peer is known."""

    def __init__(self, slots: int) -> None:
        super().__init__(None, slots)

    def messages(self, fd: int) -> list[bytes]:
        """Return the datagrams that wait, at most as many as slots.

        Raises OSError for what an ICMP message told.
        """
        count = _recvmmsg(fd, self._start, self.slots, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in _NOTHING_THERE:
                return []
            raise OSError(code, os.strerror(code))
        memory = self._memory
        found = []
        at = 0
        for size in self._sizes[:count].tolist():
            found.append(memory[at : at + size])
            at += SLOT_BYTES
        return found

    def send_messages(self, fd: int, messages: Sequence[bytes]) -> list[int]:
        """Send each, at most SLOT_BYTES; return the numbers of those that can't be sent."""
        failed = []
        slots = self.slots
        for first in range(0, len(messages), slots):
            some = messages[first : first + slots]
            self._write(some)
            failed += [first + slot for slot in self._send_slots(fd, 0, len(some))]
            self._lengths[: len(some)] = self._whole_lengths[: len(some)]
        return failed

    def _write(self, messages: Sequence[bytes]) -> None:
        memory, lengths = self._memory, self._lengths
        at = 0
        for slot, message in enumerate(messages):
            size = len(message)
            memory[at : at + size] = message
            lengths[slot] = size
            at += SLOT_BYTES


def packed_of(peer: bytes) -> bytes:
    """Return the address in a sockaddr, as inet_pton(3) has it."""
    return peer[4:8] if len(peer) < NAME_BYTES else peer[8:24]


def _at(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
