"""The record table of Mesos-DNS, row by row (reference dns §1.3)."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import msgspec
import pytest

from phalanx.dns.zones.desired import desired_zones
from phalanx.dns.zones.facet import drawn, shape_of
from phalanx.dns.zones.mesos import (
    mesos_cluster_records,
    mesos_facets,
    mesos_framework_records,
    mesos_own_facets,
)
from phalanx.dns.zones.record import Record, RecordType, Srv
from phalanx.dns.zones.settings import DEFAULTS, ZoneSettings
from phalanx.net.model.objects import (
    Framework,
    HostPort,
    Liveness,
    Network,
    Node,
    Task,
    TaskPhase,
    TaskPort,
)
from phalanx.net.model.view import View

AGENT = IPv4Address("198.18.0.2")
OWN = IPv4Address("9.0.1.2")
PLAIN = Task(
    framework_id="f",
    id="test",
    name="Car_store",
    agent_id="20140803-194712-3041283216-5050-2116-S0",
    node=AGENT,
    phase=TaskPhase.RUNNING,
    addresses=(OWN,),
    networks=("dcos",),
    port_resources=((31000, 31001),),
)
DISCOVERED = msgspec.structs.replace(
    PLAIN, discovery_name="Liquor.store", ports=(TaskPort(80, "Web_ui"), TaskPort(53, "", "udp"))
)
Line = tuple[str, str]


def lines(task: Task, framework: str = "marathon", settings: ZoneSettings = DEFAULTS) -> set[Line]:
    """Return the records as the name and the data in one line each."""
    shape = shape_of(task, framework)
    facets = [*mesos_facets(shape, settings), *mesos_own_facets(task, shape, settings)]
    return {line(record) for record in drawn(facets, task)}


def line(record: Record) -> Line:
    data = record.data
    return record.name, f"{data.target}:{data.port}" if isinstance(data, Srv) else str(data)


WHOLE = View().changed(
    [Node(AGENT, "a1", agent_id="S0", port=5051), Framework("f", "marathon"), PLAIN]
)


def names_in(view: View) -> set[str]:
    zones = desired_zones(view, settings=DEFAULTS)
    return {name for zone in zones.values() if zone for name in zone.names if "car" in name}


def test_task_without_discovery_has_address_and_service_records() -> None:
    canonical = "car-store-iffe9-s0.marathon"
    slave = f"{canonical}.slave.mesos."

    assert lines(PLAIN) == {
        ("car-store.marathon.mesos.", "9.0.1.2"),
        (f"{canonical}.mesos.", "9.0.1.2"),
        ("car-store.marathon.slave.mesos.", "198.18.0.2"),
        (slave, "198.18.0.2"),
        *(
            (f"_car-store._{proto}.marathon.{where}", f"{slave}:{port}")
            for proto in ("tcp", "udp")
            for where in ("mesos.", "slave.mesos.")
            for port in (31000, 31001)
        ),
    }


def test_discovery_name_replaces_the_task_name_raw_and_as_a_label() -> None:
    addresses = {found for found in lines(DISCOVERED) if not found[0].startswith("_")}

    assert addresses == {
        (f"{name}{kind}mesos.", address)
        for stem in ("liquor.store", "liquor-store")
        for name in (stem, f"{stem}-iffe9-s0")
        for kind, address in ((".marathon.", "9.0.1.2"), (".marathon.slave.", "198.18.0.2"))
    }  # fmt: skip


def test_discovery_ports_are_services_of_the_task_itself() -> None:
    host = "liquor-store-iffe9-s0.marathon"
    services = {found for found in lines(DISCOVERED) if "_liquor-store." in found[0]}

    assert services == {
        *(
            (f"_{service}.marathon.{where}", f"{host}.{where}:{port}")
            for where in ("mesos.", "slave.mesos.")
            for service, port in (
                ("liquor-store._tcp", 80),
                ("web-ui._liquor-store._tcp", 80),
                ("liquor-store._udp", 53),
            )
        ),
        *(
            (f"_liquor-store._{proto}.marathon.slave.mesos.",
             f"liquor-store-iffe9-s0.marathon.slave.mesos.:{port}")
            for proto in ("tcp", "udp")
            for port in (31000, 31001)
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [("tcp", {"_tcp"}), ("", {"_tcp", "_udp"}), ("tcp,udp", {"_tcp", "_udp"}), ("SCTP", {"_sctp"})],
)
def test_protocol_of_a_port_names_the_service(protocol: str, expected: set[str]) -> None:
    task = msgspec.structs.replace(
        PLAIN, discovery_name="web", ports=(TaskPort(80, "", protocol),), port_resources=()
    )

    found = {name.split(".")[1] for name, _ in lines(task) if name.startswith("_web.")}

    assert found == expected


def test_task_without_own_address_is_found_at_its_agent() -> None:
    task = msgspec.structs.replace(PLAIN, addresses=(), networks=())

    assert ("car-store.marathon.mesos.", "198.18.0.2") in lines(task)


def test_group_of_marathon_is_both_dotted_and_dashed() -> None:
    task = msgspec.structs.replace(PLAIN, discovery_name="myapp.mygroup")

    names = {name for name, _ in lines(task)}

    assert {"myapp.mygroup.marathon.mesos.", "myapp-mygroup.marathon.mesos."} <= names


def test_long_name_leaves_room_for_the_canonical_suffix() -> None:
    task = msgspec.structs.replace(PLAIN, name=63 * "x", port_resources=())

    names = {name for name, _ in lines(task)}

    assert f"{54 * 'x'}-iffe9-s0.marathon.mesos." in names
    assert max(len(label) for name in names for label in name.split(".")) == 63


@pytest.mark.parametrize("phase", [p for p in TaskPhase if p is not TaskPhase.RUNNING])
def test_task_that_does_not_run_has_no_names(phase: TaskPhase) -> None:
    assert not names_in(WHOLE.changed([msgspec.structs.replace(PLAIN, phase=phase)]))


def test_unhealthy_task_alone_keeps_its_names() -> None:
    sick = msgspec.structs.replace(PLAIN, is_checked=True, healthy=False)

    assert names_in(WHOLE.changed([sick])) == names_in(WHOLE)


def test_task_of_an_unknown_framework_or_node_has_no_names() -> None:
    assert names_in(WHOLE)
    assert not names_in(WHOLE.changed([], [("framework", "f")]))
    assert not names_in(WHOLE.changed([], [("node", str(AGENT))]))


M1 = Node(IPv4Address("198.18.0.1"), "m1", is_master=True, port=5050)
M2 = Node(IPv4Address("198.18.0.9"), "m2", is_master=True, is_leader=True, port=5055)
A1 = Node(AGENT, "a1", agent_id="x-S0", port=5051)
A2 = Node(
    IPv4Address("198.18.0.3"), "a2", agent_id="x-S1", port=5052, liveness=Liveness.SUSPECT
)  # fmt: skip
GONE = Node(
    IPv4Address("198.18.0.4"), "a3", agent_id="x-S2", port=5053, liveness=Liveness.UNREACHABLE
)  # fmt: skip


def test_cluster_has_names_for_masters_and_agents() -> None:
    found = {line(record) for record in mesos_cluster_records([M2, GONE, A2, A1, M1], "mesos")}

    assert found == {
        ("slave.mesos.", "198.18.0.2"),
        ("slave.mesos.", "198.18.0.3"),
        ("_slave._tcp.mesos.", "slave.mesos.:5051"),
        ("_slave._tcp.mesos.", "slave.mesos.:5052"),
        ("master.mesos.", "198.18.0.1"),
        ("master.mesos.", "198.18.0.9"),
        ("master0.mesos.", "198.18.0.1"),
        ("master1.mesos.", "198.18.0.9"),
        ("leader.mesos.", "198.18.0.9"),
        ("_leader._tcp.mesos.", "leader.mesos.:5055"),
        ("_leader._udp.mesos.", "leader.mesos.:5055"),
    }


def test_leader_that_is_also_an_agent_is_at_the_masters_port() -> None:
    both = msgspec.structs.replace(M2, agent_id="x-S9", port=5051)

    found = dict(map(line, mesos_cluster_records([both], "mesos")))

    assert found["_leader._tcp.mesos."] == "leader.mesos.:5050"
    assert found["_slave._tcp.mesos."] == "slave.mesos.:5051"


@pytest.mark.parametrize(
    ("hostname", "webui_url", "expected"),
    [
        pytest.param("10.0.0.7", "", ["10.0.0.7"], id="literal"),
        pytest.param("m1", "", ["198.18.0.1"], id="name-of-a-node"),
        pytest.param("", "http://10.0.0.8:8080/", ["10.0.0.8"], id="web-page"),
        pytest.param("elsewhere", "", [], id="not-resolvable"),
    ],
)
def test_framework_is_named_after_its_scheduler(
    hostname: str, webui_url: str, expected: list[str]
) -> None:
    framework = Framework("f", "Mara_thon.user", hostname, webui_url)

    found = list(mesos_framework_records(framework, {"m1": M1}, DEFAULTS))

    assert found == [
        Record("mara-thon.user.mesos.", RecordType.A, IPv4Address(address)) for address in expected
    ]


def test_host_ports_do_not_change_mesos_names() -> None:
    mapped = msgspec.structs.replace(PLAIN, host_ports=(HostPort(31000, 80),))

    assert lines(mapped) == lines(PLAIN)


@pytest.mark.parametrize(
    ("sources", "addresses", "expected"),
    [
        (("netinfo", "mesos", "host"), (OWN,), {"9.0.1.2"}),
        (("netinfo", "mesos", "host"), (), {"198.18.0.2"}),
        (("host", "netinfo"), (OWN,), {"198.18.0.2"}),
        (("mesos",), (OWN,), {"9.0.1.2"}),
        (("netinfo",), (), set[str]()),
    ],
)
def test_first_source_with_an_address_wins(
    sources: tuple[str, ...], addresses: tuple[IPv4Address, ...], expected: set[str]
) -> None:
    task = msgspec.structs.replace(PLAIN, addresses=addresses, port_resources=())

    found = lines(task, settings=ZoneSettings(sources=sources))

    for name in ("car-store.marathon.mesos.", "car-store-iffe9-s0.marathon.mesos."):
        assert {data for owner, data in found if owner == name} == expected


SIX = IPv6Address("fd01:b::2:8000:0:2")


@pytest.mark.parametrize(
    ("sources", "addresses", "expected"),
    [
        (("netinfo", "host"), (OWN,), {(RecordType.A, OWN), (RecordType.AAAA, SIX)}),
        (("netinfo", "host"), (), {(RecordType.AAAA, SIX)}),
        (("host", "netinfo"), (OWN,), {(RecordType.A, AGENT)}),
    ],
)
def test_own_addresses_of_both_families_are_one_source(
    sources: tuple[str, ...],
    addresses: tuple[IPv4Address, ...],
    expected: set[tuple[RecordType, object]],
) -> None:
    task = msgspec.structs.replace(
        PLAIN, addresses=addresses, addresses6=(SIX,), networks6=("dcos",)
    )
    chosen = ZoneSettings(sources=sources)

    zone = desired_zones(WHOLE.changed([task]), settings=chosen)["mesos."]

    assert zone is not None
    for name in ("car-store.marathon.mesos.", "car-store-iffe9-s0.marathon.mesos."):
        found = {(type_, data) for type_, rrset in zone.names[name].items() for data in rrset}
        assert found - {each for each in found if each[0] is RecordType.SRV} == expected


def test_ipv6_address_leads_back_to_its_task() -> None:
    network = Network("dcos6", None, 0, 1025, 1450, subnet6=IPv6Network("fd01:b::/62"))
    task = msgspec.structs.replace(
        PLAIN, addresses=(), networks=(), addresses6=(SIX,), networks6=("dcos6",)
    )

    zones = desired_zones(WHOLE.changed([network, task]), settings=DEFAULTS)

    apexes = {apex for apex in zones if apex.endswith(".ip6.arpa.")}
    assert apexes == {f"{last}.0.0.0.0.0.0.0.b.0.0.0.1.0.d.f.ip6.arpa." for last in "0123"}
    name = "2.0.0.0.0.0.0.0.0.0.0.8.2.0.0.0.0.0.0.0.0.0.0.0.b.0.0.0.1.0.d.f.ip6.arpa."
    zone = zones["0.0.0.0.0.0.0.0.b.0.0.0.1.0.d.f.ip6.arpa."]
    assert zone is not None
    assert zone.names[name] == {RecordType.PTR: ("car-store.marathon.mesos.",)}


def test_old_hosts_get_labels_by_rfc952() -> None:
    task = msgspec.structs.replace(PLAIN, name="4_" + 30 * "x", port_resources=())

    names = {
        name for name, _ in lines(task, "marathon-0.6.0-dev", ZoneSettings(enforces_rfc952=True))
    }

    assert f"{24 * 'x'}.marathon-0.dev.mesos." in names
