"""What a table of nftables consists of besides its elements, as the kernel holds it, by netlink.

The library reads every element even for a listing without them.
"""

import errno
import socket
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping

from phalanx.net.nft.dump import INET, NETLINK_NETFILTER
from phalanx.net.rtnl.attribute import decode_attributes, encode_attribute
from phalanx.net.rtnl.conversation import Conversation

# linux/netfilter/nf_tables.h: the dumps, and of each the attributes that tell no structure:
# numbers that the kernel gives, and counts.
_SUBSYSTEM = 10 << 8
GETTABLE = _SUBSYSTEM + 1
GETCHAIN, GETRULE, GETSET = _SUBSYSTEM + 4, _SUBSYSTEM + 7, _SUBSYSTEM + 10
TABLE = 1  # in all of them
VOLATILE: Mapping[int, frozenset[int]] = {
    GETCHAIN: frozenset({2, 6, 8}),  # handle, use, counters
    GETRULE: frozenset({3, 6}),  # handle, position
    GETSET: frozenset({10, 16, 20}),  # id, handle, count of elements
}
_FAMILY_BYTES = 4


def read_structure(table: str) -> int | None:
    """Return a number that tells a table of family inet from others; None when there is none.

    Of the calling thread's network namespace. Raises OSError when the kernel refuses.
    """
    header = struct.pack("=BBH", INET, socket.AF_UNSPEC, 0)
    question = header + encode_attribute(TABLE, table.encode() + b"\0")
    with Conversation(NETLINK_NETFILTER) as conversation:
        try:
            conversation.answers(GETTABLE, question)
            answers = {kind: conversation.dump(kind, question) for kind in VOLATILE}
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
    parts = {kind: list(parts_of(table, kind, each)) for kind, each in answers.items()}
    return zlib.crc32(repr(sorted(parts.items())).encode())


def parts_of(table: str, kind: int, answers: Iterable[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """Yield what tells of each chain, rule or set of a table; pure."""
    name = table.encode() + b"\0"
    for answer in answers:
        attributes = list(decode_attributes(answer[_FAMILY_BYTES:]))
        if (TABLE, name) in attributes:
            yield [each for each in attributes if each[0] not in VOLATILE[kind]]
