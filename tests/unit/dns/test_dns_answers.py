"""Replies as a client decodes them, by dnslib; and as bytes where it matters."""

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address

import pytest
from dnslib import CLASS, EDNS0, QTYPE, RCODE, DNSRecord, EDNSOption

from phalanx.dns.answer.query import Query, parse_query
from phalanx.dns.answer.reply import Body, render_reply
from phalanx.dns.publish import ZoneTable
from phalanx.net.model.view import View

WEB = ["9.0.0.1", "9.0.0.2", "9.0.0.3"]


def message(name: str, type_: str | int = "A", *, id_: int = 7, class_: str = "IN") -> bytes:
    number = type_ if isinstance(type_, int) else int(getattr(QTYPE, type_))
    labels = name.removesuffix(".").encode().split(b".") if name != "." else []
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = struct.pack("!HHHHHH", id_, 0x0100, 1, 0, 0, 0)
    return header + wire + struct.pack("!HH", number, int(getattr(CLASS, class_)))


def with_opt(
    base: bytes, *, size: int = 1232, version: int = 0, flags: int = 0, options: bytes = b""
) -> bytes:
    opt = struct.pack("!BHHBBHH", 0, 41, size, 0, version, flags, len(options)) + options
    return base[:10] + struct.pack("!H", 1) + base[12:] + opt


def ask(zones: ZoneTable, query: bytes, *, tcp: bool = False) -> DNSRecord:
    """Return the decoded reply, the same from the slow path and from the ready answer."""
    reply_to = zones.answers.reply_tcp if tcp else zones.answers.reply
    first, second = reply_to(query), reply_to(query)
    assert isinstance(first, bytes)
    assert first == second
    assert first[:2] == query[:2]
    return DNSRecord.parse(first)


def data(records: Sequence[object]) -> list[str]:
    return [str(record.rdata) for record in records]  # type: ignore[attr-defined]  # dnslib's RR


def status(reply: DNSRecord) -> str:
    return str(RCODE[reply.header.rcode])


@pytest.mark.parametrize(
    ("name", "type_", "expected"),
    [
        ("web.marathon.mesos", "A", WEB),
        ("web.marathon.slave.mesos", "A", ["198.18.0.2"]),
        ("marathon.mesos", "A", ["198.18.0.1"]),
        ("leader.mesos", "A", ["198.18.0.1"]),
        ("master0.mesos", "A", ["198.18.0.1"]),
        ("ns1.mesos", "A", ["198.51.100.1"]),
        ("web.marathon.containerip.dcos.thisdcos.directory", "A", WEB),
        ("web.marathon.agentip.dcos.thisdcos.directory", "A", ["198.18.0.2"]),
        ("leader.dcos.thisdcos.directory", "A", ["198.18.0.1"]),
        ("web.marathon.l4lb.thisdcos.directory", "A", ["11.0.0.7"]),
        ("web.marathon.l4lb.thisdcos.global", "A", ["11.0.0.7"]),
        ("web.marathon.dclb.thisdcos.directory", "A", ["11.0.0.7"]),
        ("web.marathon.dclb.thisdcos.global", "A", ["11.0.0.7"]),
        ("web.marathon.mesos.thisdcos.directory", "A", WEB),
        ("thisnode.thisdcos.directory", "A", ["198.18.0.2"]),
        ("ready.spartan", "A", ["127.0.0.1"]),
        ("ns.spartan", "A", ["198.51.100.1"]),
        ("localhost", "A", ["127.0.0.1"]),
        ("mesos", "NS", ["ns.spartan."]),
        ("mesos", "SOA", ["ns.spartan. hostmaster.ns.spartan. 101 60 60 86400 1"]),
    ],
)
def test_name_has_its_records(zones: ZoneTable, name: str, type_: str, expected: list[str]) -> None:
    reply = ask(zones, message(name, type_))

    assert status(reply) == "NOERROR"
    assert sorted(data(reply.rr)) == expected
    assert {str(record.rname) for record in reply.rr} == {f"{name}."}
    assert {record.ttl for record in reply.rr} == {5}
    assert (reply.header.qr, reply.header.aa, reply.header.tc, reply.header.ra) == (1, 1, 0, 0)


def test_case_of_the_question_is_kept(zones: ZoneTable) -> None:
    query = message("wEb.MaRaThOn.mesos")

    reply = ask(zones, query)

    assert str(reply.q.qname) == "wEb.MaRaThOn.mesos."
    assert str(reply.rr[0].rname) == "wEb.MaRaThOn.mesos."


def test_type_is_not_folded_with_the_case_of_the_name(zones: ZoneTable) -> None:
    # Type 65 (HTTPS) and type 97 differ by the bit that makes a letter small.
    assert ask(zones, message("web.marathon.mesos", 65)).q.qtype == 65
    assert ask(zones, message("web.marathon.mesos", 97)).q.qtype == 97


def test_service_has_targets_and_their_addresses(zones: ZoneTable) -> None:
    reply = ask(zones, message("_http._Web._tcp.marathon.mesos", "SRV"))

    services = {str(record.rdata).rpartition(" ")[::2] for record in reply.rr}
    assert {numbers for numbers, _ in services} == {"0 1 80"}
    addresses = {str(record.rname): str(record.rdata) for record in reply.ar}
    assert {target for _, target in services} == set(addresses)
    assert sorted(addresses.values()) == WEB


@pytest.mark.parametrize(
    ("name", "type_", "expected", "apex"),
    [
        ("web.marathon.mesos", "AAAA", "NOERROR", "mesos."),
        ("web.marathon.mesos", 1000, "NOERROR", "mesos."),
        ("slave.mesos", "TXT", "NOERROR", "mesos."),
        ("marathon.slave.mesos", "A", "NOERROR", "mesos."),
        ("agentip.dcos.thisdcos.directory", "A", "NOERROR", "dcos.thisdcos.directory."),
        ("marathon.agentip.dcos.thisdcos.directory", "A", "NOERROR", "dcos.thisdcos.directory."),
        ("publicip.dcos.thisdcos.directory", "A", "NXDOMAIN", "dcos.thisdcos.directory."),
        ("nosuch.marathon.mesos", "A", "NXDOMAIN", "mesos."),
        ("nosuch.marathon.mesos", "ANY", "NXDOMAIN", "mesos."),
        ("x.marathon.l4lb.thisdcos.directory", "A", "NXDOMAIN", "l4lb.thisdcos.directory."),
        ("x.Marathon.dclb.thisdcos.global", "A", "NXDOMAIN", "dclb.thisdcos.global."),
        ("component.thisdcos.directory", "A", "NXDOMAIN", "thisdcos.directory."),
        ("x.localhost", "A", "NXDOMAIN", "localhost."),
    ],
)
def test_what_is_not_there_is_denied_by_the_apex(
    zones: ZoneTable, name: str, type_: str | int, expected: str, apex: str
) -> None:
    reply = ask(zones, message(name, type_))

    assert (status(reply), reply.rr) == (expected, [])
    [soa] = reply.auth
    assert (str(soa.rname), soa.ttl, QTYPE[soa.rtype]) == (apex, 1, "SOA")
    assert reply.header.aa == 1


def test_any_gets_a_minimal_answer(zones: ZoneTable) -> None:
    reply = zones.answers.reply(message("web.marathon.mesos", "ANY"))

    assert isinstance(reply, bytes)
    assert reply.endswith(struct.pack("!HHHIH", 0xC00C, 13, 1, 5, 9) + b"\x07RFC8482\x00")


def test_order_of_addresses_turns_with_the_id(zones: ZoneTable) -> None:
    firsts = {data(ask(zones, message("web.marathon.mesos", id_=n)).rr)[0] for n in range(8)}

    assert sorted(firsts) == WEB


def test_old_answers_end_with_a_new_publishing(zones: ZoneTable, view: View) -> None:
    query = message("web.marathon.l4lb.thisdcos.directory")
    assert data(ask(zones, query).rr) == ["11.0.0.7"]

    zones.publish(view, held={})

    assert status(ask(zones, query)) == "NXDOMAIN"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.marathon.mesos", "SERVFAIL"),
        ("mesos", "SERVFAIL"),
        ("web.marathon.l4lb.thisdcos.global", "SERVFAIL"),
        ("leader.dcos.thisdcos.directory", "SERVFAIL"),
        ("ready.spartan", "NOERROR"),
        ("thisnode.thisdcos.directory", "NOERROR"),
        ("localhost", "NOERROR"),
    ],
)
def test_before_the_first_view_dynamic_zones_fail_and_static_ones_answer(
    unpublished: ZoneTable, name: str, expected: str
) -> None:
    assert status(ask(unpublished, message(name))) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(message("mesos", "AXFR"), "REFUSED", id="axfr"),
        pytest.param(message("mesos", "IXFR"), "REFUSED", id="ixfr"),
        pytest.param(message("version.bind", "TXT", class_="CH"), "REFUSED", id="chaos"),
        pytest.param(message("mesos", "OPT"), "FORMERR", id="opt-as-type"),
    ],
)
def test_what_we_do_not_serve_is_refused(zones: ZoneTable, query: bytes, expected: str) -> None:
    assert status(ask(zones, query)) == expected


@pytest.mark.parametrize("name", ["example.com", ".", "xmesos", "mesos.com", "directory"])
def test_foreign_name_is_for_the_forwarder(zones: ZoneTable, name: str) -> None:
    query = zones.answers.reply(message(name))

    assert not isinstance(query, bytes)
    assert query is not None
    assert query.name == (name if name == "." else f"{name}.")


def test_dot_inside_a_label_is_no_boundary(zones: ZoneTable) -> None:
    wire = b"\x09web.mesos\x00\x00\x01\x00\x01"

    query = zones.answers.reply(message("x")[:12] + wire)

    assert query is not None
    assert not isinstance(query, bytes)


@pytest.mark.parametrize(
    ("opcode", "rcode"),
    [(0, "NOERROR"), (1, "NOTIMP"), (4, "NOTIMP"), (5, "NOTIMP"), (15, "NOTIMP")],
)
def test_only_queries_are_implemented(zones: ZoneTable, opcode: int, rcode: str) -> None:
    query = bytearray(message("ready.spartan"))
    query[2] |= opcode << 3

    reply = zones.answers.reply(bytes(query))

    assert isinstance(reply, bytes)
    assert RCODE[reply[3] & 0xF] == rcode
    assert reply[2] >> 3 & 0xF == opcode


@pytest.mark.parametrize("bits", [0x10, 0x20, 0x40, 0x70])
def test_reserved_and_dnssec_bits_come_back_zero(zones: ZoneTable, bits: int) -> None:
    query = bytearray(message("ready.spartan"))
    query[3] |= bits

    reply = ask(zones, bytes(query))

    assert (reply.header.z, reply.header.ad, reply.header.cd) == (0, 0, 0)
    assert status(reply) == "NOERROR"


def test_recursion_desired_comes_back_as_it_came(zones: ZoneTable) -> None:
    query = bytearray(message("ready.spartan"))
    query[2] &= 0xFE

    assert ask(zones, bytes(query)).header.rd == 0
    assert ask(zones, message("ready.spartan")).header.rd == 1


def test_recursion_is_available_when_we_forward() -> None:
    table = ZoneTable(node=IPv4Address("198.18.0.2"), servers=[], forwards=True)

    assert ask(table, message("ready.spartan")).header.ra == 1


OPTION_100 = struct.pack("!HH4s", 100, 4, b"abcd")
NSID = struct.pack("!HH", 3, 0)


@pytest.mark.parametrize(
    ("query", "is_dnssec_ok"),
    [
        pytest.param(with_opt(message("ready.spartan")), 0, id="plain"),
        pytest.param(with_opt(message("ready.spartan"), flags=0x8000), 1, id="do"),
        pytest.param(with_opt(message("ready.spartan"), flags=0x40C0), 0, id="reserved-flags"),
        pytest.param(with_opt(message("ready.spartan"), options=OPTION_100), 0, id="unknown"),
        pytest.param(with_opt(message("ready.spartan"), options=OPTION_100 + NSID), 0, id="two"),
    ],
)
def test_edns_is_answered_with_edns(zones: ZoneTable, query: bytes, is_dnssec_ok: int) -> None:
    reply = ask(zones, query)

    [opt] = reply.ar
    assert (QTYPE[opt.rtype], opt.edns_ver, opt.edns_rcode, opt.edns_len) == ("OPT", 0, 0, 1232)
    assert (opt.edns_do, opt.ttl & 0x7FFF, opt.rdata) == (is_dnssec_ok, 0, [])
    assert data(reply.rr) == ["127.0.0.1"]


def test_no_edns_is_answered_without(zones: ZoneTable) -> None:
    assert ask(zones, message("ready.spartan")).ar == []


def test_other_version_of_edns_is_refused_with_ours(zones: ZoneTable) -> None:
    reply = ask(zones, with_opt(message("ready.spartan"), version=1, options=OPTION_100))

    [opt] = reply.ar
    assert (opt.edns_ver, opt.edns_rcode << 4 | reply.header.rcode) == (0, 16)
    assert reply.rr == []


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(message("mesos")[:4] + b"\0\0" + message("mesos")[6:12], id="no-question"),
        pytest.param(message("mesos")[:4] + b"\0\2" + message("mesos")[6:], id="two-questions"),
        pytest.param(message("mesos")[:-1], id="question-cut"),
        pytest.param(message("mesos")[:12], id="header-only"),
        pytest.param(message("mesos") + b"x", id="trailing-byte"),
        pytest.param(message("x")[:12] + b"\xc0\x0c\0\1\0\1", id="pointer-to-itself"),
        pytest.param(message("x")[:12] + b"\x40" + 64 * b"a" + b"\0\0\1\0\1", id="long-label"),
        pytest.param(message("x")[:12] + 64 * b"\3abc" + b"\0\0\1\0\1", id="long-name"),
        pytest.param(with_opt(message("mesos"))[:-1], id="opt-cut"),
        pytest.param(with_opt(message("mesos"), options=b"\0\1\0\\9x"), id="option-cut"),
        pytest.param(with_opt(message("mesos"))[:10] + b"\0\2" + with_opt(message("mesos"))[12:]
                     + with_opt(message("mesos"))[-11:], id="two-opts"),
        pytest.param(with_opt(message("mesos"))[:10] + b"\0\1" + message("mesos")[12:]
                     + b"\1x" + with_opt(message("mesos"))[-11:], id="opt-with-a-name"),
        pytest.param(message("mesos")[:6] + b"\0\1\0\0\0\0" + message("mesos")[12:]
                     + with_opt(message("mesos"))[-11:], id="opt-among-answers"),
    ],
)  # fmt: skip
def test_garbage_with_a_header_is_a_format_error(zones: ZoneTable, query: bytes) -> None:
    reply = zones.answers.reply(query)

    assert isinstance(reply, bytes)
    assert (reply[:2], reply[3] & 0xF, len(reply)) == (query[:2], 1, 12)


def test_records_that_mean_nothing_to_us_do_no_harm(zones: ZoneTable) -> None:
    base = message("ready.spartan")
    record = b"\1k\0" + struct.pack("!HHIH", 250, 255, 0, 3) + b"abc"
    query = base[:10] + b"\0\1" + base[12:] + record

    assert data(ask(zones, query).rr) == ["127.0.0.1"]


@pytest.mark.parametrize(
    "query",
    [b"", b"\0", message("mesos")[:11], message("mesos")[:2] + b"\x81" + message("mesos")[3:]],
)
def test_answers_and_scraps_are_met_with_silence(zones: ZoneTable, query: bytes) -> None:
    assert zones.answers.reply(query) is None


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        pytest.param(message("big.marathon.mesos"), 512, id="classic"),
        pytest.param(with_opt(message("big.marathon.mesos"), size=100), 512, id="at-least-512"),
        pytest.param(with_opt(message("big.marathon.mesos"), size=600), 600, id="clients-size"),
        pytest.param(with_opt(message("big.marathon.mesos"), size=4096), 1232, id="at-most-1232"),
        pytest.param(with_opt(message("_big._tcp.marathon.mesos", "SRV")), 1232, id="services"),
    ],
)
def test_long_answer_is_cut_at_a_record_and_says_so(
    zones: ZoneTable, query: bytes, limit: int
) -> None:
    raw = zones.answers.reply(query)
    reply = ask(zones, query)

    assert isinstance(raw, bytes)
    room = limit - len(raw)
    assert 0 <= room < 64  # less than one more record
    assert (reply.header.tc, bool(reply.rr)) == (1, True)


@pytest.mark.parametrize(("name", "type_"), [("big", "A"), ("_big._tcp", "SRV")])
def test_long_answer_is_whole_over_tcp(zones: ZoneTable, name: str, type_: str) -> None:
    reply = ask(zones, message(f"{name}.marathon.mesos", type_), tcp=True)

    assert (reply.header.tc, len(reply.rr)) == (0, 100)


def test_additional_addresses_go_without_a_truncation_mark() -> None:
    query = message("_web._tcp.marathon.mesos", "SRV")
    found = parse_query(query)
    assert isinstance(found, Query)
    body = Body((10 * b"a",), (), (10 * b"b",))

    whole = render_reply(found, 0, body, flags=0, limit=len(query) + 20)
    cut = render_reply(found, 0, body, flags=0, limit=len(query) + 19)

    assert whole.endswith(10 * b"a" + 10 * b"b")
    assert cut.endswith(10 * b"a")
    assert cut[2] & 2 == 0


def test_replies_are_counted_by_zone_and_rcode(zones: ZoneTable) -> None:
    for name in ("web.marathon.mesos", "web.marathon.mesos", "nosuch.mesos"):
        zones.answers.reply(message(name))
    zones.answers.reply(message("mesos")[:-1])

    assert zones.counts.totals() == {("mesos.", 0): 2, ("mesos.", 3): 1, ("", 1): 1}


def test_dnslib_clients_message_is_understood(zones: ZoneTable) -> None:
    query = DNSRecord.question("web.marathon.mesos")
    query.add_ar(EDNS0(udp_len=4096, opts=[EDNSOption(8, b"\0\1\0\0")]))

    assert sorted(data(ask(zones, bytes(query.pack())).rr)) == WEB


@pytest.mark.parametrize(("records", "expected"), [(16, "NOERROR"), (17, "FORMERR")])
def test_message_that_costs_more_to_read_than_to_answer_is_not_read(
    zones: ZoneTable, records: int, expected: str
) -> None:
    base = message("ready.spartan")
    whole = base[:6] + struct.pack("!H", records) + base[8:] + records * (b"\0" * 11)

    assert status(ask(zones, whole)) == expected


@pytest.mark.parametrize(("options", "expected"), [(64, "NOERROR"), (65, "FORMERR")])
def test_so_many_options_mean_no_good(zones: ZoneTable, options: int, expected: str) -> None:
    query = with_opt(message("ready.spartan"), options=options * b"\0\x64\0\0")

    assert status(ask(zones, query)) == expected
