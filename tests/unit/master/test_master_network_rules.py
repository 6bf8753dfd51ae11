"""What may be a network or a policy, and which subnet a node gets."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.error import ConflictError, InvalidError, UnavailableError
from phalanx.master.network.definition import (
    Ground,
    NetworkChange,
    NetworkSpec,
    changed_network,
    lowest_vni,
    new_network,
)
from phalanx.master.network.lease import free_subnets
from phalanx.master.network.policy import (
    PolicyDocument,
    PolicySpec,
    new_policy,
    parse_ports,
    read_document,
    render_ports,
)
from phalanx.net.model.objects import (
    Action,
    Direction,
    Network,
    Policy,
    SubnetLease,
    Tier,
    Traffic,
)

GROUND = Ground()
DCOS = Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450)
SIX = Network("six", None, 24, 1025, 1450, subnet6=IPv6Network("fd01:b::/64"), prefix6=80)
EXISTING = {"dcos": DCOS, "six": SIX}
NODE = IPv4Address("198.18.0.2")


def made(**fields: object) -> Network:
    spec = msgspec.convert({"name": "blue", "subnet": "10.1.0.0/16"} | fields, NetworkSpec)
    return new_network(spec, EXISTING, ground=GROUND, nodes=[NODE])


def test_network_gets_the_lowest_free_vni_and_the_defaults() -> None:
    assert made() == Network("blue", IPv4Network("10.1.0.0/16"), 24, 1026, 1450, isolated=True)


def test_network_may_have_ipv6_alone_or_both_and_a_vni_of_choice() -> None:
    both = made(subnet6="fd00:7::/64", vni=5000)
    alone = made(subnet=None, subnet6="fd00:7::/64", prefix6=96)

    assert both.subnets == (IPv4Network("10.1.0.0/16"), IPv6Network("fd00:7::/64"))
    assert (both.vni, both.prefix6) == (5000, 80)
    assert (alone.subnets, alone.prefix6) == ((IPv6Network("fd00:7::/64"),), 96)


def test_cluster_without_ipv6_takes_no_network_of_it() -> None:
    spec = NetworkSpec("six", subnet6="fd00:7::/64")

    with pytest.raises(InvalidError, match="this cluster has no IPv6"):
        new_network(spec, {}, ground=Ground(vip_range6=None), nodes=())


def test_vni_of_a_deleted_network_is_used_again() -> None:
    assert lowest_vni([1024, 1026]) == 1025
    assert lowest_vni([]) == 1024


@pytest.mark.parametrize("name", ["a", "a1", "1a", "a-b", "x" * 63])
def test_good_name_is_taken(name: str) -> None:
    assert made(name=name).name == name


INVALID: dict[str, tuple[dict[str, object], str]] = {
    "empty-name": ({"name": ""}, "name: ''"),
    "capital": ({"name": "Blue"}, "name: 'Blue'"),
    "hyphen-first": ({"name": "-a"}, "name: '-a'"),
    "hyphen-last": ({"name": "a-"}, "name: 'a-'"),
    "underscore": ({"name": "a_b"}, "name: 'a_b'"),
    "newline": ({"name": "a\n"}, "name: "),
    "long-name": ({"name": "x" * 64}, "at most 63"),
    "no-subnet": ({"subnet": "blue"}, "subnet: 'blue'"),
    "host-bits": ({"subnet": "10.1.0.1/16"}, "host bits"),
    "ipv6": ({"subnet": "fd00::/64"}, "not an IPv4 prefix"),
    "ipv4": ({"subnet6": "10.7.0.0/16"}, "not an IPv6 prefix"),
    "host-bits6": ({"subnet6": "fd00::1/64"}, "host bits"),
    "neither": ({"subnet": None}, "needs a subnet"),
    "short-prefix6": ({"subnet6": "fd00::/64", "prefix6": 64}, "prefix6: 64 must be longer"),
    "long-prefix6": ({"subnet6": "fd00::/64", "prefix6": 127}, "prefix6: 127"),
    "small-mtu6": ({"subnet6": "fd00::/64", "mtu": 1279}, "mtu: 1279"),
    "dns6": ({"subnet6": "fd01:d::/72"}, "the DNS addresses"),
    "nodes6": ({"subnet6": "fd01:a::/64"}, "the nodes' addresses"),
    "vips6": ({"subnet6": "fd01:c::/60"}, "the VIP range"),
    "all6": ({"subnet6": "::/0"}, "not for containers"),
    "mapped": ({"subnet6": "::ffff:0:0/96"}, "not for containers"),
    "multicast6": ({"subnet6": "ff00::/16"}, "not for containers"),
    "link-local6": ({"subnet6": "fe80::/64"}, "not for containers"),
    "low-vni": ({"vni": 1023}, "vni: 1023"),
    "high-vni": ({"vni": 1 << 24}, "vni: 16777216"),
    "short-prefix": ({"prefix": 16}, "prefix: 16 must be longer"),
    "long-prefix": ({"prefix": 31}, "prefix: 31"),
    "small-mtu": ({"mtu": 100}, "mtu: 100"),
    "dns": ({"subnet": "198.51.0.0/16"}, "the DNS addresses"),
    "vips": ({"subnet": "11.3.0.0/16"}, "the VIP range"),
    "all": ({"subnet": "0.0.0.0/0"}, "not for containers"),
    "loopback": ({"subnet": "127.1.0.0/16"}, "not for containers"),
    "multicast": ({"subnet": "224.0.0.0/16"}, "not for containers"),
}


@pytest.mark.parametrize(("fields", "message"), INVALID.values(), ids=INVALID.keys())
def test_network_that_cannot_be_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        made(**fields)


COLLIDING: dict[str, tuple[dict[str, object], str]] = {
    "name": ({"name": "dcos"}, "'dcos' is there already"),
    "inside": ({"subnet": "9.8.0.0/16"}, r"overlaps 9.0.0.0/8 of network 'dcos'"),
    "around": ({"subnet": "8.0.0.0/6"}, r"overlaps"),
    "vni": ({"vni": 1024}, "vni: 1024 is that of network 'dcos'"),
    "inside6": ({"subnet6": "fd01:b::/65"}, "overlaps fd01:b::/64 of network 'six'"),
    "node": ({"subnet": "198.18.0.0/16"}, "holds the address 198.18.0.2 of a node"),
}


@pytest.mark.parametrize(("fields", "message"), COLLIDING.values(), ids=COLLIDING.keys())
def test_network_that_collides_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises((ConflictError, InvalidError), match=message):
        made(**fields)


def test_collision_with_another_network_is_a_conflict() -> None:
    with pytest.raises(ConflictError):
        made(subnet="9.8.0.0/16")


@given(st.sets(st.integers(0, 255), max_size=255))
def test_lowest_free_subnet_is_leased(taken: set[int]) -> None:
    network = msgspec.structs.replace(DCOS, subnet=IPv4Network("9.1.0.0/16"))

    subnet = next(free_subnets(network, {IPv4Network(f"9.1.{third}.0/24") for third in taken}))

    assert subnet == IPv4Network(f"9.1.{min(set(range(256)) - taken)}.0/24")


WIDE = Network("blue", IPv4Network("10.1.0.0/16"), 24, 1026, 1450)
LEASED = SubnetLease("blue", NODE, IPv4Network("10.1.3.0/24"))


def changed(**fields: object) -> Network:
    return changed_network(
        WIDE,
        msgspec.convert(fields, NetworkChange),
        {**EXISTING, "blue": WIDE},
        ground=GROUND,
        nodes=[NODE],
        leases=[LEASED],
    )


CHANGES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "nothing": ({}, {}),
    "mtu": ({"mtu": 8900}, {"mtu": 8900}),
    "open": ({"isolated": False}, {"isolated": False}),
    "wider": ({"subnet": "10.0.0.0/15"}, {"subnet": IPv4Network("10.0.0.0/15")}),
    "narrower": ({"subnet": "10.1.0.0/22"}, {"subnet": IPv4Network("10.1.0.0/22")}),
    "a-family-more": (
        {"subnet6": "fd00:7::/64"},
        {"subnet6": IPv6Network("fd00:7::/64"), "prefix6": 80},
    ),
    "the-other-family": (
        {"subnet": None, "subnet6": "fd00:7::/64", "prefix6": 96},
        {"subnet": None, "subnet6": IPv6Network("fd00:7::/64"), "prefix6": 96},
    ),
}


@pytest.mark.parametrize(("fields", "after"), CHANGES.values(), ids=CHANGES.keys())
def test_network_changes_in_what_is_given(
    fields: dict[str, object], after: dict[str, object]
) -> None:
    assert changed(**fields) == msgspec.structs.replace(WIDE, **after)


REFUSED_CHANGES: dict[str, tuple[dict[str, object], str]] = {
    "beside-a-lease": ({"subnet": "10.1.0.0/23"}, r"node 198\.18\.0\.2 is leased 10\.1\.3\.0/24"),
    "another-prefix": ({"prefix": 25}, r"prefix: node 198\.18\.0\.2 is leased 10\.1\.3\.0/24"),
    "over-another": ({"subnet": "8.0.0.0/6"}, "overlaps"),
    "over-vips": ({"subnet": "10.0.0.0/7"}, "the VIP range"),
    "nothing-left": ({"subnet": None}, "needs a subnet"),
    "small-mtu": ({"mtu": 1}, "mtu: 1"),
    "small-mtu6": ({"mtu": 1279, "subnet6": "fd00:7::/64"}, "mtu: 1279"),
    "prefix6-of-none": ({"prefix6": 80}, "the network has no subnet6"),
}


@pytest.mark.parametrize(
    ("fields", "message"), REFUSED_CHANGES.values(), ids=REFUSED_CHANGES.keys()
)
def test_change_that_cannot_be_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises((ConflictError, InvalidError), match=message):
        changed(**fields)


@pytest.mark.parametrize("field", ["name", "vni"])
def test_name_and_vni_are_for_ever(field: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert({field: 7}, NetworkChange)


def test_full_network_has_no_subnet_left() -> None:
    whole = IPv4Network("9.1.0.0/23")
    network = Network("tiny", whole, 24, 1024, 1450)

    with pytest.raises(UnavailableError, match=r"all 2 subnets of 9\.1\.0\.0/23 are leased"):
        next(free_subnets(network, set(whole.subnets(new_prefix=24))))


def policy(**fields: object) -> Policy:
    base = {"name": "p", "source": "dcos", "destination": "10.1.0.0/16", "ports": "80"}
    existing = {"old": Policy("old", "dcos", "dcos", Traffic.TCP, 1, 1)}
    return new_policy(msgspec.convert(base | fields, PolicySpec), existing, {"dcos": DCOS})


def test_policy_is_read() -> None:
    assert policy(protocol="udp", ports="8000-8010", reason="why") == Policy(
        "p", "dcos", "10.1.0.0/16", Traffic.UDP, reason="why", ports=((8000, 8010),)
    )


POLICIES: dict[str, tuple[dict[str, object], str]] = {
    "name": ({"name": "P"}, "name: 'P'"),
    "source": ({"source": "nosuch"}, "source: 'nosuch'"),
    "destination": ({"destination": "10.1.0.1/16"}, "destination: "),
    "protocol": ({"protocol": "gre"}, "protocol: 'gre' is none of any, tcp"),
    "ports-of-icmp": ({"protocol": "icmp", "ports": "80"}, "protocol icmp has none"),
    "tier": ({"tier": "root"}, "tier: 'root' is none of cluster, network"),
    "action": ({"action": "log"}, "action: 'log'"),
    "direction": ({"direction": "in"}, "direction: 'in'"),
    "no-key": ({"source": "=db"}, "source: '=db': a label has a key"),
    "no-app": ({"source": "/"}, "source: '/': an app's id"),
    "no-port-listed": ({"ports": ()}, "ports: none is named"),
    "long-reason": ({"reason": "x" * 1025}, "reason: longer"),
    "no-ports": ({"ports": ""}, "ports: ''"),
    "port-zero": ({"ports": "0"}, "ports: '0'"),
    "port-high": ({"ports": "65536"}, "ports: '65536'"),
    "backwards": ({"ports": "9-8"}, "ports: '9-8'"),
    "words": ({"ports": "http"}, "ports: 'http'"),
}


@pytest.mark.parametrize(("fields", "message"), POLICIES.values(), ids=POLICIES.keys())
def test_policy_that_cannot_be_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        policy(**fields)


def test_second_policy_of_a_name_is_a_conflict() -> None:
    with pytest.raises(ConflictError, match="'old' is there already"):
        policy(name="old")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param("5432", "5432", id="one"),
        pytest.param(5432, "5432", id="number"),
        pytest.param("8000-8010", "8000-8010", id="range"),
        pytest.param("443, 80-81,82", "80-82,443", id="several"),
        pytest.param((443, "80"), "80,443", id="list"),
        pytest.param("any", "any", id="all"),
    ],
)
def test_ports_are_written_sorted_and_joined(given: str | int, text: str) -> None:
    assert render_ports(Policy("p", "a", "b", Traffic.TCP, ports=parse_ports(given))) == text


def test_a_policy_of_an_older_version_has_its_ports() -> None:
    row = (
        b'{"kind": "policy", "name": "p", "source": "a", "destination": "b", "protocol": "tcp",'
        b' "first_port": 80, "last_port": 81, "reason": "why"}'
    )

    old = msgspec.json.decode(row, type=Policy)

    assert render_ports(old) == "80-81"
    assert (old.tier, old.action, old.direction) == (Tier.NETWORK, Action.ALLOW, Direction.BOTH)


DOCUMENT_ERRORS: dict[str, tuple[list[dict[str, object]], str]] = {
    "field": (
        [{"name": "a"}, {"name": "b", "source": "nosuch"}],
        r"policies\[1\].source: 'nosuch'",
    ),
    "twice": ([{"name": "a"}, {"name": "a"}], r"policies\[1\].name: 'a' is there twice"),
    "tier": ([{"name": "a", "tier": "cluster"}], r"policies\[0\].tier: cluster among"),
    "other": ([{"name": "law"}], r"policies\[0\].name: policy 'law' is of tier cluster"),
}
LAW = Policy("law", "dcos", "any", Traffic.ANY, tier=Tier.CLUSTER, action=Action.DENY)


def document(*policies: dict[str, object]) -> PolicyDocument:
    base = {"source": "dcos", "destination": "any", "ports": "80"}
    return msgspec.convert({"policies": [base | each for each in policies]}, PolicyDocument)


@pytest.mark.parametrize(
    ("policies", "message"), DOCUMENT_ERRORS.values(), ids=DOCUMENT_ERRORS.keys()
)
def test_document_that_cannot_be_is_refused(
    policies: list[dict[str, object]], message: str
) -> None:
    with pytest.raises((InvalidError, ConflictError), match=message):
        read_document(document(*policies), {"law": LAW}, {"dcos"}, tier=Tier.NETWORK)


def test_document_of_one_tier_leaves_the_others_policies() -> None:
    found = read_document(document({"name": "a"}), {"law": LAW}, {"dcos"}, tier=Tier.NETWORK)

    assert found.keys() == {"law", "a"}


def test_document_of_no_tier_takes_the_place_of_all() -> None:
    assert read_document(document({"name": "a"}), {"law": LAW}, {"dcos"}).keys() == {"a"}
