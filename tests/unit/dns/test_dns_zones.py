"""Zones as wholes: what lies in them, what does not, and when."""

import random
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.dns.publish import ZoneTable
from phalanx.dns.zones.desired import desired_zones, static_zones
from phalanx.dns.zones.ledger import HeldVips
from phalanx.dns.zones.record import Record, RecordType, Srv
from phalanx.dns.zones.settings import DEFAULTS, ZoneSettings
from phalanx.dns.zones.zone import build_zone
from phalanx.net.model.objects import VipLease
from phalanx.net.model.view import View

ADDRESS = IPv4Address("11.0.0.1")
SIX = IPv6Address("fd01:c::1")
L4LB = "l4lb.thisdcos.directory."


def a(name: str, address: IPv4Address = ADDRESS) -> Record:
    return Record(name, RecordType.A, address)


def test_zone_begins_with_soa_and_name_server() -> None:
    zone = build_zone("mesos.", [], serial=7)

    assert zone.soa.serial == 7
    assert zone.names["mesos."][RecordType.NS] == ("ns.spartan.",)


def test_parents_of_names_are_there_without_records() -> None:
    zone = build_zone("mesos.", [a("web.marathon.slave.mesos."), a("x.slave.mesos.")], serial=1)

    assert zone.names["marathon.slave.mesos."] == {}
    assert zone.names["slave.mesos."] == {}


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(a("web.other."), id="outside"),
        pytest.param(a("xmesos."), id="no-label-boundary"),
        pytest.param(a("web..mesos."), id="empty-label"),
        pytest.param(a(f"{64 * 'x'}.mesos."), id="long-label"),
        pytest.param(a(f"{125 * 'x.'}mesos."), id="long-name"),
        pytest.param(
            Record("s.mesos.", RecordType.SRV, Srv(f"{64 * 'x'}.mesos.", 1)), id="long-target"
        ),
    ],
)
def test_what_can_not_be_served_harms_nothing_else(record: Record) -> None:
    zone = build_zone("mesos.", [record, a("web.mesos.")], serial=1)

    assert {name for name, rrsets in zone.names.items() if rrsets} == {"mesos.", "web.mesos."}


@given(st.randoms(use_true_random=False))
def test_order_and_repetition_of_records_make_no_difference(rng: random.Random) -> None:
    records = [a("web.mesos.", ADDRESS + n) for n in range(5)]
    shuffled = records * 2
    rng.shuffle(shuffled)

    assert build_zone("mesos.", shuffled, serial=1) == build_zone("mesos.", records, serial=1)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        pytest.param(None, {"web.marathon", "db.marathon"}, id="all"),
        pytest.param({"web.marathon": (ADDRESS,)}, {"web.marathon"}, id="held-only"),
        pytest.param({"web.marathon": (SIX,)}, set[str](), id="held-for-the-other-family"),
        pytest.param({}, set[str](), id="none"),
    ],
)
def test_vip_has_a_name_once_the_dataplane_holds_it(
    held: HeldVips | None, expected: set[str]
) -> None:
    view = View().changed([VipLease("web.marathon", ADDRESS), VipLease("db.marathon", ADDRESS + 1)])

    zones = desired_zones(view, settings=DEFAULTS, held=held)

    zone = zones[L4LB]
    assert zone is not None
    assert {n for n, rrsets in zone.names.items() if RecordType.A in rrsets} == {
        f"{name}.{L4LB}" for name in expected
    }


def test_vip_has_the_addresses_that_the_dataplane_holds() -> None:
    view = View().changed([VipLease("web.marathon", ADDRESS, SIX)])

    zones = desired_zones(view, settings=DEFAULTS, held={"web.marathon": (ADDRESS, SIX)})

    zone = zones[L4LB]
    assert zone is not None
    assert zone.names[f"web.marathon.{L4LB}"] == {
        RecordType.A: (ADDRESS,),
        RecordType.AAAA: (SIX,),
    }


def test_static_zones_need_no_view() -> None:
    node, server = IPv4Address("198.18.0.2"), IPv4Address("198.51.100.1")

    zones = static_zones(node=node, servers=[server], serial=1)

    found = {
        record.name: record.data
        for zone in zones.values()
        if zone is not None
        for record in zone.records()
        if record.type is RecordType.A
    }
    assert found == {
        "ready.spartan.": IPv4Address("127.0.0.1"),
        "ns.spartan.": server,
        "localhost.": IPv4Address("127.0.0.1"),
        "thisnode.thisdcos.directory.": node,
    }


def test_serial_grows_with_each_publishing() -> None:
    table = ZoneTable(node=ADDRESS, servers=[], serial=2**32 - 2)
    serials = []
    for _ in range(2):
        table.publish(View())
        zone = table.zones["mesos."]
        assert zone is not None
        serials.append(zone.soa.serial)

    assert serials == [2**32 - 1, 0]


def test_domain_of_mesos_can_be_chosen() -> None:
    table = ZoneTable(node=ADDRESS, servers=[ADDRESS], settings=ZoneSettings("cluster.example"))
    table.publish(View())

    zone = table.zones["cluster.example."]
    assert zone is not None
    assert "ns1.cluster.example." in zone.names
    assert table.aliases["mesos.thisdcos.directory."] == "cluster.example."
