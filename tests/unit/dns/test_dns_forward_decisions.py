"""The pure half of the forwarder: upstreams' standing, the cache, and messages."""

import struct

import pytest

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.dns.answer.query import Query, parse_query
from phalanx.dns.forward.cache import Cache
from phalanx.dns.forward.message import (
    Key,
    UpstreamReply,
    key_of,
    make_key,
    parse_reply,
    render_forwarded,
)
from phalanx.dns.forward.upstream import HALF_LIFE_SECONDS, NEW, parse_upstream, ranked

A, B, C = (HostPort(f"192.0.2.{n}", 53) for n in (1, 2, 3))
QUESTION = b"\x03www\x07example\x03com\x00\0\1\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def record(type_: int, ttl: int, rdata: bytes, owner: bytes = b"\xc0\x0c") -> bytes:
    return owner + struct.pack("!HHIH", type_, 1, ttl, len(rdata)) + rdata


def soa(ttl: int, minimum: int) -> bytes:
    return record(6, ttl, b"\0\0" + struct.pack("!IIIII", 1, 2, 3, 4, minimum), b"\xc0\x10")


def answer(
    *records: bytes, rcode: int = 0, counts: tuple[int, int, int] | None = None, flags: int = 0x8180
) -> bytes:
    head = struct.pack("!HHHHHH", 9, flags | rcode, 1, *(counts or (len(records), 0, 0)))
    return head + QUESTION + b"".join(records)


def parsed(message: bytes) -> UpstreamReply:
    reply = parse_reply(message, QUESTION)
    assert reply is not None
    return reply


def asked(*, edns: bytes = b"") -> Query:
    name = QUESTION.replace(b"www", b"WwW")
    head = struct.pack("!HHHHHH", 77, 0x0100, 1, 0, 0, bool(edns))
    query = parse_query(head + name + edns)
    assert isinstance(query, Query)
    return query


def test_upstreams_start_in_the_order_given() -> None:
    assert ranked(dict.fromkeys([B, A, C], NEW), 0.0) == [B, A, C]


def test_quicker_upstream_comes_first() -> None:
    standings = {A: NEW.succeeded(0.2, 0.0), B: NEW.succeeded(0.001, 0.0)}

    assert ranked({each: standings.get(each, NEW) for each in (A, B, C)}, 0.0) == [B, C, A]


def test_failing_upstream_comes_last_until_its_failures_fade() -> None:
    standings = {A: NEW.succeeded(0.001, 0.0).failed(0.0).failed(0.0)}

    assert ranked({each: standings.get(each, NEW) for each in (A, B)}, 0.0) == [B, A]
    assert ranked({each: standings.get(each, NEW) for each in (A, B)}, HALF_LIFE_SECONDS) == [B, A]
    assert ranked({each: standings.get(each, NEW) for each in (A, B)}, 3 * HALF_LIFE_SECONDS) == [
        A,
        B,
    ]


def test_success_forgives_failures() -> None:
    assert NEW.failed(0.0).failed(1.0).succeeded(0.1, 2.0).failures_at(2.0) == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("192.0.2.1", A), ("192.0.2.1:5353", HostPort("192.0.2.1", 5353))],
)
def test_upstream_is_an_address_and_perhaps_a_port(text: str, expected: HostPort) -> None:
    assert parse_upstream(text) == expected


@pytest.mark.parametrize("text", ["", "dns.example", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:0"])
def test_bad_upstream_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=f"upstream: '{text}'"):
        parse_upstream(text)


def kept(lifetime_seconds: int) -> UpstreamReply:
    return UpstreamReply(0, 0, (1, 0, 0), b"", lifetime_seconds, is_truncated=False)


def key(number: int) -> Key:
    return make_key(bytes([number]))


def test_cache_keeps_an_answer_for_its_lifetime_and_ages_it() -> None:
    cache = Cache()
    cache.put(key(1), kept(10), 100.0)

    ages = {
        now: found.age_seconds for now in (100.0, 104.9, 109.9) if (found := cache.get(key(1), now))
    }
    assert ages == {100.0: 0, 104.9: 4, 109.9: 9}
    assert cache.get(key(1), 110.0) is None


def test_cache_does_not_keep_what_has_no_lifetime() -> None:
    cache = Cache()
    cache.put(key(1), kept(0), 0.0)

    assert cache.get(key(1), 0.0) is None


def test_answer_that_must_not_be_kept_replaces_an_old_one() -> None:
    cache = Cache()
    cache.put(key(1), kept(10), 0.0)
    cache.put(key(1), kept(0), 1.0)

    assert cache.get(key(1), 1.0) is None


def test_full_cache_drops_what_was_unused_for_longest() -> None:
    cache = Cache(max_entries=2)
    cache.put(key(1), kept(10), 0.0)
    cache.put(key(2), kept(10), 0.0)
    cache.get(key(1), 1.0)
    cache.put(key(3), kept(10), 1.0)

    assert [n for n in (1, 2, 3) if cache.get(key(n), 1.0)] == [1, 3]


ADDRESS = record(1, 300, b"\1\2\3\4")


@pytest.mark.parametrize(
    ("message", "lifetime"),
    [
        pytest.param(answer(ADDRESS, record(1, 60, b"\1\2\3\5")), 60, id="least-ttl"),
        pytest.param(answer(record(1, 86400, b"\1\2\3\4")), 3600, id="at-most-an-hour"),
        pytest.param(answer(record(1, 0x80000001, b"\1\2\3\4")), 0, id="negative-ttl-is-zero"),
        pytest.param(answer(soa(600, 30), rcode=3, counts=(0, 1, 0)), 30, id="no-name-minimum"),
        pytest.param(answer(soa(20, 30), rcode=3, counts=(0, 1, 0)), 20, id="no-name-soa-ttl"),
        pytest.param(answer(soa(900, 900), counts=(0, 1, 0)), 300, id="no-data-at-most"),
        pytest.param(answer(rcode=3), 0, id="no-name-without-soa"),
        pytest.param(answer(rcode=2), 0, id="servfail"),
        pytest.param(answer(ADDRESS, flags=0x8380), 0, id="truncated"),
    ],
)
def test_lifetime_follows_from_the_message(message: bytes, lifetime: int) -> None:
    assert parsed(message).lifetime_seconds == lifetime


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(answer(ADDRESS, flags=0x0180), id="not-a-reply"),
        pytest.param(answer(ADDRESS).replace(b"www", b"wwx", 1), id="other-name"),
        pytest.param(answer(ADDRESS).replace(b"\0\1\0\1", b"\0\x1c\0\1", 1), id="other-type"),
        pytest.param(answer(ADDRESS)[:-1], id="record-cut"),
        pytest.param(answer(ADDRESS)[:11], id="header-cut"),
        pytest.param(answer(ADDRESS, counts=(2, 0, 0)), id="record-missing"),
        pytest.param(struct.pack("!HHHHHH", 9, 0x8180, 0, 0, 0, 0), id="bare-success"),
    ],
)
def test_what_is_not_the_answer_is_no_answer(message: bytes) -> None:
    assert parse_reply(message, QUESTION) is None


def test_bare_refusal_is_an_answer_that_is_not_good() -> None:
    reply = parsed(struct.pack("!HHHHHH", 9, 0x8185, 0, 0, 0, 0))

    assert (reply.rcode, reply.is_good) == (5, False)


def test_case_of_the_upstreams_question_does_not_matter() -> None:
    assert parsed(answer(ADDRESS).replace(b"www", b"WWW", 1)).is_good


def test_client_gets_its_own_id_and_case_and_aged_records() -> None:
    query = asked()

    rendered = render_forwarded(query, parsed(answer(ADDRESS)), age_seconds=40, limit=512)

    head = struct.pack("!HHHHHH", 77, 0x8180, 1, 1, 0, 0)
    assert rendered == head + query.question + record(1, 260, b"\1\2\3\4")


def test_opt_of_the_upstream_is_ours_to_the_client() -> None:
    option = b"\0\0\x29\x10\0\0\0\0\0\0\x04\0\x0c\0\0"
    late = record(1, 9, b"\4\4\4\4")
    reply = parsed(answer(ADDRESS, option, late, counts=(1, 0, 2)))

    rendered = render_forwarded(asked(edns=OPT), reply, age_seconds=0, limit=1232)

    assert rendered.endswith(ADDRESS + OPT)
    assert reply.counts == (1, 0, 0)


def test_extended_rcode_of_the_upstream_is_no_success() -> None:
    bad_version = b"\0\0\x29\x04\xd0\1\0\0\0\0\0"

    assert not parsed(answer(bad_version, counts=(0, 0, 1))).is_good


def test_answer_too_long_for_the_client_is_cut_to_nothing_and_says_so() -> None:
    query = asked()

    rendered = render_forwarded(query, parsed(answer(ADDRESS)), age_seconds=0, limit=40)

    assert rendered == struct.pack("!HHHHHH", 77, 0x8380, 1, 0, 0, 0) + query.question


@pytest.mark.parametrize(
    ("edns", "expected"),
    [
        pytest.param(b"", False, id="none"),
        pytest.param(OPT, False, id="edns"),
        pytest.param(OPT[:7] + b"\x80" + OPT[8:], True, id="dnssec-ok"),
    ],
)
def test_authentic_data_is_told_to_those_who_ask(edns: bytes, expected: bool) -> None:
    reply = parsed(answer(ADDRESS, flags=0x81A0))

    rendered = render_forwarded(asked(edns=edns), reply, age_seconds=0, limit=512)

    assert bool(rendered[3] & 0x20) is expected


def test_queries_that_differ_for_an_upstream_have_different_keys() -> None:
    plain = asked()
    others = [asked(edns=OPT), asked(edns=OPT[:7] + b"\x80" + OPT[8:])]
    for at, bits in ((2, 0x01), (3, 0x10)):
        message = bytearray(plain.message)
        message[at] ^= bits
        query = parse_query(bytes(message))
        assert isinstance(query, Query)
        others.append(query)

    assert len({key_of(query) for query in [plain, *others]}) == 5
