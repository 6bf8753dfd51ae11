"""Messages to and from upstreams (RFC 1035, 2308, 5452); pure."""

import struct
from typing import NamedTuple

from phalanx.dns.answer.answer import OPT, OPT_DNSSEC_OK
from phalanx.dns.answer.query import Query, Rcode
from phalanx.dns.answer.reply import RECURSION_AVAILABLE, TRUNCATED, render_opt_for
from phalanx.dns.answer.wire import HEADER_BYTES, skip_name
from phalanx.dns.zones.record import RecordType

MAX_LIFETIME_SECONDS = 3600
MAX_NEGATIVE_LIFETIME_SECONDS = 300
STALE_TTL_SECONDS = 30

_RESPONSE = 0x8000
_AUTHENTIC = 0x0020
_CHECKING_DISABLED = 0x0010
_RECURSION_DESIRED = 0x0100
_COUNTS = struct.Struct("!HHHHH")  # a header without its id
_FIXED = struct.Struct("!HHIH")
_FIXED_BYTES = _FIXED.size
_ANSWER_BYTES = 2 + _FIXED_BYTES  # of a record whose owner is a pointer, without its data
_TTL = struct.Struct("!I")
_TTL_AND_LENGTH = struct.Struct("!IH")
_GOOD = (Rcode.NOERROR, Rcode.NXDOMAIN)
_as_tuple = tuple.__new__  # half of what a named tuple's own constructor costs
_OPT, _SOA = (
    RecordType.OPT,
    RecordType.SOA,
)  # to take one out of its class costs as much as a record
# What an upstream may say without repeating the question.
_BARE = (Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED)


# What makes two queries the same for an upstream, whatever their ids and case: the query itself
# without its id, its name in lower case, and of a client's flags and EDNS only RD, CD and DO.
Key = bytes

_FLAGS_END, _START_BYTES = 2, 10  # of a key: its flags, and all that comes before the question


def make_key(question: bytes, *, flags: int = _RECURSION_DESIRED, opt: bytes = b"") -> Key:
    """Return the key of a question in lower case."""
    return _COUNTS.pack(flags, 1, 0, 0, 1 if opt else 0) + question + opt


_STARTS = {  # by RD and CD
    rd | cd: (make_key(b"", flags=rd << 8 | cd), make_key(b"", flags=rd << 8 | cd, opt=OPT)[:-11])
    for rd in (0, 1)
    for cd in (0, _CHECKING_DISABLED)
}


def key_of(query: Query) -> Key:
    """Return what the query asks of an upstream; a client's EDNS options go no further than us."""
    return key_and_question_of(query)[0]


def key_and_question_of(query: Query) -> tuple[Key, bytes]:
    """Return the key of a query, and the question in it."""
    message, end, wire, _, _, edns = query
    question = wire + message[end - 4 : end]
    plain, with_opt = _STARTS[message[2] & 1 | message[3] & _CHECKING_DISABLED]
    if edns is None:
        return plain + question, question
    opt = OPT_DNSSEC_OK if edns.is_dnssec_ok else OPT
    return with_opt + question + opt, question


def question_of(key: Key) -> bytes:
    """Return the name, type and class in *key*."""
    return key[_START_BYTES : -len(OPT)] if key[_START_BYTES - 1] else key[_START_BYTES:]


class UpstreamReply(NamedTuple):
    """An upstream's answer without its header, question and OPT record.

    Names in *records* may point at the question, so they hold only behind a
    question of the same length.
    """

    rcode: int
    flags: int  # AD and CD
    counts: tuple[int, int, int]
    records: bytes
    lifetime_seconds: int  # 0: not to be kept
    is_truncated: bool

    @property
    def is_good(self) -> bool:
        """Tell whether the upstream knew: the name's records, or that there are none."""
        return self.rcode in _GOOD


def parse_reply(message: bytes, question: bytes) -> UpstreamReply | None:
    """Return the answer in *message*, whose id is right; None if it is no whole one to *question*.

    It takes most of the time that an answer costs us, hence its shape.
    """
    if len(message) < HEADER_BYTES:
        return None
    flags, questions, answers, authorities, additional = _COUNTS.unpack_from(message, 2)
    if flags & 0xF800 != _RESPONSE:
        return None
    rcode = flags & 0xF
    is_truncated = flags & TRUNCATED != 0
    if questions == 0 and len(message) == HEADER_BYTES and rcode in _BARE:
        return UpstreamReply(rcode, 0, (0, 0, 0), b"", 0, is_truncated)
    end = HEADER_BYTES + len(question)
    asked = message[HEADER_BYTES:end]
    if questions != 1 or (asked != question and asked[:-4].lower() + asked[-4:] != question):
        return None
    records = None
    if not (authorities or additional):
        records = _parse_answers(message, end, answers)
    if records is None:
        records = _parse_records(message, end, (answers, authorities, additional))
        if records is None:
            return None
    kept, last, least, negative, extended = records
    if is_truncated or extended or (rcode and rcode not in _GOOD):
        least = 0  # not to be kept
    elif rcode or not kept[0]:
        least = min(negative, least, MAX_NEGATIVE_LIFETIME_SECONDS)
    flags &= _AUTHENTIC | _CHECKING_DISABLED
    rest = message[end:last]
    found = (rcode | extended, flags, kept, rest, least, is_truncated)
    return _as_tuple(UpstreamReply, found)


def is_good_reply(message: bytes, question: bytes) -> bool | None:
    """Tell whether *message*, whose id is right, is a good answer; None if it is none at all.

    Its records are not looked at: nobody will have them.
    """
    if len(message) < HEADER_BYTES or (message[2] & 0xF8) != 0x80:
        return None
    rcode = message[3] & 0xF
    end = HEADER_BYTES + len(question)
    asked = message[HEADER_BYTES:end]
    if asked == question or asked[:-4].lower() + asked[-4:] == question:
        return rcode in _GOOD
    return False if len(message) == HEADER_BYTES and rcode in _BARE else None


# The records of a message up to its OPT record: how many of each section; where they end; the
# least TTL; that of the SOA in the authority section, 0 without one; the upper bits of the rcode.
_Records = tuple[tuple[int, int, int], int, int, int, int]


_FEW = tuple((count, 0, 0) for count in range(16))  # one for all: thousands of answers are kept


def _parse_answers(message: bytes, at: int, count: int) -> _Records | None:
    """Walk answers whose owners are pointers alone, as they nearly always are; None for others."""
    least, size = MAX_LIFETIME_SECONDS, len(message)
    for _ in range(count):
        if at + _ANSWER_BYTES > size or message[at] < 0xC0:
            return None
        ttl, length = _TTL_AND_LENGTH.unpack_from(message, at + 6)
        if ttl < least:
            least = ttl
        elif ttl & 0x80000000:  # RFC 2181 §8
            least = 0
        at += _ANSWER_BYTES + length
    if at > size:
        return None
    return _FEW[count] if count < len(_FEW) else (count, 0, 0), at, least, 0, 0


def _parse_records(message: bytes, at: int, counts: tuple[int, int, int]) -> _Records | None:
    """Walk the records; what stands behind the OPT record is left out: it is optional."""
    least, negative, extended = MAX_LIFETIME_SECONDS, 0, 0
    kept = [0, 0, 0]
    end: int | None = None
    size = len(message)
    unpack = _FIXED.unpack_from
    for section, count in enumerate(counts):
        for _ in range(count):
            start = at
            # Nearly all owners are a pointer alone, and a query of others waits for this loop.
            after: int | None
            if at < size and message[at] >= 0xC0:  # noqa: SIM108 - shorter is slower here
                after = at + 2
            else:
                after = skip_name(message, at)
            if after is None or after + _FIXED_BYTES > size:
                return None
            type_, _, ttl, length = unpack(message, after)
            at = after + _FIXED_BYTES + length
            if at > size:
                return None
            if type_ == _OPT and section == 2:
                extended = (ttl >> 24) << 4
                end = start if end is None else end
            if end is not None:
                continue
            kept[section] += 1
            if ttl & 0x80000000:  # RFC 2181 §8
                ttl = 0
            if ttl < least:
                least = ttl
            if section == 1 and type_ == _SOA and length >= 22:
                negative = min(ttl, _TTL.unpack_from(message, at - 4)[0])
    counted = (kept[0], kept[1], kept[2])
    return counted, at if end is None else end, least, negative, extended


def render_forwarded(
    query: Query, reply: UpstreamReply, *, age_seconds: int, limit: int, is_stale: bool = False
) -> bytes:
    """Return the client's reply, its TTLs lowered by *age_seconds*; cut to nothing if too long.

    A stale one has TTLs of 30 s (RFC 8767 §4).
    """
    rcode, flags, counted, records, _, is_truncated = reply
    if age_seconds or is_stale:
        records = _aged(records, sum(counted), age_seconds, is_stale=is_stale)
    message, end, _, _, _, edns = query
    answers, authorities, additional = counted
    head = _RESPONSE | RECURSION_AVAILABLE | flags & _CHECKING_DISABLED | rcode & 0xF
    head |= (message[2] & 1) << 8  # RD as it came
    opt = b""
    if edns is not None:
        opt = render_opt_for(edns, rcode)
        additional += 1
        if edns.is_dnssec_ok:
            head |= flags & _AUTHENTIC
    if end + len(records) + len(opt) > limit or is_truncated:
        head |= TRUNCATED
        answers = authorities = 0
        additional = int(edns is not None)
        records = b""
    counts = _COUNTS.pack(head, 1, answers, authorities, additional)
    return message[:2] + counts + message[HEADER_BYTES:end] + records + opt


def _aged(records: bytes, count: int, age_seconds: int, *, is_stale: bool) -> bytes:
    aged = bytearray(records)
    at = 0
    for _ in range(count):
        after = skip_name(records, at)
        assert after is not None  # they were parsed before
        ttl, length = _TTL_AND_LENGTH.unpack_from(records, after + 4)
        _TTL.pack_into(
            aged, after + 4, STALE_TTL_SECONDS if is_stale else max(0, ttl - age_seconds)
        )
        at = after + _FIXED_BYTES + length
    return bytes(aged)
