"""The scripts that make the wires, and the names of what they make."""

import pytest

from phalanx.core.error import ConfigError
from phalanx.labs.place import place_of
from phalanx.labs.topology import spread
from phalanx.labs.underlay import (
    hosts,
    node_script,
    port_script,
    resolv_conf,
    router_rules,
    router_script,
    sysctls_of,
)

PLACE = place_of("lab")
TOPOLOGY = spread()


def test_router_has_a_bridge_and_the_first_address_in_each_segment() -> None:
    script = router_script(TOPOLOGY)

    assert "address add 198.18.0.1/24 dev br-s1" in script
    assert "address add 198.18.1.1/24 dev br-s2" in script


def test_node_is_plugged_into_its_own_segment_and_namespace() -> None:
    assert port_script(PLACE, TOPOLOGY.node("a2")) == [
        "link add a2 type veth peer name eth0 address 02:00:c6:12:01:66 netns phx-lab-a2",
        "link set a2 master br-s2",
        "link set a2 up",
    ]


def test_node_has_a_default_route_and_a_client_only_one_to_the_underlay() -> None:
    assert "route add default via 198.18.1.1" in node_script(TOPOLOGY, TOPOLOGY.node("a2"))
    assert "route add 198.18.0.0/15 via 198.18.0.1" in node_script(TOPOLOGY, TOPOLOGY.node("c1"))


def test_nodes_forward_and_a_client_does_not() -> None:
    forwarding = {
        node.name: sysctls_of(node.role)["net.ipv4.ip_forward"] for node in TOPOLOGY.nodes
    }

    assert forwarding == {"m1": "1", "a1": "1", "a2": "1", "c1": "0"}


def test_router_drops_what_is_not_from_the_underlay() -> None:
    assert "ip saddr != 198.18.0.0/15 counter drop" in router_rules()


def test_resolv_conf_is_the_clusters_on_nodes_only() -> None:
    resolvers = ["198.51.100.1", "198.51.100.2"]

    assert resolv_conf(TOPOLOGY.node("a1"), resolvers).splitlines()[:2] == [
        "nameserver 198.51.100.1",
        "nameserver 198.51.100.2",
    ]
    assert "nameserver 1" not in resolv_conf(TOPOLOGY.node("c1"), resolvers)


def test_hosts_names_every_node() -> None:
    lines = hosts(TOPOLOGY).splitlines()

    assert "127.0.0.1 localhost" in lines
    assert {f"{node.address} {node.name}" for node in TOPOLOGY.nodes} <= set(lines)


@pytest.mark.parametrize("name", ["", "Lab", "a-b", "ninechars", "a/b", "..", "a\n"])
def test_names_that_would_not_fit_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--name: "):
        place_of(name)


def test_names_of_one_lab_are_never_those_of_another() -> None:
    first, second = place_of("a"), place_of("a1")

    assert not second.netns("m1").startswith(first.netns_prefix)
    assert first.node_cgroup("m1") == "phalanx/a/m1"
