"""The table of RFC 8906 §8 as raw messages: what a server says to each, by the bytes."""

import struct
from typing import NamedTuple

import pytest

from phalanx.dns.answer.query import Rcode
from phalanx.dns.publish import ZoneTable

APEX = b"\x05mesos\x00"
SOA, AAAA, CHAOS_TXT = b"\0\6\0\1", b"\0\x1c\0\1", b"\0\x10\0\3"
TYPE1000 = b"\x03\xe8\0\1"
QR, AA, TC, RD, RA, Z, AD, CD = 0x8000, 0x400, 0x200, 0x100, 0x80, 0x40, 0x20, 0x10
DO = 0x8000


def query(
    question: bytes = APEX + SOA, *, flags: int = 0, opcode: int = 0, extra: bytes = b""
) -> bytes:
    counts = (bool(question), 0, 0, bool(extra))
    return struct.pack("!HHHHHH", 0x1234, flags | opcode << 11, *counts) + question + extra


def opt(*, size: int = 4096, version: int = 0, flags: int = 0, options: bytes = b"") -> bytes:
    fixed = struct.pack("!BHHBBHH", 0, 41, size, 0, version, flags, len(options))
    return fixed + options


def option(code: int, data: bytes = b"") -> bytes:
    return struct.pack("!HH", code, len(data)) + data


class Said(NamedTuple):
    """What a reply must say; *opt* is its OPT record's version and flags, None for none."""

    rcode: int = Rcode.NOERROR
    answers: int = 1
    flags: int = AA
    opt: tuple[int, int] | None = None


SPOKEN = Said(opt=(0, 0))
UNKNOWN = option(100, b"what")
SEVERAL = option(3) + option(100) + option(8, b"\0\1\0\0")

CASES = {
    "8.1.1-plain": (query(), Said()),
    "8.1.2-unknown-type": (query(APEX + TYPE1000), Said(answers=0)),
    "8.1.3.1-cd": (query(flags=CD), Said()),
    "8.1.3.2-ad": (query(flags=AD), Said()),
    "8.1.3.3-reserved": (query(flags=Z), Said()),
    "8.1.3.4-rd": (query(flags=RD), Said(flags=AA | RD)),
    "8.1.4-opcode": (query(b"", opcode=15), Said(Rcode.NOTIMP, 0, flags=0)),
    "8.1.4-opcode-with-question": (query(opcode=15), Said(Rcode.NOTIMP, 0, flags=0)),
    "8.2.1-edns": (query(extra=opt()), SPOKEN),
    "8.2.2-version": (query(extra=opt(version=1)), Said(Rcode.BADVERS, 0, 0, (0, 0))),
    "8.2.3-option": (query(extra=opt(options=UNKNOWN)), SPOKEN),
    "8.2.4-flag": (query(extra=opt(flags=0x40)), SPOKEN),
    "8.2.5-version-and-flag": (
        query(extra=opt(version=1, flags=0x40)),
        Said(Rcode.BADVERS, 0, 0, (0, 0)),
    ),
    "8.2.6-version-and-option": (
        query(extra=opt(version=1, options=UNKNOWN)),
        Said(Rcode.BADVERS, 0, 0, (0, 0)),
    ),
    "8.2.7-size": (query(extra=opt(size=512)), SPOKEN),
    "8.2.8-do": (query(extra=opt(flags=DO)), Said(opt=(0, DO))),
    "8.2.9-version-and-do": (
        query(extra=opt(version=1, flags=DO)),
        Said(Rcode.BADVERS, 0, 0, (0, DO)),
    ),
    "8.2.10-several-options": (query(extra=opt(options=SEVERAL)), SPOKEN),
    "missing-type": (query(APEX + AAAA), Said(answers=0)),
    "chaos": (query(APEX + CHAOS_TXT), Said(Rcode.REFUSED, 0, 0)),
    "no-question": (query(b""), Said(Rcode.FORMERR, 0, 0)),
    "no-question-but-edns": (query(b"", extra=opt()), Said(Rcode.FORMERR, 0, 0)),
}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(("message", "expected"), CASES.values(), ids=CASES)
def test_reply_says_what_it_must(
    zones: ZoneTable, message: bytes, expected: Said, transport: str
) -> None:
    table = zones.answers

    reply = table.reply(message) if transport == "udp" else table.reply_tcp(message)

    assert isinstance(reply, bytes)
    id_, flags, questions, answers, _, additional = struct.unpack_from("!HHHHHH", reply)
    opcode = struct.unpack_from("!H", message, 2)[0] & 0x7800
    found, extended = _opt_of(reply) if additional else (None, 0)
    assert id_ == 0x1234
    assert flags & 0x7FF0 == opcode | expected.flags
    assert flags & QR
    assert (extended << 4 | flags & 0xF, answers) == (expected.rcode, expected.answers)
    assert found == expected.opt
    is_read = expected.rcode not in (Rcode.FORMERR, Rcode.NOTIMP)
    assert questions == is_read
    if is_read:
        question = message[12 : 12 + len(APEX) + 4]
        assert reply[12 : 12 + len(question)] == question


def _opt_of(reply: bytes) -> tuple[tuple[int, int], int]:
    """Return version and flags of the OPT record that ends *reply*, and its extended rcode."""
    assert reply[-11:-8] == b"\0\0\x29", "an OPT record without options is the last one"
    _, extended, version, flags, length = struct.unpack("!HBBHH", reply[-8:])
    assert length == 0, "an unknown option is not echoed"
    return (version, flags), extended
