"""The naming table of DC/OS (reference dcos-net §2.5)."""

from ipaddress import IPv4Address, IPv6Address

import msgspec
import pytest

from phalanx.dns.zones.dcos import dcos_cluster_records, dcos_facets, zk_records
from phalanx.dns.zones.facet import drawn, shape_of
from phalanx.dns.zones.record import Record, RecordType
from phalanx.net.model.objects import HostPort, Node, Task, TaskPhase

TAIL = "dcos.thisdcos.directory."
MAPPED = (HostPort(15263, 8080),)


def task(name: str, node: str, addresses: tuple[str, ...], ports: tuple[HostPort, ...]) -> Task:
    return Task(
        framework_id="f",
        id="t",
        name=name,
        agent_id="S0",
        node=IPv4Address(node),
        phase=TaskPhase.RUNNING,
        addresses=tuple(map(IPv4Address, addresses)),
        host_ports=ports,
    )


def records(found: Task, framework: str) -> list[Record]:
    return list(drawn(dcos_facets(shape_of(found, framework)), found))


@pytest.mark.parametrize(
    ("name", "agent", "own", "ports", "automatic"),
    [
        ("none-on-host", "172.17.0.4", ("172.17.0.4",), (), "172.17.0.4"),
        ("none-on-dcos", "172.17.0.4", ("9.0.2.5",), (), "9.0.2.5"),
        ("ucr-on-bridge", "172.17.0.3", ("172.31.254.3",), MAPPED, "172.17.0.3"),
        ("ucr-on-dcos", "172.17.0.3", ("9.0.1.6",), (), "9.0.1.6"),
        ("docker-on-bridge", "172.17.0.4", ("172.18.0.2",), MAPPED, "172.17.0.4"),
        ("docker-on-dcos", "172.17.0.4", ("9.0.2.130",), (), "9.0.2.130"),
        ("pod-on-bridge", "172.17.0.3", ("172.31.254.4",), MAPPED, "172.17.0.3"),
        ("pod-on-dcos", "172.17.0.3", ("9.0.1.3",), (), "9.0.1.3"),
        ("without-address", "172.17.0.3", (), (), "172.17.0.3"),
    ],
)
def test_task_has_three_addresses(
    name: str, agent: str, own: tuple[str, ...], ports: tuple[HostPort, ...], automatic: str
) -> None:
    found = records(task(name, agent, own, ports), "marathon")

    assert [(record.name, str(record.data)) for record in found] == [
        (f"{name}.marathon.agentip.{TAIL}", agent),
        *((f"{name}.marathon.containerip.{TAIL}", address) for address in own),
        (f"{name}.marathon.autoip.{TAIL}", automatic),
    ]


SIX = IPv6Address("fd01:b::2:8000:0:2")


@pytest.mark.parametrize(
    ("own", "ports", "container", "automatic"),
    [
        ((), (), {str(SIX)}, {str(SIX)}),
        (("9.0.2.5",), (), {"9.0.2.5", str(SIX)}, {"9.0.2.5", str(SIX)}),
        ((), MAPPED, {str(SIX)}, {"172.17.0.4"}),
    ],
)
def test_task_with_an_ipv6_address_has_it_beside_the_other(
    own: tuple[str, ...], ports: tuple[HostPort, ...], container: set[str], automatic: set[str]
) -> None:
    found = msgspec.structs.replace(
        task("docker-on-ipv6", "172.17.0.4", own, ports), addresses6=(SIX,), networks6=("dcos6",)
    )

    drawn_ = records(found, "marathon")

    for kind, expected in (("containerip", container), ("autoip", automatic)):
        at = [each for each in drawn_ if each.name == f"docker-on-ipv6.marathon.{kind}.{TAIL}"]
        assert {str(each.data) for each in at} == expected
        assert all((each.type is RecordType.AAAA) == (each.data == SIX) for each in at)


@pytest.mark.parametrize(
    ("name", "framework", "expected"),
    [
        pytest.param("myapp.mygroup", "marathon", "myapp-mygroup.marathon", id="group"),
        pytest.param("a", "Dev.Marathon", "a.dev-marathon", id="framework-is-one-label"),
    ],
)
def test_names_are_single_labels(name: str, framework: str, expected: str) -> None:
    [first, *_] = records(task(name, "172.17.0.3", (), ()), framework)

    assert first.name == f"{expected}.agentip.{TAIL}"


def test_masters_and_leader_have_names() -> None:
    first, second, agent = map(IPv4Address, ("198.18.0.1", "198.18.0.2", "198.18.0.3"))
    nodes = [
        Node(first, "m1", is_master=True),
        Node(second, "m2", is_master=True, is_leader=True),
        Node(agent, "a1", agent_id="S0"),
    ]

    assert set(dcos_cluster_records(nodes)) == {
        Record(f"master.{TAIL}", RecordType.A, first),
        Record(f"master.{TAIL}", RecordType.A, second),
        Record(f"leader.{TAIL}", RecordType.A, second),
    }


def test_five_names_of_zookeeper_lead_to_the_masters_in_turn() -> None:
    first, second, agent = map(IPv4Address, ("198.18.0.1", "198.18.0.2", "198.18.0.3"))
    nodes = [
        Node(second, "m2", is_master=True),
        Node(agent, "a1", agent_id="S0"),
        Node(first, "m1", is_master=True, is_leader=True),
    ]

    assert [(each.name, each.data) for each in zk_records(nodes)] == [
        ("zk-1.zk.", first),
        ("zk-2.zk.", second),
        ("zk-3.zk.", first),
        ("zk-4.zk.", second),
        ("zk-5.zk.", first),
    ]
    assert list(zk_records(nodes[1:2])) == []
