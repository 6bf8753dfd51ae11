"""What a table of nftables consists of besides its elements, as the kernel holds it, by netlink.

The library reads every element even for a listing without them.
"""

import errno
import socket
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping

from phalanx.net.nft.dump import (
    COUNTER,
    EXPRESSION_DATA,
    EXPRESSION_NAME,
    INET,
    NETLINK_NETFILTER,
    dump_elements,
)
from phalanx.net.rtnl.attribute import decode_attributes, encode_attribute
from phalanx.net.rtnl.conversation import Conversation

# linux/netfilter/nf_tables.h: the dumps, and of each the attributes that tell no structure:
# numbers that the kernel gives, and counts.
_SUBSYSTEM = 10 << 8
GETTABLE = _SUBSYSTEM + 1
GETCHAIN, GETRULE, GETSET = _SUBSYSTEM + 4, _SUBSYSTEM + 7, _SUBSYSTEM + 10
TABLE = 1  # in all of them
RULE_EXPRESSIONS, LOOKUP_SET = 4, 1
SET_NAME, SET_FLAGS, ANONYMOUS = 2, 3, 1
LOOKUP = b"lookup\0"
VOLATILE: Mapping[int, frozenset[int]] = {
    GETCHAIN: frozenset({2, 6, 8}),  # handle, use, counters
    GETRULE: frozenset({3, 6}),  # handle, position
    GETSET: frozenset({10, 16, 20}),  # id, handle, count of elements
}
_RULE = (GETRULE, RULE_EXPRESSIONS)
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
    held = dump_elements(table, [name[:-1].decode() for name in unnamed(table, answers[GETSET])])
    if held is None:
        return None  # it went just now
    names = {f"{name}\0".encode(): repr(sorted(each)).encode() for name, each in held.items()}
    parts = {kind: list(parts_of(table, kind, each, names)) for kind, each in answers.items()}
    return zlib.crc32(repr([(kind, sorted(each)) for kind, each in parts.items()]).encode())


def unnamed(table: str, answers: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the names of the sets that rules of a table have to themselves; pure.

    The kernel numbers them as they come: what tells one from another is what it holds.
    """
    for attributes in _of_table(table, answers):
        if int.from_bytes(attributes.get(SET_FLAGS, b""), "big") & ANONYMOUS:
            yield attributes[SET_NAME]


def parts_of(
    table: str, kind: int, answers: Iterable[bytes], names: Mapping[bytes, bytes] | None = None
) -> Iterator[list[tuple[int, object]]]:
    """Yield what tells of each chain, rule or set of a table; pure.

    *names* says by what to call sets that have no names of their own.
    """
    names = names or {}
    for attributes in _of_table(table, answers):
        if kind == GETSET:
            attributes[SET_NAME] = names.get(attributes[SET_NAME], attributes[SET_NAME])
        yield [
            (each, list(_expressions(data, names)) if (kind, each) == _RULE else data)
            for each, data in attributes.items()
            if each not in VOLATILE[kind]
        ]


def _of_table(table: str, answers: Iterable[bytes]) -> Iterator[dict[int, bytes]]:
    name = table.encode() + b"\0"
    for answer in answers:
        attributes = dict(decode_attributes(answer[_FAMILY_BYTES:]))
        if attributes.get(TABLE) == name:
            yield attributes


def _expressions(data: bytes, names: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, object]]:
    """Yield a rule's expressions: without what its counters say, its own sets by what they hold."""
    for _, expression in decode_attributes(data):
        attributes = dict(decode_attributes(expression))
        name, rest = attributes[EXPRESSION_NAME], attributes.get(EXPRESSION_DATA, b"")
        if name == COUNTER:
            yield name, b""
        elif name == LOOKUP:
            inner = dict(decode_attributes(rest))
            inner[LOOKUP_SET] = names.get(inner[LOOKUP_SET], inner[LOOKUP_SET])
            yield name, sorted(inner.items())
        else:
            yield name, rest
