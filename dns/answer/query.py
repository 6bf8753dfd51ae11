"""A message from a client: what it asks, or the error that it earns (RFC 1035, 6891, 9619)."""

import enum
import struct
from typing import NamedTuple

from phalanx.dns.answer.wire import (
    HEADER_BYTES,
    IN,
    MAX_LABEL_BYTES,
    MAX_NAME_BYTES,
    decode_name,
    skip_name,
)
from phalanx.dns.zones.record import RecordType

COOKIE, KEEPALIVE = 10, 11  # codes of EDNS options (RFC 7873, 7828)
_CLIENT_COOKIE_BYTES, _MAX_COOKIE_BYTES = 8, 40

MAX_RECORDS = 16  # beside the question: an OPT record, a signature, and room for what may come
MAX_OPTIONS = 64

CLASSIC_BYTES = 512  # the size of a reply to a client that names none

_OPT = RecordType.OPT  # taking it out of its class costs 0.3 µs
_HEADER = struct.Struct("!HHHHHH")
_ONE_QUESTION = b"\0\1\0\0\0\0\0\0"
_FIXED = struct.Struct("!HHIH")
_OPTION = _QUESTION = struct.Struct("!HH")
_as_tuple = tuple.__new__  # half of what a named tuple's own constructor costs


class Rcode(enum.IntEnum):
    """Response codes that we send or look for."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    NOTAUTH = 9
    BADVERS = 16
    BADCOOKIE = 23


class Edns(NamedTuple):
    """What the client's OPT record says."""

    size: int
    version: int = 0
    is_dnssec_ok: bool = False
    cookie: bytes = b""  # what the client shows
    wants_keepalive: bool = False  # it asks how long an idle connection may stay open
    echo: bytes = b""  # the options of the reply


class Query(NamedTuple):
    """One question; or none, of a client that wants a cookie only (RFC 7873 §5.4)."""

    message: bytes
    end: int  # of the question in the message
    wire: bytes  # the name in lower case; empty when there is no question
    type: int
    class_: int
    edns: Edns | None

    @property
    def id(self) -> bytes:
        """Return the first two bytes, by which the client knows its answer."""
        return self.message[:2]

    @property
    def name(self) -> str:
        """Return the name in lower case, absolute; empty when there is no question."""
        if not self.wire:
            return ""
        found = decode_name(self.wire)
        assert found is not None  # what can't be decoded is no query
        return found

    @property
    def question(self) -> bytes:
        """Return the question's own bytes, in the client's case."""
        return self.message[HEADER_BYTES : self.end]

    @property
    def is_recursion_desired(self) -> bool:
        """Tell whether RD is set."""
        return bool(self.message[2] & 1)

    @property
    def is_checking_disabled(self) -> bool:
        """Tell whether CD is set."""
        return bool(self.message[3] & 0x10)


def parse_query(message: bytes) -> Query | Rcode | None:
    """Return the question of *message*, the error to answer, or None where silence is due.

    Silence is due to what is itself an answer and to what has no whole header.
    """
    if len(message) < HEADER_BYTES or message[2] & 0x80:
        return None
    if message[2] & 0x78:
        return Rcode.NOTIMP
    plain = parse_plain(message, message[HEADER_BYTES:-4].lower())
    if plain is not None:
        return plain
    _, _, questions, *others = _HEADER.unpack_from(message)
    if not questions:
        return _parse_cookie_only(message, *others)
    at = _end_of_name(message)
    end = at + 4
    if questions != 1 or not at or end > len(message):
        return Rcode.FORMERR
    type_, class_ = _QUESTION.unpack_from(message, at)
    if type_ == _OPT:
        return Rcode.FORMERR
    if sum(others) > MAX_RECORDS:  # reading them would cost more than any answer
        return Rcode.FORMERR
    edns = _parse_rest(message, end, *others)
    if isinstance(edns, Rcode):
        return edns
    return Query(message, end, message[HEADER_BYTES:at].lower(), type_, class_, edns)


def parse_plain(message: bytes, wire: bytes) -> Query | None:
    """Return the question of *message* if it is a query and nothing but one question, as most are.

    *wire* is what stands before the last four bytes of the question, in lower case.
    """
    at, end = HEADER_BYTES + len(wire), len(message)
    if end != at + 4 or message[4:HEADER_BYTES] != _ONE_QUESTION or message[2] & 0xF8:
        return None
    label, last = 0, len(wire) - 1
    while label < last:
        length = wire[label]
        if not 0 < length <= MAX_LABEL_BYTES:
            return None
        label += 1 + length
    if label != last or last >= MAX_NAME_BYTES or wire[last]:
        return None
    type_, class_ = _QUESTION.unpack_from(message, at)
    if type_ == _OPT:
        return None
    return _as_tuple(Query, (message, end, wire, type_, class_, None))


def _parse_cookie_only(
    message: bytes, answers: int, authorities: int, additional: int
) -> Query | Rcode:
    if answers or authorities or additional != 1:
        return Rcode.FORMERR
    edns = _parse_rest(message, HEADER_BYTES, 0, 0, 1)
    if not isinstance(edns, Edns) or not edns.cookie:
        return Rcode.FORMERR
    return Query(message, HEADER_BYTES, b"", 0, IN, edns)


def _end_of_name(message: bytes) -> int:
    """Return where the question's name ends, 0 when it is none or compressed."""
    at = HEADER_BYTES
    try:
        while length := message[at]:
            if length > MAX_LABEL_BYTES:
                return 0
            at += 1 + length
    except IndexError:
        return 0
    return at + 1 if at + 1 - HEADER_BYTES <= MAX_NAME_BYTES else 0


def _parse_rest(
    message: bytes, at: int, answers: int, authorities: int, additional: int
) -> Edns | Rcode | None:
    """Return the OPT record behind the question, None if there is none, or FORMERR."""
    edns: Edns | None = None
    before = answers + authorities
    for number in range(before + additional):
        owner = at
        after = skip_name(message, at)
        if after is None or after + _FIXED.size > len(message):
            return Rcode.FORMERR
        type_, size, ttl, length = _FIXED.unpack_from(message, after)
        at = after + _FIXED.size + length
        if at > len(message):
            return Rcode.FORMERR
        if type_ != _OPT:
            continue
        is_well_placed = number >= before and after == owner + 1 and edns is None
        options = _parse_options(message, at - length, at)
        if not is_well_placed or options is None:
            return Rcode.FORMERR
        edns = Edns(size, ttl >> 16 & 0xFF, bool(ttl & 0x8000), *options)
    return edns if at == len(message) else Rcode.FORMERR


def _parse_options(message: bytes, at: int, end: int) -> tuple[bytes, bool] | None:
    """Return the first cookie, empty without one, and whether there is a keepalive.

    None for what is malformed.
    """
    cookie, wants_keepalive = b"", False
    for _ in range(MAX_OPTIONS):
        if at + _OPTION.size > end:
            break
        code, length = _OPTION.unpack_from(message, at)
        at += _OPTION.size + length
        if code == KEEPALIVE:
            wants_keepalive = True
        if code == COOKIE and not cookie:
            cookie = message[at - length : at]
            if length != _CLIENT_COOKIE_BYTES and not 16 <= length <= _MAX_COOKIE_BYTES:
                return None
    return (cookie, wants_keepalive) if at == end else None
