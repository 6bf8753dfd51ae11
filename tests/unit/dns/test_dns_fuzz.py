"""Whatever arrives: nothing raises, and an answer belongs to its question."""

import struct

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from phalanx.dns.answer.query import Query, parse_query
from phalanx.dns.answer.ready import Counts
from phalanx.dns.answer.table import AnswerTable
from phalanx.dns.forward.message import key_of, parse_reply, question_of, render_forwarded
from phalanx.dns.publish import ZoneTable

NAME = b"\x03web\x08marathon\x05mesos\x00"
QUESTION = NAME + b"\0\1\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
QUERY = b"\x12\x34\x01\0\0\1\0\0\0\0\0\1" + QUESTION + OPT
REPLY = (
    b"\x12\x34\x81\x80\0\1\0\2\0\0\0\1" + QUESTION
    + 2 * (b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4") + OPT
)  # fmt: skip

# The fixture is never changed by an example: a table only caches.
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@st.composite
def mangled(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return *whole* with some bytes changed, perhaps cut, perhaps with more behind it."""
    message = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        message[draw(st.integers(0, len(message) - 1))] = draw(st.integers(0, 255))
    kept = draw(st.one_of(st.just(len(message)), st.integers(0, len(message))))
    return bytes(message[:kept]) + draw(st.one_of(st.just(b""), st.binary(max_size=20)))


def check_reply(zones: ZoneTable, message: bytes) -> None:
    for reply, limit in (
        (zones.answers.reply(message), 1232),
        (zones.answers.reply_tcp(message), 65535),
    ):
        if isinstance(reply, bytes):
            assert reply[:2] == message[:2]
            assert reply[2] & 0x80
            assert 12 <= len(reply) <= limit
            assert reply[4:6] in (b"\0\0", b"\0\1")
        else:
            assert reply is None or (isinstance(reply, Query) and reply.message == message)
        assert (reply is None) == (len(message) < 12 or bool(message[2] & 0x80))


@relaxed
@given(st.binary(max_size=100))
def test_any_bytes_are_met(zones: ZoneTable, message: bytes) -> None:
    check_reply(zones, message)


@relaxed
@given(mangled(QUERY))
@example(QUERY)
def test_any_mangled_query_is_met(zones: ZoneTable, message: bytes) -> None:
    zones.answers.reply(QUERY)  # so that a ready answer is near

    check_reply(zones, message)


@relaxed
@given(mangled(QUERY))
def test_ready_answer_is_the_one_made_from_scratch(zones: ZoneTable, message: bytes) -> None:
    zones.answers.reply(QUERY)
    fresh = AnswerTable(zones.zones, zones.aliases, Counts(), forwards=False)

    assert zones.answers.reply(message) == fresh.reply(message)


@given(mangled(REPLY))
@example(REPLY)
def test_any_upstream_message_is_taken_whole_or_not_at_all(message: bytes) -> None:
    query = parse_query(QUERY)
    assert isinstance(query, Query)
    reply = parse_reply(message, question_of(key_of(query)))
    if reply is None:
        return

    rendered = render_forwarded(query, reply, age_seconds=1, limit=1232)

    assert rendered[:2] == QUERY[:2]
    assert rendered[12 : 12 + len(QUESTION)] == QUESTION
    assert parse_reply(rendered, question_of(key_of(query))) is not None


@given(st.integers(0, 65535), st.booleans(), st.booleans())
def test_what_we_ask_upstreams_is_a_query(id_: int, has_edns: bool, is_desired: bool) -> None:
    head = struct.pack("!HHHHHH", 1, 0x0100 if is_desired else 0, 1, 0, 0, int(has_edns))
    query = parse_query(head + QUESTION + (OPT if has_edns else b""))
    assert isinstance(query, Query)

    sent = parse_query(struct.pack("!H", id_) + key_of(query))

    assert isinstance(sent, Query)
    assert struct.unpack("!H", sent.id) == (id_,)
    assert key_of(sent) == key_of(query)
