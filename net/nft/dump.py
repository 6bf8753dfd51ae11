"""The elements of nftables sets as the kernel holds them: bytes, by netlink.

Through the library a listing of 100,000 elements takes seconds, most of them to
spell each out as JSON and to read that again.
"""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator

from phalanx.net.rtnl.attribute import encode_attribute
from phalanx.net.rtnl.conversation import Conversation

GETSETELEM = (10 << 8) + 13
NETLINK_NETFILTER = 12
INET = 1
# linux/netfilter/nf_tables.h: attributes of a list, of an element, of a datum.
LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 2, 3
KEY, DATA = 1, 2
TYPE_MASK = 0x3FFF

Raw = tuple[bytes, bytes]  # key and value, as in the kernel's registers; a set's value is empty

_ATTRIBUTE = struct.Struct("=HH")
_FAMILY_BYTES = 4
_unpack = _ATTRIBUTE.unpack_from


def dump_elements(table: str, sets: Iterable[str]) -> dict[str, list[Raw]] | None:
    """Return the elements of *sets* in a table of family inet; None when one is not there.

    Of the calling thread's network namespace. Raises OSError when the kernel refuses.
    """
    found: dict[str, list[Raw]] = {}
    with Conversation(NETLINK_NETFILTER) as conversation:
        for name in sets:
            try:
                answers = conversation.dump(GETSETELEM, _question(table, name))
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return None
                raise
            found[name] = [raw for answer in answers for raw in decode_elements(answer)]
    return found


def decode_elements(answer: bytes) -> Iterator[Raw]:
    """Yield the elements of one message; pure."""
    offset, end = _FAMILY_BYTES, len(answer)
    while offset < end:
        length, kind = _unpack(answer, offset)
        if kind & TYPE_MASK == LIST_ELEMENTS:
            yield from _elements(answer, offset + 4, offset + length)
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
