"""The Mesos zone as Mesos-DNS answered it, where that is asked for (reference dns §1.5)."""

import struct
from ipaddress import IPv4Address

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from phalanx.dns.publish import ZoneTable
from phalanx.dns.zones.settings import ZoneSettings
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.0.2")


@pytest.fixture
def table(view: View) -> ZoneTable:
    table = ZoneTable(
        node=NODE, servers=[NODE], settings=ZoneSettings(is_compat=True, ttl_seconds=60)
    )
    table.publish(view)
    return table


def ask(table: ZoneTable, name: str, type_: str) -> DNSRecord:
    header = struct.pack("!HHHHHH", 0, 0x0100, 1, 0, 0, 0)
    wire = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    reply = table.answers.reply(
        header + wire + b"\0" + struct.pack("!HH", int(getattr(QTYPE, type_)), 1)
    )
    assert isinstance(reply, bytes)
    return DNSRecord.parse(reply)


@pytest.mark.parametrize(
    ("name", "type_", "rcode", "answers", "authority"),
    [
        ("leader.mesos", "A", "NOERROR", ["198.18.0.1"], []),
        ("leader.*.mesos", "A", "NOERROR", ["198.18.0.1"], []),
        ("nosuch.mesos", "A", "NXDOMAIN", [], [("nosuch.mesos.", "SOA")]),
        ("leader.mesos", "AAAA", "NOERROR", [], [("leader.mesos.", "SOA")]),
        ("nosuch.mesos", "SRV", "NOERROR", [], []),
        ("nosuch.mesos", "SOA", "NOERROR", [], [("nosuch.mesos.", "SOA")]),
        ("nosuch.mesos", "NS", "NOERROR", [], [("nosuch.mesos.", "NS")]),
        ("leader.mesos", "ANY", "NOERROR", ["198.18.0.1"],
         [("leader.mesos.", "SOA"), ("leader.mesos.", "NS")]),
    ],
)  # fmt: skip
def test_quirk(
    table: ZoneTable,
    name: str,
    type_: str,
    rcode: str,
    answers: list[str],
    authority: list[tuple[str, str]],
) -> None:
    reply = ask(table, name, type_)

    assert RCODE[reply.header.rcode] == rcode
    assert [str(record.rdata) for record in reply.rr] == answers
    assert [(str(record.rname), QTYPE[record.rtype]) for record in reply.auth] == authority
    assert {record.ttl for record in (*reply.rr, *reply.auth)} <= {60}


def test_other_zones_have_no_quirks(table: ZoneTable) -> None:
    reply = ask(table, "nosuch.spartan", "SRV")

    assert RCODE[reply.header.rcode] == "NXDOMAIN"
    assert str(reply.auth[0].rname) == "spartan."
