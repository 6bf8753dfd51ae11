"""The elements of nftables sets as the kernel holds them: bytes, by netlink.

Through the library a listing of 100,000 elements takes seconds, most of them to
spell each out as JSON and to read that again.
"""

import errno
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from phalanx.net.rtnl.attribute import decode_attributes, encode_attribute
from phalanx.net.rtnl.conversation import Conversation

GETSETELEM = (10 << 8) + 13
NETLINK_NETFILTER = 12
INET = 1
# linux/netfilter/nf_tables.h: attributes of a list, of an element, of a datum.
LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 2, 3
KEY, DATA, FLAGS, EXPRESSION = 1, 2, 3, 7
INTERVAL_END = 1  # of the flags: the element is where an interval ends, the first key after it
EXPRESSION_NAME, EXPRESSION_DATA = 1, 2
COUNTER, COUNTER_BYTES, COUNTER_PACKETS = b"counter\0", 1, 2
TYPE_MASK = 0x3FFF

# How deep the count of an element lies: its attribute begins with the name of the expression.
_COUNTER_NAME = struct.Struct("=HH8s")
_COUNT = struct.Struct("!Q")

Raw = tuple[bytes, bytes]  # key and value, as in the kernel's registers; a set's value is empty
Count = tuple[bytes, int, int]  # key, packets, bytes
Bound = tuple[bytes, bool]  # key, whether an interval ends there
Interval = tuple[bytes, bytes]  # first key and the first after it, empty behind the last of all
T = TypeVar("T", Raw, Count, Bound)

_ATTRIBUTE = struct.Struct("=HH")
_FAMILY_BYTES = 4
_unpack = _ATTRIBUTE.unpack_from


def dump_elements(table: str, sets: Iterable[str]) -> dict[str, list[Raw]] | None:
    """Return the elements of *sets* in a table of family inet; None when one is not there.

    Of the calling thread's network namespace. Raises OSError when the kernel refuses.
    """
    return _dumped(table, sets, decode_elements)


def dump_counts(table: str, sets: Iterable[str]) -> dict[str, list[Count]] | None:
    """Return keys, packets and bytes of *sets* whose elements have counters; as dump_elements."""
    return _dumped(table, sets, decode_counts)


def dump_intervals(table: str, sets: Iterable[str]) -> dict[str, list[Interval]] | None:
    """Return the intervals of *sets* of one field, in order; as dump_elements."""
    found = _dumped(table, sets, decode_bounds)
    return None if found is None else {name: list(intervals(each)) for name, each in found.items()}


def intervals(bounds: Iterable[Bound]) -> Iterator[Interval]:
    """Yield the intervals between bounds in any order; where one ends, another may begin; pure."""
    first: bytes | None = None
    for key, is_end in sorted(bounds, key=lambda each: (each[0], not each[1])):
        if first is not None:
            yield first, key
        first = None if is_end else key
    if first is not None:
        yield first, b""


def _dumped(
    table: str, sets: Iterable[str], decode: Callable[[bytes], Iterator[T]]
) -> dict[str, list[T]] | None:
    found: dict[str, list[T]] = {}
    with Conversation(NETLINK_NETFILTER) as conversation:
        for name in sets:
            try:
                answers = conversation.dump(GETSETELEM, _question(table, name))
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return None
                raise
            found[name] = [each for answer in answers for each in decode(answer)]
    return found


def decode_elements(answer: bytes) -> Iterator[Raw]:
    """Yield the elements of one message; pure."""
    for offset, end in _lists(answer):
        yield from _elements(answer, offset, end)


def decode_counts(answer: bytes) -> Iterator[Count]:
    """Yield keys of one message's elements, their packets and bytes, 0 without counter; pure."""
    for begin, end in _lists(answer):
        offset = begin
        while offset < end:
            length, _ = _unpack(answer, offset)
            key, counted = b"", (0, 0)
            at, until = offset + 4, offset + length
            while at < until:
                size, kind = _unpack(answer, at)
                kind &= TYPE_MASK
                if kind == KEY:
                    key = answer[at + 8 : at + size]
                elif kind == EXPRESSION:
                    counted = _counted(answer, at + 4, at + size)
                at += (size + 3) & ~3
            yield key, *counted
            offset += (length + 3) & ~3


def decode_bounds(answer: bytes) -> Iterator[Bound]:
    """Yield the keys of one message's elements, and whether intervals end there; pure."""
    for begin, end in _lists(answer):
        for _, element in decode_attributes(answer[begin:end]):
            attributes = dict(decode_attributes(element))
            flags = int.from_bytes(attributes.get(FLAGS, b""), "big")
            yield attributes.get(KEY, b"")[4:], bool(flags & INTERVAL_END)


def _counted(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return packets and bytes of the expression that lies there, 0 if it is no counter."""
    _, kind, name = _COUNTER_NAME.unpack_from(data, at)
    if kind & TYPE_MASK != EXPRESSION_NAME or name != COUNTER:
        return 0, 0
    at += _COUNTER_NAME.size + _ATTRIBUTE.size  # into the expression's data
    packets = size_bytes = 0
    while at < end:
        size, kind = _unpack(data, at)
        if kind & TYPE_MASK == COUNTER_PACKETS:
            packets = _COUNT.unpack_from(data, at + 4)[0]
        elif kind & TYPE_MASK == COUNTER_BYTES:
            size_bytes = _COUNT.unpack_from(data, at + 4)[0]
        at += (size + 3) & ~3
    return packets, size_bytes


def _lists(answer: bytes) -> Iterator[tuple[int, int]]:
    """Yield where lists of elements begin and end in a message."""
    offset, end = _FAMILY_BYTES, len(answer)
    while offset < end:
        length, kind = _unpack(answer, offset)
        if kind & TYPE_MASK == LIST_ELEMENTS:
            yield offset + 4, offset + length
        offset += (length + 3) & ~3


def _elements(data: bytes, offset: int, end: int) -> Iterator[Raw]:
    while offset < end:
        length, _ = _unpack(data, offset)
        key = value = b""
        at, until = offset + 4, offset + length
        while at < until:
            size, kind = _unpack(data, at)
            kind &= TYPE_MASK
            # The key and the datum lie in an attribute within the attribute.
            if kind == KEY:
                key = data[at + 8 : at + size]
            elif kind == DATA:
                value = data[at + 8 : at + size]
            at += (size + 3) & ~3
        yield key, value
        offset += (length + 3) & ~3


def _question(table: str, name: str) -> bytes:
    return (
        struct.pack("=BBH", INET, socket.AF_UNSPEC, 0)
        + encode_attribute(LIST_TABLE, table.encode() + b"\0")
        + encode_attribute(LIST_SET, name.encode() + b"\0")
    )
