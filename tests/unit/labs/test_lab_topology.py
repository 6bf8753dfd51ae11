"""A topology from numbers or from TOML, and what can't be built."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from phalanx.core.error import ConfigError
from phalanx.labs.topology import UNDERLAY, Role, Topology, spread
from phalanx.labs.topology_file import (
    parse_topology,
    read_topology,
    topology_from_json,
    topology_to_json,
)


def test_default_is_one_master_two_agents_and_a_client() -> None:
    topology = spread()

    assert [(node.name, node.role) for node in topology.nodes] == [
        ("m1", Role.MASTER),
        ("a1", Role.AGENT),
        ("a2", Role.AGENT),
        ("c1", Role.CLIENT),
    ]


def test_first_two_agents_sit_in_different_segments() -> None:
    first, second = spread().agents

    assert first.segment != second.segment
    assert second.address not in spread().segment(first.segment).subnet


def test_addresses_come_from_the_underlay_and_say_the_number() -> None:
    topology = spread(masters=3, agents=99, zookeeper=True)

    assert topology.node("a42").address == IPv4Address("198.18.1.142")
    assert all(node.address in UNDERLAY for node in topology.nodes)
    assert len({node.address for node in topology.nodes}) == len(topology.nodes)


@pytest.mark.parametrize(
    ("masters", "agents", "clients", "message"),
    [
        pytest.param(0, 2, 1, "masters: 0: a lab needs at least one", id="no-master"),
        pytest.param(3, 2, 1, "masters: 3: more than one need --zk", id="no-election"),
        pytest.param(1, 101, 1, "c1: 198.18.0.201: is a101's already", id="no-room"),
        pytest.param(1, 155, 0, "a155: address: 198.18.0.255: is no host", id="broadcast"),
    ],
)
def test_numbers_that_cant_be_built_are_refused(
    masters: int, agents: int, clients: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        spread(masters=masters, agents=agents, clients=clients)


FILE = """
zookeeper = true

[[segments]]
name = "s1"
subnet = "198.19.0.0/24"

[[segments]]
name = "s7"
subnet = "198.19.7.0/28"

[[nodes]]
name = "a1"
segment = "s7"
address = "198.19.7.9"
resources = "cpus:2;mem:512"

[[nodes]]
name = "m1"
segment = "s1"
"""


def test_file_says_segments_and_nodes() -> None:
    topology = parse_topology(FILE)

    assert topology.zookeeper
    assert topology.segment("s7").subnet == IPv4Network("198.19.7.0/28")
    assert [node.name for node in topology.nodes] == ["m1", "a1"]
    assert topology.node("m1").address == IPv4Address("198.19.0.11")
    assert topology.node("a1").address == IPv4Address("198.19.7.9")
    assert topology.node("a1").resources == "cpus:2;mem:512"


def test_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match=r"--topology: '.*lab\.toml': .*can't decode"):
        read_topology(file)


def test_file_without_segments_has_the_usual_two() -> None:
    topology = parse_topology('nodes = [{name = "m1"}, {name = "a1"}, {name = "a2"}]')

    assert {node.segment for node in topology.nodes} == {"s1", "s2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("nodes = 3", r"nodes: 3: is not a list of tables", id="nodes-number"),
        pytest.param("nodes = [", r"(?i)invalid value|unclosed", id="torn"),
        pytest.param("node = []", r"topology: node: is none of", id="unknown-key"),
        pytest.param('nodes = [{name = "x1"}]', r"node: 'x1': is not m, a or c", id="bad-name"),
        pytest.param('nodes = [{segment = "s1"}]', r"nodes: name: None", id="no-name"),
        pytest.param(
            'nodes = [{name = "m1", segment = "s9"}]', r"m1: segment: 's9'", id="no-segment"
        ),
        pytest.param(
            'nodes = [{name = "m1", address = "10.0.0.1"}]',
            r"m1: address: 10.0.0.1: is no host address of 198.18.0.0/24",
            id="address-elsewhere",
        ),
        pytest.param(
            'nodes = [{name = "m1", address = "x"}]', r"m1: address: 'x'", id="no-address"
        ),
        pytest.param(
            'nodes = [{name = "m1", address = "198.18.0.1"}]', r"is r1's already", id="the-router's"
        ),
        pytest.param(
            'nodes = [{name = "m1"}, {name = "a1"}, {name = "a1"}]', "a1: a1: is a1's", id="twice"
        ),
        pytest.param(
            'segments = [{name = "s1", subnet = "10.0.0.0/24"}]',
            r"s1: subnet: 10.0.0.0/24: is not in 198.18.0.0/15",
            id="not-underlay",
        ),
        pytest.param(
            'segments = [{name = "s1", subnet = "198.18.0.1/24"}]', r"s1: subnet", id="host-bits"
        ),
        pytest.param(
            'segments = [{name = "s1", subnet = "198.18.0.0/30"}]', r"smaller than", id="small"
        ),
        pytest.param(
            'segments = [{name = "lan", subnet = "198.18.0.0/24"}]', "'lan'", id="segment-name"
        ),
        pytest.param(
            'nodes = [{name = "m1"}, {name = "a1", resources = "cpus:x"}]',
            r"a1: resources: resource 'cpus:x'",
            id="resources",
        ),
        pytest.param(
            """
            segments = [
                {name = "s1", subnet = "198.18.0.0/16"}, {name = "s2", subnet = "198.18.1.0/24"}
            ]
            """.replace("\n", " "),
            r"s2: 198.18.1.0/24: collides with s1",
            id="overlap",
        ),
        pytest.param('zookeeper = "yes"', "zookeeper: 'yes'", id="zookeeper-text"),
    ],
)
def test_file_that_cant_be_built_is_refused_with_key_and_value(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_topology(text)


def test_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text("nodes = 3")

    with pytest.raises(ConfigError, match=r"--topology: '.*lab.toml': nodes: 3"):
        read_topology(path)
    with pytest.raises(ConfigError, match=r"--topology: '.*none.toml': No such file"):
        read_topology(path.with_name("none.toml"))


@pytest.mark.parametrize("topology", [spread(), parse_topology(FILE)])
def test_json_of_a_topology_reads_back_the_same(topology: Topology) -> None:
    assert topology_from_json(topology_to_json(topology)) == topology
