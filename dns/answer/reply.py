"""Replies: what goes around the bytes that answer a question."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from phalanx.dns.answer.query import CLASSIC_BYTES, Edns, Query, Rcode
from phalanx.dns.answer.wire import HEADER_BYTES

MAX_UDP_BYTES = 1232  # what passes every link unfragmented (DNS flag day 2020)
MAX_TCP_BYTES = 65535
AUTHORITATIVE = 0x0400
TRUNCATED = 0x0200
RECURSION_DESIRED = 0x0100
RECURSION_AVAILABLE = 0x0080

_RESPONSE = 0x8000
_OPT_BYTES = 11


@dataclass(frozen=True, slots=True)
class Body:
    """The records of a reply, each as bytes that hold wherever they stand behind the question."""

    answers: tuple[bytes, ...] = ()
    authorities: tuple[bytes, ...] = ()
    additional: tuple[bytes, ...] = ()


def render_opt(rcode: int = 0, *, is_dnssec_ok: bool = False, options: bytes = b"") -> bytes:
    """Return our OPT record: version 0, our size, the upper bits of *rcode*, DO as it came."""
    flags = 0x8000 if is_dnssec_ok else 0
    fixed = struct.pack("!BHHBBHH", 0, 41, MAX_UDP_BYTES, rcode >> 4, 0, flags, len(options))
    return fixed + options


def render_opt_for(edns: Edns | None, rcode: int = 0) -> bytes:
    """Return the OPT record of a reply to a client that said *edns*, nothing if it said none."""
    if edns is None:
        return b""
    return render_opt(rcode, is_dnssec_ok=edns.is_dnssec_ok, options=edns.echo)


def render_error(message: bytes, rcode: int, *, flags: int = 0) -> bytes:
    """Return a bare header with *rcode* for a message whose question can't be read."""
    head = _RESPONSE | (message[2] & 0x79) << 8 | flags | rcode
    return message[:2] + struct.pack("!HHHHH", head, 0, 0, 0, 0)


def render_reply(
    query: Query, rcode: int, body: Body, *, flags: int, limit: int = MAX_TCP_BYTES
) -> bytes:
    """Return a whole reply of at most *limit* bytes.

    What does not fit goes in this order: additional records silently, then
    authorities and answers, from the last on, with the TC bit.
    """
    edns = query.edns
    opt = render_opt_for(edns, rcode)
    head = _RESPONSE | flags | (rcode & 0xF)
    if query.is_recursion_desired:
        head |= RECURSION_DESIRED
    question = query.question
    room = limit - HEADER_BYTES - len(question) - len(opt)
    answers, authorities, additional = body.answers, body.authorities, body.additional
    if not _fits(room, answers, authorities, additional):
        additional = ()
        if not _fits(room, answers, authorities):
            head |= TRUNCATED
            authorities = ()
            answers = _prefix(answers, room)
    more = len(additional) + (edns is not None)
    counts = (int(bool(question)), len(answers), len(authorities), more)
    return b"".join(
        (
            query.id,
            struct.pack("!HHHHH", head, *counts),
            question,
            *answers,
            *authorities,
            *additional,
            opt,
        )
    )


def udp_limit(edns: Edns | None) -> int:
    """Return how long a reply over UDP may be for this client."""
    return CLASSIC_BYTES if edns is None else udp_room(edns.size)


def udp_room(size: int) -> int:
    """Return how long a reply over UDP may be for a client that names *size* as its limit."""
    return min(max(size, CLASSIC_BYTES), MAX_UDP_BYTES)


def render_bad_version(query: Query) -> bytes:
    """Return the reply to an EDNS version that we do not speak."""
    return render_reply(query, Rcode.BADVERS, Body(), flags=0)


def _fits(room: int, *sections: Sequence[bytes]) -> bool:
    return sum(len(record) for section in sections for record in section) <= room


def _prefix(records: tuple[bytes, ...], room: int) -> tuple[bytes, ...]:
    for number, record in enumerate(records):
        room -= len(record)
        if room < 0:
            return records[:number]
    return records
