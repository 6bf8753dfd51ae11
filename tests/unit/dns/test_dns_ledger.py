"""The ledger holds after any sequence of Views what it would hold after the last one alone."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.dns.answer.ready import Counts
from phalanx.dns.answer.table import AnswerTable
from phalanx.dns.publish import ZoneTable
from phalanx.dns.zones.desired import Zones, desired_zones, zones_of
from phalanx.dns.zones.index import NameIndex
from phalanx.dns.zones.ledger import HeldVips, Ledger
from phalanx.dns.zones.record import RecordType
from phalanx.dns.zones.settings import DEFAULTS
from phalanx.net.model.objects import (
    Framework,
    HostPort,
    Liveness,
    Network,
    Node,
    Object,
    Task,
    TaskPhase,
    TaskPort,
    VipLease,
)
from phalanx.net.model.view import View

Content = Mapping[str, Mapping[str, Mapping[RecordType, object]]]
NODES = [IPv4Address("198.18.0.1") + n for n in range(3)]
OWN = [IPv4Address("9.0.1.1") + n for n in range(4)]
SIX = IPv6Address("fd01:b::2:8000:0:2")
HELD: list[HeldVips | None] = [None, {}, {"db": (OWN[0],)}, {"db": (OWN[0], SIX)}]


def content(zones: Zones) -> Content:
    return {apex: dict(zone.names) for apex, zone in zones.items() if zone is not None}


nodes = st.builds(
    Node,
    address=st.sampled_from(NODES),
    hostname=st.sampled_from(["n1", "n2"]),
    is_master=st.booleans(),
    is_leader=st.booleans(),
    agent_id=st.sampled_from([None, "x-S0", "x-S1"]),
    liveness=st.sampled_from(Liveness),
)
frameworks = st.builds(
    Framework,
    id=st.sampled_from(["f1", "f2"]),
    name=st.sampled_from(["marathon", "b.marathon", "-"]),
    hostname=st.sampled_from(["", "n1", "10.0.0.1"]),
)
tasks = st.builds(
    Task,
    framework_id=st.sampled_from(["f1", "f2"]),
    id=st.sampled_from(["t1", "t2", "t3"]),
    name=st.sampled_from(["web", "a.b", "%"]),
    agent_id=st.sampled_from(["x-S0", "x-S1"]),
    node=st.sampled_from(NODES),
    phase=st.sampled_from([TaskPhase.RUNNING, TaskPhase.RUNNING, TaskPhase.KILLING]),
    is_checked=st.booleans(),
    healthy=st.sampled_from([None, True, False]),
    addresses=st.lists(st.sampled_from(OWN), max_size=2).map(tuple),
    networks=st.sampled_from([(), ("dcos",)]),
    addresses6=st.sampled_from([(), (), (SIX,)]),
    networks6=st.sampled_from([(), ("dcos",)]),
    discovery_name=st.sampled_from(["", "a.b", "web", "Web..x", 70 * "y"]),
    ports=st.sampled_from([(), (TaskPort(80, "http"),), (TaskPort(53, "", "udp"), TaskPort(1))]),
    host_ports=st.sampled_from([(), (HostPort(1, 2),)]),
    port_resources=st.sampled_from([(), ((31000, 31001),)]),
)
networks = st.builds(
    Network,
    name=st.sampled_from(["dcos", "other"]),
    subnet=st.sampled_from([IPv4Network("9.0.0.0/8"), IPv4Network("9.0.0.0/23")]),
    prefix=st.just(24),
    vni=st.just(1),
    mtu=st.just(1400),
    subnet6=st.sampled_from([None, IPv6Network("fd01:b::/64"), IPv6Network("fd01:b::/78")]),
)
vips = st.builds(
    VipLease,
    name=st.sampled_from(["web.marathon", "db"]),
    address=st.sampled_from(OWN),
    address6=st.sampled_from([None, SIX]),
)
upserts: st.SearchStrategy[list[Object]] = st.lists(
    st.one_of(nodes, frameworks, tasks, tasks, tasks, networks, vips), max_size=6
)
refs = st.one_of(
    st.tuples(st.just("node"), st.sampled_from([str(node) for node in NODES])),
    st.tuples(st.just("framework"), st.sampled_from(["f1", "f2"])),
    st.tuples(st.just("task"), st.sampled_from([f"f{f}/t{t}" for f in "12" for t in "123"])),
    st.tuples(st.just("network"), st.sampled_from(["dcos", "other"])),
    st.tuples(st.just("vip"), st.sampled_from(["web.marathon", "db"])),
)
steps = st.lists(
    st.tuples(upserts, st.lists(refs, max_size=3), st.sampled_from(HELD)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(steps, st.booleans())
def test_following_step_by_step_is_building_from_nothing(
    history: list[tuple[list[Object], list[tuple[str, str]], HeldVips | None]], is_told: bool
) -> None:
    ledger = Ledger(DEFAULTS, NODES[:1], 1)
    view = View()
    for changed, removed, held in history:
        view = view.changed(changed, removed)
        touched = [*((each.kind, each.key) for each in changed), *removed] if is_told else None
        ledger.follow(view, held, touched)

        whole = desired_zones(view, settings=DEFAULTS, held=held, servers=NODES[:1])
        assert content(zones_of(ledger)) == content(whole)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_ready_answers_are_those_made_anew(
    history: list[tuple[list[Object], list[tuple[str, str]], HeldVips | None]],
) -> None:
    table = ZoneTable(node=NODES[0], servers=NODES[:1])
    view = View()
    asked: set[str] = set()
    for changed, removed, held in history:
        view = view.changed(changed, removed)
        table.publish(view, held)
        asked |= {name for zone in table.zones.values() if zone for name in zone.names}
        fresh = AnswerTable(table.zones, table.aliases, Counts(), forwards=False)
        for name in asked:
            for type_ in (1, 12, 33):
                query = question(name, type_)
                assert table.answers.reply_tcp(query) == fresh.reply_tcp(query)


def question(name: str, type_: int) -> bytes:
    wire = b"".join(
        len(label).to_bytes(1, "big") + label.encode() for label in name.rstrip(".").split(".")
    )
    head = b"\0\7\1\0\0\1\0\0\0\0\0\0"
    return head + wire + b"\0" + type_.to_bytes(2, "big") + b"\0\1"


names = st.sampled_from(["a.z.", "b.a.z.", "c.b.a.z.", "z.", "c.z."])


@given(st.lists(st.tuples(st.booleans(), names, st.integers(0, 2))))
def test_index_knows_names_and_their_parents(actions: list[tuple[bool, str, int]]) -> None:
    index: NameIndex[int] = NameIndex("z.")
    model: dict[str, list[int]] = {}
    for is_added, name, holder in actions:
        held = model.setdefault(name, [])
        if is_added and holder not in held:
            index.add(name, holder)
            held.append(holder)
        elif not is_added and holder in held:
            index.remove(name, holder)
            held.remove(holder)
        model = {each: holders for each, holders in model.items() if holders}
        parents = {
            ".".join(labels[n:])
            for each in model
            for labels in [each.split(".")]
            for n in range(1, len(labels) - 1)
        }
        assert set(index) == set(model) | parents
        assert len(index) == len(set(index))
        assert {each: sorted(index.holders(each)) for each in model} == {
            each: sorted(holders) for each, holders in model.items()
        }


def test_container_address_leads_back_to_its_name() -> None:
    view = View().changed(
        [
            Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1, 1400),
            Node(NODES[0], "n1", agent_id="x-S0"),
            Framework("f", "marathon"),
            Task("f", "t", "web", "x-S0", NODES[0], TaskPhase.RUNNING,
                 addresses=(OWN[0],), networks=("dcos",)),
        ]
    )  # fmt: skip

    zone = desired_zones(view, settings=DEFAULTS)["9.in-addr.arpa."]

    assert zone is not None
    assert zone.names["1.1.0.9.in-addr.arpa."] == {RecordType.PTR: ("web.marathon.mesos.",)}
    assert "0.9.in-addr.arpa." in zone.names


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        ("9.0.0.0/8", {"9.in-addr.arpa."}),
        ("10.8.0.0/15", {"8.10.in-addr.arpa.", "9.10.in-addr.arpa."}),
        ("10.1.2.0/24", {"2.1.10.in-addr.arpa."}),
        ("10.1.2.0/25", set[str]()),
    ],
)
def test_networks_have_reverse_zones(subnet: str, expected: set[str]) -> None:
    view = View().changed([Network("n", IPv4Network(subnet), 24, 1, 1400)])

    zones = desired_zones(view, settings=DEFAULTS)

    assert {apex for apex in zones if apex.endswith("arpa.")} == expected


def test_one_change_leaves_other_answers_ready() -> None:
    view = View().changed([Node(NODES[0], "n1", agent_id="x-S0"), Framework("f", "marathon")])
    first, second = (
        Task("f", name, name, "x-S0", NODES[0], TaskPhase.RUNNING, addresses=(OWN[0],))
        for name in ("one", "two")
    )
    table = ZoneTable(node=NODES[0], servers=NODES[:1])
    table.publish(view := view.changed([first, second]))
    queries = [question(f"{name}.marathon.mesos.", 1) for name in ("one", "two")]
    before = [table.answers.reply(query) for query in queries]

    table.publish(view.changed([msgspec.structs.replace(first, addresses=(OWN[1],))]))

    after = [table.answers.reply(query) for query in queries]
    assert after[0] != before[0]
    assert after[1] == before[1]
