"""The ledger says after any sequence of Views what is to be said of the last one alone."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.lb.desired import desired_services
from phalanx.lb.ledger import ServiceLedger
from phalanx.lb.names import names_of
from phalanx.lb.service import Service, Vip
from phalanx.net.model.objects import (
    Framework,
    HostPort,
    IPAddress,
    Liveness,
    Network,
    Node,
    Object,
    Task,
    TaskPhase,
    TaskPort,
    VipLease,
)
from phalanx.net.model.view import Ref, View

NODES = [IPv4Address("198.18.0.1") + n for n in range(3)]
OWN = [IPv4Address("9.0.1.1") + n for n in range(3)]
SIX = IPv6Address("fd01:b::2:8000:0:2")
LEASED = [IPv4Address("11.0.0.1"), IPv4Address("11.0.0.2")]
LEASED6 = IPv6Address("fd01:c::1")
POOLS = (IPv4Network("11.0.0.0/8"), IPv6Network("fd01:c::/64"))


def port(*labels: tuple[str, str], number: int = 80, protocol: str = "tcp") -> TaskPort:
    return TaskPort(number, "", protocol, labels)


PORTS = [
    (),
    (port(("VIP_0", "web:80")),),
    (port(("VIP_0", "/web:80"), protocol="tcp,udp"), port(("vip", "db:81"), number=81)),
    (port(("VIP_0", "db:81"), ("VIP_1", "1.2.3.4:80"), ("LB_SCHEDULER", "sh")),),
    (port(("VIP_0", f"{NODES[2]}:80"), ("VIP_1", f"{LEASED[0]}:80"), ("VIP_2", "web:0")),),
    (port(("VIP_0", "web:80"), ("network-scope", "host"), ("LB_WEIGHT", "5"), number=31000),),
]
nodes = st.builds(
    Node,
    address=st.sampled_from(NODES),
    hostname=st.just("n"),
    liveness=st.sampled_from(Liveness),
)
frameworks = st.builds(
    Framework, id=st.sampled_from(["f1", "f2"]), name=st.sampled_from(["marathon", "b", "-"])
)
tasks = st.builds(
    Task,
    framework_id=st.sampled_from(["f1", "f2"]),
    id=st.sampled_from(["t1", "t2", "t3"]),
    name=st.just("web"),
    agent_id=st.just("S0"),
    node=st.sampled_from(NODES),
    phase=st.sampled_from([TaskPhase.RUNNING, *TaskPhase]),
    is_checked=st.booleans(),
    healthy=st.sampled_from([None, True, False]),
    addresses=st.lists(st.sampled_from(OWN), max_size=2).map(tuple),
    networks=st.sampled_from([(), ("dcos",), ("other", "dcos")]),
    addresses6=st.sampled_from([(), (SIX,)]),
    networks6=st.sampled_from([(), ("dcos",)]),
    ports=st.sampled_from(PORTS),
    host_ports=st.sampled_from([(), (HostPort(31000, 80),)]),
    port_resources=st.just(((31000, 31001),)),
    labels=st.sampled_from([(), (("vip_port0", "tcp://web:82"),)]),
)
networks = st.builds(
    Network,
    name=st.sampled_from(["dcos", "other"]),
    subnet=st.sampled_from([IPv4Network("9.0.0.0/8"), IPv4Network("1.2.0.0/16")]),
    prefix=st.just(24),
    vni=st.just(1),
    mtu=st.just(1400),
    subnet6=st.sampled_from([None, IPv6Network("fd01:b::/64")]),
)
vips = st.builds(
    VipLease,
    name=st.sampled_from(["web.marathon", "db.marathon", "web.b"]),
    address=st.sampled_from(LEASED),
    address6=st.sampled_from([None, LEASED6]),
)
upserts: st.SearchStrategy[list[Object]] = st.lists(
    st.one_of(nodes, frameworks, tasks, tasks, tasks, networks, vips), max_size=6
)
refs = st.one_of(
    st.tuples(st.just("node"), st.sampled_from([str(node) for node in NODES])),
    st.tuples(st.just("framework"), st.sampled_from(["f1", "f2"])),
    st.tuples(st.just("task"), st.sampled_from([f"f{f}/t{t}" for f in "12" for t in "123"])),
    st.tuples(st.just("network"), st.sampled_from(["dcos", "other"])),
    st.tuples(st.just("vip"), st.sampled_from(["web.marathon", "db.marathon", "web.b"])),
)
taken = st.frozensets(st.sampled_from([IPv4Address("1.2.3.4"), NODES[2]]))
steps = st.lists(st.tuples(upserts, st.lists(refs, max_size=3), taken), min_size=1, max_size=8)
FIRST: list[Object] = [
    *(Node(each, "n") for each in NODES[:2]),
    Framework("f1", "marathon"),
    Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1, 1400),
    VipLease("web.marathon", LEASED[0], LEASED6),
    VipLease("db.marathon", LEASED[1]),
    Task("f1", "t1", "web", "S0", NODES[0], TaskPhase.RUNNING, ports=PORTS[1]),
]


@settings(max_examples=150, deadline=None)
@given(steps, st.booleans())
def test_following_step_by_step_is_building_from_nothing(
    history: list[tuple[list[Object], list[Ref], frozenset[IPAddress]]], is_told: bool
) -> None:
    in_use: frozenset[IPAddress] = frozenset()
    ledger = ServiceLedger(node=NODES[0], pools=POOLS, taken=lambda: in_use)
    view = View()
    before = ledger.follow(view)
    for changed, removed, now_in_use in [(FIRST, [], in_use), *history]:
        in_use = now_in_use
        view = view.changed(changed, removed)
        touched = [*((each.kind, each.key) for each in changed), *removed] if is_told else None
        services = ledger.follow(view, touched)

        whole = desired_services(view, node=NODES[0], taken=in_use)
        assert services.by_vip == whole
        assert services.outside == {
            vip: each for vip, each in whole.items() if not any(vip.address in p for p in POOLS)
        }
        assert services.names == names(view, {vip.address for vip in whole})
        assert services.names == names_of(view, node=NODES[0])
        assert services.here == {k: each for k, each in view.tasks.items() if each.node == NODES[0]}
        assert services.changed == {
            vip
            for vip in {*before.by_vip, *whole}
            if before.by_vip.get(vip) != services.by_vip.get(vip)
        }
        assert services.number == before.number + 1
        before = services


def names(view: View, served: set[IPAddress]) -> dict[str, tuple[IPAddress, ...]]:
    """Return the names at whose addresses something is served, looking at every lease."""
    return {
        lease.name: found
        for lease in view.vips.values()
        if (found := tuple(each for each in (lease.address, lease.address6) if each in served))
    }


def test_what_does_not_change_is_the_same_object() -> None:
    ledger = ServiceLedger(pools=POOLS)
    view = View().changed(FIRST)
    before = ledger.follow(view)

    other = Task("f1", "t9", "batch", "S0", NODES[1], TaskPhase.RUNNING)
    after = ledger.follow(view.changed([other]), [("task", other.key)])

    assert after.by_vip is before.by_vip
    assert after.names is before.names
    assert after.changed == frozenset()
    assert before.by_vip.keys() == {Vip(LEASED[0], 80)}


def test_vip_goes_while_its_address_is_taken_though_the_view_stays() -> None:
    chosen = IPv4Address("1.2.3.4")
    in_use = {chosen}
    ledger = ServiceLedger(pools=POOLS, taken=lambda: in_use)
    there = Task("f1", "t1", "web", "S0", NODES[0], TaskPhase.RUNNING, ports=PORTS[3])
    view = View().changed([*FIRST, there])

    before = ledger.follow(view)
    in_use.clear()
    free = ledger.follow(view, ())
    in_use.add(chosen)
    after = ledger.follow(view, ())

    vip = Vip(chosen, 80)
    assert [vip in each.by_vip for each in (before, free, after)] == [False, True, False]
    assert free.changed == after.changed == {vip}
    assert (vip in free.outside, vip in after.outside) == (True, False)


def test_vip_of_preparing_tasks_is_there_as_long_as_one_of_them() -> None:
    ledger = ServiceLedger(pools=POOLS)
    preparing = [
        Task("f1", f"t{n}", "web", "S0", NODES[0], TaskPhase.PREPARING, ports=PORTS[1])
        for n in (1, 2)
    ]
    view = View().changed([*FIRST, *preparing])
    vip = Vip(LEASED[0], 80)

    both = ledger.follow(view)
    one = ledger.follow(view := view.changed([], [("task", "f1/t1")]))
    none = ledger.follow(view.changed([], [("task", "f1/t2")]))

    assert both.by_vip == one.by_vip == {vip: Service()}
    assert both.names == one.names == {"web.marathon": (LEASED[0],)}
    assert (none.by_vip, none.names) == ({}, {})


def test_step_that_failed_is_made_whole_by_the_next() -> None:
    ledger = ServiceLedger(pools=POOLS)
    view = View().changed(FIRST)
    before = ledger.follow(view)
    broken: Any = (("VIP_0",),)  # no decoder lets that through
    bad = Task(
        "f1", "t2", "web", "S0", NODES[1], TaskPhase.RUNNING, ports=(TaskPort(80, labels=broken),)
    )

    with pytest.raises(ValueError, match="unpack"):
        ledger.follow(view.changed([bad]), [("task", bad.key)])
    good = view.changed([msgspec.structs.replace(bad, ports=PORTS[2])])
    after = ledger.follow(good, [("task", bad.key)])

    assert after.by_vip == desired_services(good)
    assert after.number > before.number + 1
