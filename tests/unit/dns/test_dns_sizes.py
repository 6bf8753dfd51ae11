"""Replies at every size that a client may name: what fits, what is cut, and what it says then."""

import struct

from dnslib import DNSRecord

from phalanx.dns.answer.query import Query, parse_query
from phalanx.dns.forward.message import (
    UpstreamReply,
    key_of,
    parse_reply,
    question_of,
    render_forwarded,
)
from phalanx.dns.publish import ZoneTable

SIZES = [0, 1, *range(500, 1300), 4096, 65535]


def asking(name: str, size: int, type_: str = "A") -> bytes:
    opt = b"\0" + struct.pack("!HHIH", 41, size, 0, 0)
    question = bytes(DNSRecord.question(name, type_).pack()[12:])
    return b"\x12\x34\1\0\0\1\0\0\0\0\0\1" + question + opt


def test_own_answer_is_cut_at_a_record_and_no_earlier(zones: ZoneTable) -> None:
    counts = []
    for size in SIZES:
        reply = zones.answers.reply(asking("big.marathon.mesos", size))
        assert isinstance(reply, bytes)
        record = DNSRecord.parse(reply)
        room = min(max(size, 512), 1232)
        assert room - 16 < len(reply) <= room  # an A record has 16 bytes
        assert (record.header.tc, len(record.ar)) == (1, 1)
        counts.append(len(record.rr))

    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (29, 74)


def test_own_service_gives_up_addresses_before_services(zones: ZoneTable) -> None:
    for size in SIZES:
        reply = zones.answers.reply(asking("_web._tcp.marathon.mesos", size, "SRV"))
        assert isinstance(reply, bytes)
        record = DNSRecord.parse(reply)
        assert len(reply) <= min(max(size, 512), 1232)
        assert (len(record.rr), record.header.tc) == (3, 0)


def test_foreign_answer_is_whole_or_empty() -> None:
    for size in SIZES:
        query = parse_query(asking("www.example.com", size))
        assert isinstance(query, Query)
        reply = _fetched(query, answers=40)  # 640 bytes of records
        whole = 12 + len(query.question) + 640 + 11
        limit = min(max(size, 512), 1232)

        rendered = render_forwarded(query, reply, age_seconds=0, limit=limit)

        record = DNSRecord.parse(rendered)
        assert len(rendered) <= limit
        expected = (0, 40) if whole <= limit else (1, 0)
        assert (record.header.tc, len(record.rr)) == expected


def _fetched(query: Query, *, answers: int) -> UpstreamReply:
    address = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"
    head = b"\x12\x34\x81\x80\0\1" + struct.pack("!HHH", answers, 0, 0)
    reply = parse_reply(head + query.question + address * answers, question_of(key_of(query)))
    assert reply is not None
    return reply
