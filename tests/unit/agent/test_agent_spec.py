"""oci_config and what it is made of are pure: tables of tasks and what runc is told."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from phalanx.agent.bundle.environment import (
    SEARCH_PATH,
    Surroundings,
    container_environment,
    searched,
    task_environment,
)
from phalanx.agent.bundle.mount import host_mounts, is_below
from phalanx.agent.bundle.request import (
    ContainerRequest,
    descendants,
    id_message,
    id_text,
    lineage,
)
from phalanx.agent.bundle.secret import Secrets
from phalanx.agent.bundle.spec import (
    INIT,
    ImageRoot,
    Place,
    Terms,
    User,
    asked_image,
    check_request,
    command_line,
    memory_bytes,
    oci_config,
    resource_limits,
)
from phalanx.agent.container.stray import strays
from phalanx.agent.image.config import ImageConfig
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import (
    CommandInfo,
    ContainerID,
    ContainerInfo,
    FrameworkID,
    FrameworkInfo,
    Scalar,
    TaskInfo,
)

PLACE = Place(
    sandbox="/var/sandbox",
    cgroup="/phalanx/c1",
    hostname="web",
    network="/run/ns",
    files={"/etc/hosts": "/state/hosts"},
    host_mounts=("/", "/home"),
)
ALONE = Place("/var/sandbox", "/phalanx/c1", None, None, {})


def task(
    resources: str = "cpus:0.5;mem:64",
    command: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    **more: Any,
) -> ContainerRequest:
    return ContainerRequest(
        container_id=ContainerID(value="c1"),
        kind="task",
        sandbox=Path("/var/sandbox"),
        command=from_json(CommandInfo, {"value": "serve"} if command is None else command),
        container=from_json(ContainerInfo, container) if container is not None else None,
        resources=Resources.parse(resources),
        **more,
    )


def a_task(**more: Any) -> TaskInfo:
    return from_json(
        TaskInfo,
        {"name": "web", "task_id": {"value": "web.1"}, "agent_id": {"value": "S0"}, **more},
    )


def binds(config: dict[str, Any]) -> dict[str, tuple[str, list[str]]]:
    return {
        mount["destination"]: (mount["source"], mount["options"])
        for mount in config["mounts"]
        if mount["type"] == "bind"
    }


def test_a_container_on_a_network_joins_it_by_path() -> None:
    config = oci_config(task(), PLACE, {})

    kinds = {item["type"]: item.get("path") for item in config["linux"]["namespaces"]}
    assert kinds == {"pid": None, "mount": None, "ipc": None, "uts": None, "network": "/run/ns"}
    assert config["hostname"] == "web"


def test_a_container_without_network_keeps_the_agents_network_and_name() -> None:
    config = oci_config(task(), ALONE, {})

    assert "network" not in {item["type"] for item in config["linux"]["namespaces"]}
    assert "hostname" not in config


@pytest.mark.parametrize(("is_writable", "mode"), [(True, "rw"), (False, "ro")])
def test_the_host_is_writable_or_all_but_what_is_temporary_is_not(
    is_writable: bool, mode: str
) -> None:
    config = oci_config(task(), dataclasses.replace(PLACE, is_writable=is_writable), {})

    assert binds(config) == {
        "/": ("/", ["bind", mode]),
        "/home": ("/home", ["bind", mode]),
        "/tmp": ("/tmp", ["bind", "rw"]),
        "/var/sandbox": ("/var/sandbox", ["bind", "rw"]),
        "/etc/hosts": ("/state/hosts", ["bind", "ro"]),
    }
    assert config["process"]["cwd"] == "/var/sandbox"


def test_mounts_of_the_container_come_after_the_root() -> None:
    points = [mount["destination"] for mount in oci_config(task(), PLACE, {})["mounts"]]

    assert points[:3] == ["/", "/home", "/proc"]
    assert points.index("/tmp") < points.index("/var/sandbox")


def test_environment_user_and_command_reach_the_process() -> None:
    user = User(uid=33, gid=34, groups=(34, 35))

    process = oci_config(task(), PLACE, {"B": "2", "A": "1"}, user=user)["process"]

    assert process["env"] == ["A=1", "B=2"]
    assert process["user"] == {"uid": 33, "gid": 34, "additionalGids": [34, 35], "umask": 0o022}
    assert process["args"] == [*INIT, "/bin/sh", "-c", "serve"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        pytest.param(CommandInfo(value="a | b"), ["/bin/sh", "-c", "a | b"], id="shell"),
        pytest.param(CommandInfo(shell=False, value="/bin/x"), ["/bin/x"], id="bare"),
        pytest.param(
            CommandInfo(shell=False, value="/bin/x", arguments=("x", "-a", "b c")),
            ["/bin/x", "-a", "b c"],
            id="arguments-begin-with-the-name",
        ),
    ],
)
def test_command_line_follows_the_form(command: CommandInfo, words: list[str]) -> None:
    assert command_line(command) == words


MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("asked", "limits", "has_quota", "cpu", "memory"),
    [
        pytest.param(
            "cpus:0.5;mem:64",
            {},
            False,
            {"shares": 512},
            {"limit": 64 * MEGABYTE, "reservation": 64 * MEGABYTE},
            id="requests",
        ),
        pytest.param(
            "cpus:0.5;mem:64",
            {},
            True,
            {"shares": 512, "period": 100_000, "quota": 50_000},
            {"limit": 64 * MEGABYTE, "reservation": 64 * MEGABYTE},
            id="cfs-enabled",
        ),
        pytest.param(
            "cpus:0.5;mem:64",
            {"cpus": {"value": 2}, "mem": {"value": 128}},
            False,
            {"shares": 512, "period": 100_000, "quota": 200_000},
            {"limit": 128 * MEGABYTE, "reservation": 64 * MEGABYTE},
            id="limits-beat-requests",
        ),
        pytest.param(
            "cpus:0.001;mem:1",
            {"cpus": {"value": 0.001}},
            False,
            {"shares": 2, "period": 100_000, "quota": 1_000},
            {"limit": 32 * MEGABYTE, "reservation": 32 * MEGABYTE},
            id="never-too-little-to-run",
        ),
        pytest.param(
            "cpus:1;mem:64",
            {"cpus": {"value": "Infinity"}, "mem": {"value": "Infinity"}},
            True,
            {"shares": 1024, "period": 100_000, "quota": -1},
            {"reservation": 64 * MEGABYTE},
            id="infinite-is-no-limit",
        ),
        pytest.param("cpus:1", {}, False, {"shares": 1024}, None, id="no-memory-asked"),
    ],
)
def test_resources_become_limits(
    asked: str,
    limits: dict[str, dict[str, Any]],
    has_quota: bool,
    cpu: dict[str, int],
    memory: dict[str, int] | None,
) -> None:
    held = {name: from_json(Scalar, value) for name, value in limits.items()}
    found = resource_limits(Resources.parse(asked), held, Terms(has_quota=has_quota))

    assert found["cpu"] == cpu
    assert found.get("memory") == memory


def test_memory_has_a_floor() -> None:
    assert memory_bytes(31.5) == 32 * MEGABYTE
    assert memory_bytes(32.5) == 32.5 * MEGABYTE


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param(
            {"container": {"type": "DOCKER", "docker": {"image": "nginx"}}},
            "container.docker.image: 'nginx'",
            id="docker",
        ),
        pytest.param(
            {"container": {"type": "MESOS", "mesos": {"image": {"type": "APPC"}}}},
            "container.mesos.image: 'APPC'",
            id="image",
        ),
    ],
)
def test_what_can_not_be_done_is_refused_by_name(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        check_request(task(**more))


def test_a_command_without_value_is_refused() -> None:
    with pytest.raises(ContainerError, match=r"command\.value"):
        command_line(CommandInfo())


def of_image(config: ImageConfig | None = None, *, has_shell: bool = True) -> Place:
    given = config or ImageConfig()
    root = ImageRoot("/store/a:b/rootfs", "/run/c1/upper", "/run/c1/work", given, has_shell)
    return Place("/var/sandbox", "/phalanx/c1", None, None, PLACE.files, image=root)


def test_the_root_of_an_image_is_an_overlay_and_no_mount_of_the_host() -> None:
    config = oci_config(task(), of_image(), {})

    assert config["mounts"][0] == {
        "destination": "/",
        "type": "overlay",
        "source": "overlay",
        "options": [
            r"lowerdir=/store/a\:b/rootfs",
            "upperdir=/run/c1/upper",
            "workdir=/run/c1/work",
        ],
    }
    assert binds(config) == {
        "/mnt/mesos/sandbox": ("/var/sandbox", ["bind", "rw"]),
        "/etc/hosts": ("/state/hosts", ["bind", "ro"]),
    }
    assert {"/proc", "/dev", "/sys", "/tmp"} <= {m["destination"] for m in config["mounts"]}
    assert "/run" not in {m["destination"] for m in config["mounts"]}


@pytest.mark.parametrize(
    ("working_dir", "directory"),
    [(None, "/mnt/mesos/sandbox"), ("/srv", "/srv"), ("srv", "/srv")],
)
def test_an_image_may_say_where_its_command_starts(working_dir: str | None, directory: str) -> None:
    place = of_image(ImageConfig(working_dir=working_dir))

    assert oci_config(task(), place, {})["process"]["cwd"] == directory


EXEC = {"shell": False}


@pytest.mark.parametrize(
    ("command", "has_shell", "words"),
    [
        pytest.param({"value": "a"}, True, [*INIT, "/bin/sh", "-c", "a"], id="shell"),
        pytest.param({**EXEC, "value": "a"}, True, [*INIT, "a"], id="value"),
        pytest.param({**EXEC, "value": "a"}, False, ["a"], id="value-without-shell"),
        pytest.param(
            {**EXEC, "value": "a", "arguments": ["a", "b"]}, False, ["a", "b"], id="whole-argv"
        ),
        pytest.param(EXEC, True, [*INIT, "ep", "cmd"], id="image's"),
        pytest.param({**EXEC, "arguments": ["x"]}, False, ["ep", "x"], id="arguments"),
    ],
)
def test_a_command_in_an_image_waits_behind_its_shell_if_there_is_one(
    command: dict[str, Any], has_shell: bool, words: list[str]
) -> None:
    place = of_image(ImageConfig(("ep",), ("cmd",)), has_shell=has_shell)

    assert oci_config(task(command=command), place, {})["process"]["args"] == words


@pytest.mark.parametrize(
    ("command", "has_shell", "words"),
    [
        pytest.param({"value": "a"}, False, "the image has no /bin/sh", id="no-shell"),
        pytest.param({}, True, r"command\.value: is missing", id="shell-without-value"),
        pytest.param(EXEC, True, "no Entrypoint or Cmd", id="nothing-to-run"),
    ],
)
def test_a_command_that_an_image_can_not_run_is_refused(
    command: dict[str, Any], has_shell: bool, words: str
) -> None:
    with pytest.raises(ContainerError, match=words):
        oci_config(task(command=command), of_image(has_shell=has_shell), {})


def test_the_image_asked_for_is_known() -> None:
    image = {"type": "DOCKER", "docker": {"name": "team/web:1"}}

    assert asked_image(task(container={"type": "MESOS", "mesos": {"image": image}})) == "team/web:1"
    assert asked_image(task(container={"type": "MESOS", "mesos": {}})) is None
    assert asked_image(task()) is None


FRAMEWORK = FrameworkInfo(user="root", name="marathon", id=FrameworkID(value="fw"), role="eng")


def test_a_task_is_told_of_itself_and_its_agent() -> None:
    found = task_environment(a_task(), FRAMEWORK, "10.0.0.1", 5051)

    assert found["MESOS_TASK_ID"] == "web.1"
    assert found["MESOS_FRAMEWORK_ID"] == "fw"
    assert found["MESOS_AGENT_ENDPOINT"] == "10.0.0.1:5051"
    assert found["MESOS_ALLOCATION_ROLE"] == "eng"
    assert found["MESOS_CHECKPOINT"] == "0"
    assert "MESOS_RECOVERY_TIMEOUT" not in found


def test_a_task_is_told_that_its_framework_checkpoints() -> None:
    checkpointing = structs.replace(FRAMEWORK, checkpoint=True)

    found = task_environment(a_task(), checkpointing, "10.0.0.1", 5051)

    assert found["MESOS_CHECKPOINT"] == "1"
    assert found["MESOS_RECOVERY_TIMEOUT"] == "15mins"


@pytest.mark.parametrize(
    ("has_own_network", "bound"),
    [
        pytest.param(True, "0.0.0.0", id="own-network"),
        pytest.param(False, "10.0.0.1", id="agents-network"),
    ],
)
def test_a_container_is_told_where_it_is(has_own_network: bool, bound: str) -> None:
    around = Surroundings("10.0.0.1", "/sandbox", "9.0.1.2", has_own_network)

    found = container_environment(task(environment={"A": "asker"}), around)

    assert found["LIBPROCESS_IP"] == bound
    assert found["MESOS_CONTAINER_IP"] == "9.0.1.2"
    assert found["MESOS_SANDBOX"] == "/sandbox"
    assert found["PATH"] == SEARCH_PATH
    assert found["A"] == "asker"


def test_a_tasks_own_variables_win() -> None:
    variables = [{"name": "PATH", "value": "/mine"}, {"name": "EMPTY"}]
    command = from_json(CommandInfo, {"environment": {"variables": variables}})
    own = task(environment={"PATH": "/asker"})

    found = container_environment(
        own, Surroundings("10.0.0.1", "/s", "", True), variables=Secrets().variables(command)
    )

    assert found["PATH"] == "/mine"
    assert found["EMPTY"] == ""


def test_an_image_sets_where_programs_are_and_nothing_that_is_ours() -> None:
    around = Surroundings("10.0.0.1", "/mnt/mesos/sandbox", "", True, directory="/var/s")
    own = task(environment={"MESOS_TASK_ID": "web.1"})
    image = {"PATH": "/opt/bin", "A": "image", "B": "image", "MESOS_TASK_ID": "image"}

    found = container_environment(own, around, image, {"B": "task"})

    assert (found["PATH"], found["A"], found["B"]) == ("/opt/bin", "image", "task")
    assert found["MESOS_TASK_ID"] == "web.1"
    assert (found["MESOS_SANDBOX"], found["MESOS_DIRECTORY"]) == ("/mnt/mesos/sandbox", "/var/s")


@pytest.mark.parametrize(
    ("value", "parents"),
    [
        pytest.param("a", [], id="no-parent"),
        pytest.param("c", ["a", "b"], id="deep"),
    ],
)
def test_an_id_is_its_text(value: str, parents: list[str]) -> None:
    text = ".".join([*parents, value])

    assert id_text(id_message(text)) == text
    assert list(lineage(text)) == [".".join(parents[:n]) for n in range(len(parents), 0, -1)]


@pytest.mark.parametrize("value", ["", "a.b", "a/b", "a b", "x" * 243])
def test_a_bad_id_is_refused(value: str) -> None:
    with pytest.raises(ContainerError, match="container_id"):
        id_text(ContainerID(value=value))


def test_the_deepest_of_what_is_nested_comes_first() -> None:
    assert descendants("a", ("a", "a.b", "a.b.c", "ab", "ab.c")) == ("a.b.c", "a.b")


@pytest.mark.parametrize(
    ("parents", "found"),
    [
        pytest.param({10: 1, 11: 10, 12: 11}, set[int](), id="only-the-command"),
        pytest.param({10: 1, 11: 10, 20: 7, 21: 20, 22: 21}, {20, 21, 22}, id="one-from-outside"),
        pytest.param({10: 1, 20: 7, 30: 7}, {20, 30}, id="two-from-outside"),
        pytest.param({}, set[int](), id="empty"),
    ],
)
def test_who_entered_from_outside_is_found(parents: dict[int, int], found: set[int]) -> None:
    assert strays(parents, 10) == found


def test_programs_are_looked_for_where_the_agent_does_first() -> None:
    assert searched(["/opt/tools", "/usr/bin"]).split(":") == [
        *("/opt/tools", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin"),
        *("/sbin", "/bin"),
    ]
    around = Surroundings("127.0.0.1", "/s", "", has_own_network=False, search_path="/opt/tools")
    assert container_environment(task(), around)["PATH"] == "/opt/tools"


MOUNTINFO = r"""22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 254:1 / /home/deep/er rw shared:1 - ext4 /dev/vdb rw
41 27 254:1 / /home rw shared:1 - ext4 /dev/vdb rw
42 27 254:0 / /run/netns rw shared:1 - ext4 /dev/vda rw
43 42 0:4 net:[4026532] /run/netns/a1 rw - nsfs nsfs rw
44 27 0:4 net:[4026533] /srv/ns rw - nsfs nsfs rw
45 27 254:2 / /mnt/a\040b rw - xfs /dev/vdc rw
46 27 254:2 / /home rw - xfs /dev/vdc rw
47 27 0:30 / /runner rw - tmpfs tmpfs rw
48 27 0:31 / /tmp rw - tmpfs tmpfs rw
49 48 0:32 / /tmp/passing rw - tmpfs tmpfs rw
50 27 254:3 / /var/lib/docker rw - ext4 /dev/vdd rw
51 50 0:33 / /var/lib/docker/overlay2/a/merged rw - overlay overlay rw
"""


def test_file_systems_of_the_host_are_found_outermost_first() -> None:
    assert host_mounts(MOUNTINFO) == (
        *("/", "/home", "/runner"),
        *("/mnt/a b", "/home/deep/er", "/var/lib/docker"),
    )


def test_below_is_by_whole_names() -> None:
    assert is_below("/run", ("/run",))
    assert is_below("/run/x", ("/run",))
    assert not is_below("/runner", ("/run",))
