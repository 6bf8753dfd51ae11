"""Messages to and from upstreams (RFC 1035, 2308, 5452); pure."""

import struct
from typing import NamedTuple

from phalanx.dns.answer.query import Query, Rcode
from phalanx.dns.answer.reply import RECURSION_AVAILABLE, TRUNCATED, render_opt, render_opt_for
from phalanx.dns.answer.wire import HEADER_BYTES, skip_name
from phalanx.dns.zones.record import RecordType

MAX_LIFETIME_SECONDS = 3600
MAX_NEGATIVE_LIFETIME_SECONDS = 300
STALE_TTL_SECONDS = 30

_RESPONSE = 0x8000
_AUTHENTIC = 0x0020
_CHECKING_DISABLED = 0x0010
_RECURSION_DESIRED = 0x0100
_HEADER = struct.Struct("!HHHHHH")
_FIXED = struct.Struct("!HHIH")
_TTL = struct.Struct("!I")
_GOOD = (Rcode.NOERROR, Rcode.NXDOMAIN)
_OPT, _SOA = (
    RecordType.OPT,
    RecordType.SOA,
)  # to take one out of its class costs as much as a record
# What an upstream may say without repeating the question.
_BARE = (Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED)


class Key(NamedTuple):
    """What makes two queries the same for an upstream, whatever their ids and case."""

    question: bytes  # lower case name, type, class
    flags: int  # RD and CD
    has_edns: bool
    is_dnssec_ok: bool


def key_of(query: Query) -> Key:
    """Return what the query asks of an upstream."""
    question = query.question
    flags = _RECURSION_DESIRED if query.is_recursion_desired else 0
    if query.is_checking_disabled:
        flags |= _CHECKING_DISABLED
    edns = query.edns
    return Key(
        query.wire + question[-4:], flags, edns is not None, edns is not None and edns.is_dnssec_ok
    )


def render_query(key: Key, id_: int) -> bytes:
    """Return the message that asks an upstream; options of a client go no further than us."""
    header = struct.pack("!HHHHHH", id_, key.flags, 1, 0, 0, int(key.has_edns))
    opt = render_opt(is_dnssec_ok=key.is_dnssec_ok) if key.has_edns else b""
    return header + key.question + opt


class UpstreamReply(NamedTuple):
    """An upstream's answer without its header, question and OPT record.

    Names in *records* may point at the question, so they hold only behind a
    question of the same length.
    """

    rcode: int
    flags: int  # AD and CD
    counts: tuple[int, int, int]
    records: bytes
    ttl_offsets: tuple[int, ...]
    lifetime_seconds: int  # 0: not to be kept
    is_truncated: bool

    @property
    def is_good(self) -> bool:
        """Tell whether the upstream knew: the name's records, or that there are none."""
        return self.rcode in _GOOD


def parse_reply(message: bytes, key: Key, id_: int) -> UpstreamReply | None:
    """Return the answer in *message*, or None when it is no whole answer to what was asked."""
    if len(message) < HEADER_BYTES:
        return None
    got, flags, questions, *counts = _HEADER.unpack_from(message)
    if got != id_ or not flags & _RESPONSE or flags & 0x7800:
        return None
    rcode = flags & 0xF
    is_truncated = bool(flags & TRUNCATED)
    if questions == 0 and len(message) == HEADER_BYTES and rcode in _BARE:
        return UpstreamReply(rcode, 0, (0, 0, 0), b"", (), 0, is_truncated)
    end = HEADER_BYTES + len(key.question)
    asked = message[HEADER_BYTES:end]
    if questions != 1 or asked[:-4].lower() + asked[-4:] != key.question:
        return None
    records = _parse_records(message, end, counts)
    if records is None:
        return None
    return UpstreamReply(
        rcode | records.extended_rcode,
        flags & (_AUTHENTIC | _CHECKING_DISABLED),
        records.counts,
        message[end : records.end],
        records.ttl_offsets,
        0 if is_truncated else _lifetime(rcode, records),
        is_truncated,
    )


def is_good_reply(message: bytes, key: Key) -> bool | None:
    """Tell whether *message*, whose id is right, is a good answer; None if it is none at all.

    Its records are not looked at: nobody will have them.
    """
    if len(message) < HEADER_BYTES or (message[2] & 0xF8) != 0x80:
        return None
    rcode = message[3] & 0xF
    end = HEADER_BYTES + len(key.question)
    asked = message[HEADER_BYTES:end]
    if asked[:-4].lower() + asked[-4:] == key.question:
        return rcode in _GOOD
    return False if len(message) == HEADER_BYTES and rcode in _BARE else None


class _Records(NamedTuple):
    """The records of a message up to its OPT record."""

    counts: tuple[int, int, int]
    end: int
    ttl_offsets: tuple[int, ...]  # from where the records begin
    least_ttl: int
    negative_ttl: int  # of the SOA in the authority section; 0 without one
    extended_rcode: int


def _parse_records(message: bytes, at: int, counts: list[int]) -> _Records | None:
    """Walk the records; what stands behind the OPT record is left out: it is optional."""
    offsets: list[int] = []
    least, negative, extended = MAX_LIFETIME_SECONDS, 0, 0
    kept = [0, 0, 0]
    end: int | None = None
    begin, size = at, len(message)
    for section, count in enumerate(counts):
        for _ in range(count):
            start = at
            # Nearly all owners are a pointer alone, and a query of others waits for this loop.
            is_pointer = at < size and message[at] >= 0xC0
            after = at + 2 if is_pointer else skip_name(message, at)
            if after is None or after + _FIXED.size > size:
                return None
            type_, _, ttl, length = _FIXED.unpack_from(message, after)
            at = after + _FIXED.size + length
            if at > size:
                return None
            if type_ == _OPT and section == 2:
                extended = (ttl >> 24) << 4
                end = start if end is None else end
            if end is not None:
                continue
            kept[section] += 1
            offsets.append(after + 4 - begin)
            if ttl & 0x80000000:  # RFC 2181 §8
                ttl = 0
            if ttl < least:
                least = ttl
            if section == 1 and type_ == _SOA and length >= 22:
                negative = min(ttl, _TTL.unpack_from(message, at - 4)[0])
    counted = (kept[0], kept[1], kept[2])
    if end is None:
        end = at
    return _Records(counted, end, tuple(offsets), least, negative, extended)


def _lifetime(rcode: int, records: _Records) -> int:
    if rcode not in _GOOD or records.extended_rcode:
        return 0
    if rcode == _GOOD[0] and records.counts[0]:
        return records.least_ttl
    return min(records.negative_ttl, records.least_ttl, MAX_NEGATIVE_LIFETIME_SECONDS)


def render_forwarded(
    query: Query, reply: UpstreamReply, *, age_seconds: int, limit: int, is_stale: bool = False
) -> bytes:
    """Return the client's reply, its TTLs lowered by *age_seconds*; cut to nothing if too long.

    A stale one has TTLs of 30 s (RFC 8767 §4).
    """
    records = _aged(reply, age_seconds, is_stale=is_stale)
    opt = b""
    head = _RESPONSE | RECURSION_AVAILABLE | reply.flags & _CHECKING_DISABLED | reply.rcode & 0xF
    if query.is_recursion_desired:
        head |= _RECURSION_DESIRED
    if query.edns is not None:
        opt = render_opt_for(query.edns, reply.rcode)
        if query.edns.is_dnssec_ok:
            head |= reply.flags & _AUTHENTIC
    answers, authorities, additional = reply.counts
    question = query.question
    if HEADER_BYTES + len(question) + len(records) + len(opt) > limit or reply.is_truncated:
        head |= TRUNCATED
        answers = authorities = additional = 0
        records = b""
    counts = (1, answers, authorities, additional + (query.edns is not None))
    return query.id + struct.pack("!HHHHH", head, *counts) + question + records + opt


def _aged(reply: UpstreamReply, age_seconds: int, *, is_stale: bool) -> bytes:
    if not age_seconds and not is_stale:
        return reply.records
    records = bytearray(reply.records)
    for offset in reply.ttl_offsets:
        ttl = _TTL.unpack_from(records, offset)[0]
        _TTL.pack_into(
            records, offset, STALE_TTL_SECONDS if is_stale else max(0, ttl - age_seconds)
        )
    return bytes(records)
