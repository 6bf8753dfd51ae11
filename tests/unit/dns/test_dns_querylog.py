"""The log of queries: which are taken, and what is said of them."""

import pytest
from dnslib import DNSRecord
from structlog.testing import capture_logs

from phalanx.dns.querylog import QueryLog

PEER = b"\2\0\0\x35\xc0\0\2\7" + bytes(8)
QUERY = bytes(DNSRecord.question("web.marathon.mesos", "AAAA").pack())
DENIAL = QUERY[:3] + b"\x83" + QUERY[4:]


@pytest.mark.parametrize(("every", "expected"), [(0, 0), (1, 30), (7, 4), (40, 0)])
def test_one_of_so_many_queries_is_logged(every: int, expected: int) -> None:
    queries = QueryLog(every)

    with capture_logs() as lines:
        for size in (1, 2, 0, 9, 18):
            queries.note([(QUERY, PEER)] * size, [])

    assert len(lines) == expected


def test_line_tells_who_asked_what_and_what_was_said() -> None:
    with capture_logs() as lines:
        QueryLog(1).note([(QUERY, PEER)], [(DENIAL, PEER)])
        QueryLog(1).note_stream(QUERY, b"\xc0\0\2\7", None)

    shown = {"client": "192.0.2.7", "name": "web.marathon.mesos.", "type": "AAAA"}
    assert all(shown.items() <= line.items() for line in lines)
    assert [(line["protocol"], line["rcode"]) for line in lines] == [
        ("udp", "NXDOMAIN"), ("tcp", None)
    ]  # fmt: skip


def test_garbage_is_not_logged_and_names_stay_on_their_line() -> None:
    odd = QUERY.replace(b"marathon", b"mara\nhon")

    with capture_logs() as lines:
        QueryLog(1).note([(b"x", PEER), (odd, PEER)], [])

    assert [line["name"] for line in lines] == ["web.mara\\nhon.mesos."]
