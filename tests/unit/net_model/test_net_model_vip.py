"""VIP labels: what they may say, and that a bad one harms nobody."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.error import InvalidError
from phalanx.net.model.objects import Protocol, Task, TaskPhase, TaskPort
from phalanx.net.model.vip import (
    AddressVip,
    DeclaredVip,
    NamedVip,
    declared_vips,
    malformed_vips,
    parse_vip,
)

TCP, UDP = Protocol.TCP, Protocol.UDP
WEB = NamedVip("web.marathon", 80, TCP)


def task(
    *ports: TaskPort,
    labels: tuple[tuple[str, str], ...] = (),
    resources: tuple[tuple[int, int], ...] = (),
) -> Task:
    return Task(
        framework_id="f",
        id="t",
        name="t",
        agent_id="a",
        node=IPv4Address("198.18.0.1"),
        phase=TaskPhase.RUNNING,
        ports=ports,
        labels=labels,
        port_resources=resources,
    )


def port(*labels: tuple[str, str], number: int = 8080, protocol: str = "tcp") -> TaskPort:
    return TaskPort(number=number, protocol=protocol, labels=labels)


@pytest.mark.parametrize(
    ("value", "framework", "expected"),
    [
        ("/web:80", "marathon", WEB),
        ("web:80", "marathon", WEB),
        ("WEB:80", "Marathon", WEB),
        ("/api.hello-world:80", "marathon", NamedVip("api.hello-world.marathon", 80, TCP)),
        ("/group/web:80", "marathon", NamedVip("groupweb.marathon", 80, TCP)),
        ("web:80", "dev/marathon", NamedVip("web.devmarathon", 80, TCP)),
        ("a:b:65535", "marathon", NamedVip("ab.marathon", 65535, TCP)),
        ("1.2.3.4:1", "marathon", AddressVip(IPv4Address("1.2.3.4"), 1, TCP)),
        ("1.2.3:80", "marathon", NamedVip("1.2.3.marathon", 80, TCP)),
        ("fd01:c::1:80", "marathon", AddressVip(IPv6Address("fd01:c::1"), 80, TCP)),
        ("[fd01:c::1]:80", "marathon", AddressVip(IPv6Address("fd01:c::1"), 80, TCP)),
        ("fe80::1%eth0:80", "marathon", NamedVip("fe801eth0.marathon", 80, TCP)),
        ("[1.2.3.4]:80", "marathon", NamedVip("1.2.3.4.marathon", 80, TCP)),
        ("/1.2.3.4:80", "marathon", NamedVip("1.2.3.4.marathon", 80, TCP)),
    ],
)
def test_value_is_read_in_one_canonical_form(
    value: str, framework: str, expected: NamedVip | AddressVip
) -> None:
    assert parse_vip(value, framework, TCP) == expected


@pytest.mark.parametrize(
    ("value", "framework", "reason"),
    [
        ("web", "marathon", "no port"),
        ("", "marathon", "no port"),
        ("web:", "marathon", "port ''"),
        ("web:0", "marathon", "port '0'"),
        ("web:-1", "marathon", "port '-1'"),
        ("web:65536", "marathon", "port '65536'"),
        ("web:http", "marathon", "port 'http'"),
        ("web:८०", "marathon", "is not in 1..65535"),
        (f"web:{'9' * 5000}", "marathon", "is not in 1..65535"),
        (":80", "marathon", "nothing of the name"),
        ("/:80", "marathon", "nothing of the name"),
        ("web:80", "%", "nothing of the framework's name '%'"),
        (f"{'a.' * 120}b:80", "marathon", "more than 229"),
    ],
)
def test_value_that_can_not_be_used_is_named(value: str, framework: str, reason: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_vip(value, framework, TCP)

    assert reason in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("key", ["VIP", "vip", "VIP_0", "VIPfoo", "vip_http"])
def test_key_begins_with_vip_in_one_case(key: str) -> None:
    web = port((key, "/web:80"))

    assert declared_vips(task(web), "marathon") == (DeclaredVip(WEB, web),)


@pytest.mark.parametrize("key", ["Vip_0", "xVIP", "network-scope", ""])
def test_other_keys_declare_nothing(key: str) -> None:
    declaring = task(port((key, "/web:80")))

    assert declared_vips(declaring, "marathon") == ()
    assert malformed_vips(declaring, "marathon") == ()


def test_malformed_label_harms_no_sibling_and_is_listed() -> None:
    mixed = port(("VIP_0", "broken"), ("VIP_1", "/web:80"))
    other = port(("VIP_0", "1.2.3.4:81"), number=81)

    declared = declared_vips(task(mixed, other), "marathon")
    malformed = malformed_vips(task(mixed, other), "marathon")

    own = AddressVip(IPv4Address("1.2.3.4"), 81, TCP)
    assert declared == (DeclaredVip(WEB, mixed), DeclaredVip(own, other))
    assert [(item.key, item.value) for item in malformed] == [("VIP_0", "broken")]
    assert "no port" in malformed[0].reason


def test_several_labels_of_a_port_are_several_vips_and_equal_ones_are_one() -> None:
    several = port(("VIP_0", "/web:80"), ("VIP_1", "/web:81"), ("VIP_2", "web:80"))

    declared = declared_vips(task(several), "marathon")

    assert [item.vip for item in declared] == [WEB, NamedVip("web.marathon", 81, TCP)]


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("tcp", [TCP]),
        ("UDP", [UDP]),
        ("tcp,udp", [TCP, UDP]),
        ("udp,tcp", [UDP, TCP]),
        ("udp, sctp", [UDP]),
        ("sctp", []),
    ],
)
def test_protocols_of_the_port_count(protocol: str, expected: list[Protocol]) -> None:
    declaring = task(port(("VIP_0", "/web:80"), protocol=protocol))

    declared = declared_vips(declaring, "marathon")
    malformed = malformed_vips(declaring, "marathon")

    assert [item.vip.protocol for item in declared] == expected
    assert ["sctp" in item.reason for item in malformed] == [True] * ("sctp" in protocol)


def test_port_with_number_0_declares_nothing() -> None:
    assert declared_vips(task(port(("VIP_0", "/web:80"), number=0)), "marathon") == ()


def named(name: str, number: int) -> NamedVip:
    return NamedVip(f"{name}.marathon", number, TCP)


def test_labels_of_ports_and_of_the_task_meet_at_a_port() -> None:
    # Reference dcos-net §1.9: vip-labels.json.
    holding = task(
        port(("VIP_0", "/abc:80"), ("VIP_1", "/cbd:80"), number=9999),
        port(number=10000),
        port(("VIP_2", "/xyz:443"), number=10001),
        port(number=10002),
        labels=(("vip_port0", "tcp://def:80"), ("vip_port1", "tcp://jkl:80")),
        resources=((9999, 10002),),
    )

    declared = declared_vips(holding, "marathon")

    assert sorted((item.port.number, item.vip) for item in declared) == [
        (9999, named("abc", 80)),
        (9999, named("cbd", 80)),
        (9999, named("def", 80)),
        (10000, named("jkl", 80)),
        (10001, named("xyz", 443)),
    ]
    assert malformed_vips(holding, "marathon") == ()


@pytest.mark.parametrize(
    ("key", "value", "vip", "number"),
    [
        ("vip_port0", "tcp://web:80", WEB, 31000),
        ("VIP_PORT2", "tcp:///web:80", WEB, 31500),
        ("vip_PORT1", "UDP://web:80", NamedVip("web.marathon", 80, UDP), 31001),
        ("vip_port0", "tcp://1.2.3.4:80", AddressVip(IPv4Address("1.2.3.4"), 80, TCP), 31000),
        ("vip_port0", "tcp://[fd01:f::1]:80", AddressVip(IPv6Address("fd01:f::1"), 80, TCP), 31000),
    ],
)
def test_label_of_the_task_counts_the_ports_it_holds(
    key: str, value: str, vip: NamedVip | AddressVip, number: int
) -> None:
    holding = task(labels=((key, value),), resources=((31000, 31001), (31500, 31500)))

    made = TaskPort(number, protocol=vip.protocol, labels=(("network-scope", "host"),))
    assert declared_vips(holding, "marathon") == (DeclaredVip(vip, made),)


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        ("tcp://web:80", "vip_port2", "holds no port number 2"),
        ("web:80", "vip_port0", "neither tcp:// nor udp://"),
        ("sctp://web:80", "vip_port0", "neither tcp:// nor udp://"),
        ("tcp://web", "vip_port0", "no port"),
        ("tcp://web:0", "vip_port0", "port '0'"),
    ],
)
def test_malformed_label_of_the_task_harms_no_sibling(value: str, key: str, reason: str) -> None:
    holding = task(
        port(("VIP_0", "/web:80"), number=31000),
        labels=((key, value), ("vip_port1", "tcp://api:80")),
        resources=((31000, 31001),),
    )

    [bad] = malformed_vips(holding, "marathon")
    good = declared_vips(holding, "marathon")

    assert reason in bad.reason
    assert [item.vip for item in good] == [WEB, named("api", 80)]


@pytest.mark.parametrize("key", ["vip_port", "vip_portx", "xvip_port0", "vip_port0x", "VIP_0"])
def test_other_labels_of_the_task_declare_nothing(key: str) -> None:
    holding = task(labels=((key, "tcp://web:80"),), resources=((31000, 31001),))

    assert declared_vips(holding, "marathon") == ()
    assert malformed_vips(holding, "marathon") == ()


@given(
    labels=st.lists(st.tuples(st.sampled_from(["VIP", "vip_x", "vip_port1"]), st.text())),
    framework=st.text(),
    protocol=st.sampled_from(["tcp", "udp,tcp", "", "x"]),
)
def test_whatever_stands_in_labels_a_good_one_is_found(
    labels: list[tuple[str, str]], framework: str, protocol: str
) -> None:
    bad = port(*labels, protocol=protocol, number=81)
    good = port(("VIP", "1.2.3.4:80"))

    declared = declared_vips(task(bad, good, labels=tuple(labels)), framework)

    assert DeclaredVip(AddressVip(IPv4Address("1.2.3.4"), 80, TCP), good) in declared
