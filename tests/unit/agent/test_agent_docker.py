"""What Docker is told, as tables: no engine is asked here."""

import math
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.agent.docker.pause import pause_image, pause_program
from phalanx.agent.docker.request import (
    Amounts,
    Joining,
    Surroundings,
    amounts_of,
    check_ports,
    check_request,
    command_words,
    create_words,
    environment,
    joining,
    mount_of,
)
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import (
    CommandInfo,
    ContainerID,
    ContainerInfo,
    NetworkInfo,
    Scalar,
    Volume,
)


def container(docker: dict[str, Any] | None = None, **more: Any) -> ContainerInfo:
    return from_json(
        ContainerInfo, {"type": "DOCKER", "docker": {"image": "i", **(docker or {})}, **more}
    )


def request(info: ContainerInfo, **more: Any) -> ContainerRequest:
    resources = more.pop("resources", "cpus:0.5;mem:64;ports:[31000-31009]")
    return ContainerRequest(
        container_id=ContainerID(value="c1"),
        kind="task",
        sandbox=Path("/s"),
        container=info,
        command=more.pop("command", CommandInfo(value="echo hi")),
        resources=Resources.parse(resources),
        **more,
    )


def around(join: Joining, **more: Any) -> Surroundings:
    return Surroundings(owner="me", joining=join, environment=more.pop("environment", {}), **more)


@pytest.mark.parametrize(
    ("info", "mode", "names"),
    [
        pytest.param(container(), "host", [], id="host-is-the-default"),
        pytest.param(container({"network": "NONE"}), "none", [], id="none"),
        pytest.param(container({"network": "BRIDGE"}), "cni", ["bridge"], id="bridge"),
        pytest.param(
            container({"network": "BRIDGE"}, network_infos=[{"name": "n"}]),
            "cni",
            ["n"],
            id="bridge-by-name",
        ),
        pytest.param(
            container({"network": "USER"}, network_infos=[{"name": "n"}]), "cni", ["n"], id="user"
        ),
        pytest.param(
            container({"parameters": [{"key": "net", "value": "mine"}]}),
            "cni",
            ["mine"],
            id="parameter-beats-the-field",
        ),
        pytest.param(
            container({"network": "BRIDGE", "parameters": [{"key": "network", "value": "host"}]}),
            "host",
            [],
            id="parameter-host",
        ),
    ],
)
def test_networks_follow_field_and_parameters(
    info: ContainerInfo, mode: str, names: list[str]
) -> None:
    docker = check_request(request(info))

    found = joining(info, docker)

    assert found.mode == mode
    assert [network.name for network in found.networks] == names


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (
            container({"network": "USER"}, network_infos=[{"name": "a"}, {"name": "b"}]),
            "Only a single network",
        ),
        (container({"network": "USER"}), "No network name"),
        (container(hostname="h"), "hostname"),
        (container({"port_mappings": [{"host_port": 1, "container_port": 2}]}), "port_mappings"),
    ],
)
def test_networks_that_can_not_be_are_refused(info: ContainerInfo, words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        joining(info, check_request(request(info)))


def test_ports_of_docker_are_mapped_on_the_network() -> None:
    info = container(
        {"network": "BRIDGE", "port_mappings": [{"host_port": 31000, "container_port": 80}]}
    )

    found = joining(info, check_request(request(info)))

    mapping = found.networks[0].port_mappings[0]
    assert (mapping.host_port, mapping.container_port) == (31000, 80)
    check_ports(request(info), found.networks)
    with pytest.raises(ContainerError, match=r"Port \[31000\] not included in resources"):
        check_ports(request(info, resources="cpus:1;mem:32"), found.networks)


@pytest.mark.parametrize(
    ("resources", "limits", "has_quota", "amounts"),
    [
        ("cpus:0.5;mem:64", {}, False, Amounts(512, None, 64 << 20)),
        ("cpus:0.5;mem:64", {}, True, Amounts(512, 50_000, 64 << 20)),
        ("cpus:0.001;mem:1", {}, True, Amounts(2, 1000, 32 << 20)),
        (
            "cpus:1;mem:64",
            {"cpus": 2.0, "mem": 128.0},
            False,
            Amounts(1024, 200_000, 128 << 20, 64 << 20),
        ),
        (
            "cpus:1;mem:64",
            {"cpus": math.inf, "mem": math.inf},
            True,
            Amounts(1024, None, None, 64 << 20),
        ),
    ],
)
def test_amounts_follow_requests_and_limits(
    resources: str, limits: dict[str, float], has_quota: bool, amounts: Amounts
) -> None:
    given = {name: Scalar(value=value) for name, value in limits.items()}

    assert amounts_of(Resources.parse(resources), given, has_quota=has_quota) == amounts


@given(cpus=st.floats(0.001, 1000.0), memory=st.floats(0.001, 1e6))
def test_no_container_gets_less_than_the_engine_takes(cpus: float, memory: float) -> None:
    resources = Resources.parse(f"cpus:{cpus:.3f};mem:{memory:.3f}")

    found = amounts_of(resources, {}, has_quota=True)

    assert found.cpu_shares >= 2
    assert found.cpu_quota is not None
    assert found.cpu_quota >= 1000
    assert found.memory_bytes is not None
    assert found.memory_bytes >= 32 << 20


@pytest.mark.parametrize(
    ("volume", "mount"),
    [
        ({"host_path": "/h", "container_path": "/c", "mode": "RO"}, "/h:/c:ro"),
        (
            {"host_path": "/h", "container_path": "c", "mode": "RW"},
            "/h:/mnt/mesos/sandbox/c:rw",
        ),
        ({"host_path": "h", "container_path": "/c", "mode": "RW"}, "/s/h:/c:rw"),
        (
            {
                "container_path": "/c",
                "mode": "RW",
                "source": {"type": "SANDBOX_PATH", "sandbox_path": {"type": "SELF", "path": "p"}},
            },
            "/s/p:/c:rw",
        ),
        (
            {
                "container_path": "/c",
                "mode": "RW",
                "source": {"type": "DOCKER_VOLUME", "docker_volume": {"name": "v"}},
            },
            "v:/c:rw",
        ),
    ],
)
def test_volumes_are_mounted_where_they_are_asked(volume: dict[str, Any], mount: str) -> None:
    assert mount_of(from_json(Volume, volume), "/s") == (mount, None)


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        (CommandInfo(value="a b"), ("--entrypoint", "/bin/sh"), ("-c", "a b")),
        (CommandInfo(shell=False, value="a", arguments=("b",)), (), ("a", "b")),
        (CommandInfo(shell=False, arguments=("b",)), (), ("b",)),
        (CommandInfo(shell=False), (), ()),
        (None, (), ()),
    ],
)
def test_a_shell_replaces_the_entrypoint(
    command: CommandInfo | None, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert command_words(command) == (options, words)


def test_a_shell_without_words_is_refused() -> None:
    with pytest.raises(ContainerError, match="no command value"):
        command_words(CommandInfo())


def test_everything_asked_is_in_the_words() -> None:
    info = container(
        {
            "privileged": True,
            "parameters": [{"key": "ulimit", "value": "nofile=9"}, {"key": "net", "value": "host"}],
        }
    )
    asked = request(info)
    words = create_words(asked, around(Joining("host"), environment=environment(asked)))

    assert words == [
        *("--name", "mesos-c1", "--label", "phalanx.agent=me", "--privileged"),
        *("--cpu-shares", "512", "--memory", str(64 << 20)),
        *("-e", "MESOS_SANDBOX=/mnt/mesos/sandbox", "-e", "MESOS_CONTAINER_NAME=mesos-c1"),
        *("-v", "/s:/mnt/mesos/sandbox", "--network", "host", "--ulimit=nofile=9"),
        *("--entrypoint", "/bin/sh", "i", "-c", "echo hi"),
    ]


def test_a_container_joins_the_network_that_was_made_for_it() -> None:
    info = container({"network": "BRIDGE"}, hostname="h")
    join = Joining("cni", (NetworkInfo(name="bridge"),))
    words = create_words(request(info), around(join, files={"/etc/hosts": "/n/hosts"}))

    at = words.index("--network")
    assert words[at : at + 4] == [
        *("--network", "container:mesos-c1.network"),
        *("-v", "/n/hosts:/etc/hosts"),
    ]
    assert "--hostname" not in words


@pytest.mark.parametrize("key", ["name", "rm", "--detach", ""])
def test_parameters_that_would_lose_the_container_are_refused(key: str) -> None:
    with pytest.raises(ContainerError, match="is refused"):
        check_request(request(container({"parameters": [{"key": key, "value": "x"}]})))


def test_own_variables_beat_ours() -> None:
    command = from_json(
        CommandInfo,
        {"value": "x", "environment": {"variables": [{"name": "MESOS_SANDBOX", "value": "y"}]}},
    )
    asked = request(container(), command=command, environment={"A": "1"})

    found = environment(asked, role="web", ip="9.0.0.1")

    assert found == {
        "A": "1",
        "MESOS_SANDBOX": "y",
        "MESOS_CONTAINER_NAME": "mesos-c1",
        "MESOS_ALLOCATION_ROLE": "web",
        "MESOS_CONTAINER_IP": "9.0.0.1",
    }


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_image_that_holds_networks_is_one_small_program(machine: str) -> None:
    with tarfile.open(fileobj=BytesIO(pause_image(machine))) as tar:
        (member,) = tar.getmembers()
        file = tar.extractfile(member)
        assert file is not None
        content = file.read()

    assert member.mode == 0o755
    assert content == pause_program(machine)
    assert content.startswith(b"\x7fELF")
    assert len(content) < 200


def test_another_machine_is_refused_by_name() -> None:
    with pytest.raises(ContainerError, match="riscv64"):
        pause_program("riscv64")
