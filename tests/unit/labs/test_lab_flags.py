"""The command lines of the daemons: each is one that the daemon itself accepts."""

import re
from collections.abc import Sequence

import pytest

from phalanx.agent.config import AgentConfig
from phalanx.core.config import Loader
from phalanx.labs import flags, zookeeper
from phalanx.labs.daemons import Daemons
from phalanx.labs.place import place_of
from phalanx.labs.topology import spread
from phalanx.marathon.config import LOADER as MARATHON
from phalanx.master.config import MasterConfig
from phalanx.plane.config import PlaneConfig

PLACE = place_of("lab")
ONE = spread()
THREE = spread(masters=3, zookeeper=True)


def load_master(arguments: Sequence[str]) -> MasterConfig:
    loader = Loader(MasterConfig, program="master", about="", environ_prefix="X")
    return loader.load(arguments, {})


def load_plane(arguments: Sequence[str]) -> PlaneConfig:
    loader = Loader(PlaneConfig, program="plane", about="", environ_prefix="X")
    return loader.load(arguments, {})


def load_agent(arguments: Sequence[str]) -> AgentConfig:
    loader = Loader(AgentConfig, program="agent", about="", environ_prefix="X")
    return loader.load(arguments, {})


def test_master_accepts_its_flags() -> None:
    config = load_master(flags.master_flags(PLACE, ONE, ONE.node("m1")))

    assert (str(config.ip), config.port, config.hostname) == ("198.18.0.11", 5050, "198.18.0.11")
    assert config.zk is None


def test_masters_elect_on_every_zookeeper() -> None:
    config = load_master(flags.master_flags(PLACE, THREE, THREE.node("m2")))

    assert str(config.zk) == "zk://198.18.0.11:2181,198.18.1.12:2181,198.18.0.13:2181/mesos"


def test_agent_accepts_its_flags_and_knows_every_master() -> None:
    config = load_agent(flags.agent_flags(PLACE, THREE, THREE.node("a2")))

    assert [str(master) for master in config.master.hosts] == [
        "198.18.0.11:5050",
        "198.18.1.12:5050",
        "198.18.0.13:5050",
    ]
    assert config.attributes == "segment:s2"
    assert config.cgroups_root == "phalanx/lab/a2"
    assert config.work_dir.is_relative_to(PLACE.node("a2"))


def test_plane_on_a_master_hears_masters_and_relays() -> None:
    config = load_plane(flags.plane_flags(PLACE, ONE, ONE.node("m1")))

    assert [str(source) for source in config.source] == ["198.18.0.11:5050"]
    assert config.feed_port == 62081
    assert config.cni_config_dir is None


def test_plane_on_an_agent_hears_the_planes_of_masters() -> None:
    config = load_plane(flags.plane_flags(PLACE, THREE, THREE.node("a1")))

    assert [source.port for source in config.source] == [62081] * 3
    assert config.feed_port == 0
    assert config.cni_config_dir == PLACE.node("a1") / "cni/conf"


def test_agent_and_plane_of_a_node_meet_in_the_same_directory() -> None:
    agent = load_agent(flags.agent_flags(PLACE, ONE, ONE.node("a1")))
    plane = load_plane(flags.plane_flags(PLACE, ONE, ONE.node("a1")))

    assert agent.network_cni_config_dir == plane.cni_config_dir


def test_agents_of_a_lab_share_a_directory_of_images() -> None:
    found = {
        load_agent(flags.agent_flags(PLACE, THREE, THREE.node(name))).docker_registry
        for name in ("a1", "a2")
    }

    assert found == {PLACE.directory / "images"}


def test_unix_sockets_fit_into_an_address() -> None:
    place = place_of("labs8888")
    config = load_plane(flags.plane_flags(place, ONE, ONE.node("a1")))

    assert max(len(str(config.socket)), len(str(config.cni_socket))) < 108


def test_marathon_is_told_of_every_master_and_where_to_listen() -> None:
    config = MARATHON.load(flags.marathon_flags(PLACE, THREE, THREE.node("m1")), {})

    assert [str(master.host) for master in config.master.hosts] == [
        "198.18.0.11",
        "198.18.1.12",
        "198.18.0.13",
    ]
    assert (str(config.http_address), config.http_port) == ("198.18.0.11", 8080)


def test_marathons_of_several_masters_elect_as_the_masters_do() -> None:
    topology = spread(masters=3, zookeeper=True)
    config = MARATHON.load(flags.marathon_flags(PLACE, topology, topology.node("m2")), {})

    assert config.zk is not None
    assert (config.zk.path, len(config.zk.hosts.split(","))) == ("/marathon", 3)


@pytest.mark.parametrize(
    ("masters", "servers"), [(1, ["m1"]), (2, ["m1"]), (3, ["m1", "m2", "m3"]), (5, 3)]
)
def test_zookeeper_servers_are_odd_in_number_and_three_at_most(
    masters: int, servers: list[str] | int
) -> None:
    found = [
        node.name
        for node in zookeeper.server_nodes(spread(masters=masters, zookeeper=True).masters)
    ]

    assert found == servers or len(found) == servers


def test_zookeeper_ensemble_lists_every_server_and_one_alone_none() -> None:
    three, one = THREE.masters, ONE.masters
    home = PLACE.node("m1") / "zookeeper"
    ensemble = zookeeper.server_config(three, three[0], home)

    assert re.findall(r"^server\.(\d)=(\S+):2888:3888$", ensemble, re.MULTILINE) == [
        ("1", "198.18.0.11"),
        ("2", "198.18.1.12"),
        ("3", "198.18.0.13"),
    ]
    assert "server.1" not in zookeeper.server_config(one, one[0], home)
    assert zookeeper.server_number(three, three[2]) == 3


def test_more_arguments_go_to_each_process_of_that_name() -> None:
    *_, wave = Daemons(PLACE, ONE, more={"plane": ("--lb=nftables",)}).waves()

    told = {
        (node, process.name)
        for node, processes in wave.processes.items()
        for process in processes
        if "--lb=nftables" in process.command
    }
    assert told == {("m1", "plane"), ("a1", "plane"), ("a2", "plane")}
