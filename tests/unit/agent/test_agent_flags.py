"""The agent's settings: Mesos' names and meanings, refusals by name, what follows from them."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from phalanx.agent.config import AgentConfig
from phalanx.agent.discovery import address_towards, discovered
from phalanx.agent.offering import Machine, offered_resources
from phalanx.core.config import HostPort, Loader
from phalanx.core.error import ConfigError
from phalanx.core.hostname import name_of
from phalanx.mesos.resources import Resources

MACHINE = Machine(cpus=2, memory_megabytes=4096, disk_megabytes=20480)
NEEDED = ("--master=127.0.0.1:5050", "--work_dir=/w")


def load(*arguments: str, **environ: str) -> AgentConfig:
    loader = Loader(AgentConfig, program="agent", about="", environ_prefix="MESOS")
    return loader.load([*NEEDED, *arguments], environ)


def test_flags_of_mesos_keep_their_names() -> None:
    config = load(
        "--no-hostname_lookup",
        "--containerizers=mesos,docker",
        "--gc_delay=2days",
        "--isolation=cgroups/cpu,cgroups/mem,disk/du,filesystem/linux,docker/runtime",
        "--image_providers=docker",
        "--launcher=linux",
        "--default_role=web",
        "--strict=false",
    )

    assert not config.hostname_lookup
    assert config.containerizers == ("mesos", "docker")
    assert config.seconds("gc_delay") == 2 * 86400.0
    assert not config.strict


def test_variables_and_files_give_settings(tmp_path: Path) -> None:
    (tmp_path / "resources").write_text("cpus:3;mem:64\n")
    config = load(MESOS_RESOURCES=f"file://{tmp_path / 'resources'}", MESOS_PORT="7")

    assert config.resources == "cpus:3;mem:64"
    assert config.port == 7


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--hadoop_home=/h", "--hadoop-home"),
        ("--modules=x", "--modules"),
        ("--network_cni_root_dir_persist=true", "--network-cni-root-dir-persist"),
        ("--containerizers=rkt", "--containerizers: 'rkt'"),
        ("--isolation=network/port_mapping", "--isolation: 'network/port_mapping'"),
        ("--launcher=magic", "--launcher: 'magic'"),
        ("--recover=maybe", "--recover: 'maybe'"),
        ("--reconfiguration_policy=any", "--reconfiguration-policy: 'any'"),
        ("--gc_delay=soon", "--gc-delay"),
        ("--gc_disk_headroom=2", "--gc-disk-headroom"),
        ("--domain={", "--domain"),
        ("--default_container_info={", "--default-container-info"),
        ("--executor_environment_variables=[1]", "--executor-environment-variables"),
        ("--executor_reregistration_timeout=16secs", "--executor-reregistration-timeout"),
        ("--resources=cpus:x", "--resources"),
    ],
)
def test_what_can_not_be_honoured_is_refused_by_name(flag: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(flag)
    assert words in str(refused.value)


def test_two_agents_on_a_host_share_nothing() -> None:
    first, second = load("--work_dir=/a"), load("--work_dir=/b")

    assert first.runtime != second.runtime
    assert first.cgroups != second.cgroups
    assert load("--work_dir=/a").runtime == first.runtime
    assert load("--runtime_dir=/r").runtime == Path("/r")
    assert first.flags()["runtime_dir"] == str(first.runtime)


def test_resources_of_a_role_and_by_default() -> None:
    found = Resources.of(offered_resources("cpus(web):1;mem:64", MACHINE, "ads"))

    assert {role: part.scalar("cpus") for role, part in found.by_role().items()}["web"] == 1.0
    assert found.by_role()["ads"].scalar("mem") == 64.0
    assert found.by_role()["ads"].scalar("disk") > 0


def test_resources_as_json_leave_the_rest_to_be_found() -> None:
    text = '[{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.5}}]'
    found = Resources.of(offered_resources(text, MACHINE))

    assert found.scalar("cpus") == 1.5
    assert found.scalar("mem") == 3072.0


async def test_addresses_are_found_out() -> None:
    assert await address_towards(HostPort("127.0.0.1", 1)) == IPv4Address("127.0.0.1")
    assert await name_of(IPv4Address("0.0.0.0")) is None
    config = await discovered(load("--ip_discovery_command=echo 127.0.0.9", "--no-hostname_lookup"))
    assert config.address == IPv4Address("127.0.0.9")
    assert (await discovered(load("--no-hostname_lookup"))).address == IPv4Address("127.0.0.1")


@pytest.mark.parametrize("command", ["echo none", "exit 3", "sleep"])
async def test_a_discovery_that_finds_nothing_is_refused(command: str) -> None:
    with pytest.raises(ConfigError, match="--ip-discovery-command"):
        await discovered(load(f"--ip_discovery_command={command}"))


def test_an_advertised_address_is_the_one_to_be_known_by() -> None:
    config = load("--ip=127.0.0.1", "--advertise_ip=192.0.2.7")

    assert config.address == IPv4Address("192.0.2.7")
    assert config.listening == IPv4Address("127.0.0.1")
