"""The agent's small decisions: endings, offers, paths, names, settings, JSON forms."""

import signal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from phalanx.agent.api.form import attributes_form, resources_form, task_form
from phalanx.agent.client import leader_url
from phalanx.agent.config import AgentConfig
from phalanx.agent.container.containerizer import Exit, Limitation
from phalanx.agent.layout import Layout, checked_id
from phalanx.agent.offering import Machine, offered_resources, parse_attributes
from phalanx.agent.registration import hold, keep_id, note_boot, recover_info
from phalanx.agent.station import hostname_of
from phalanx.agent.task.ending import ending, words_of
from phalanx.agent.task.record import Checkpoint, Kill, TaskRecord, drain_seconds, grace_seconds
from phalanx.core.config import HostPort, MasterAddress
from phalanx.core.error import ConfigError, InvalidError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import (
    AgentID,
    AgentInfo,
    DurationInfo,
    FrameworkID,
    FrameworkInfo,
    KillPolicy,
    Task,
    TaskInfo,
    TaskState,
)

OUT_OF_MEMORY = Limitation(
    "REASON_CONTAINER_LIMITATION_MEMORY",
    "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB",
)


@pytest.mark.parametrize(
    ("exit", "kill", "state", "reason", "message"),
    [
        pytest.param(
            Exit(status=0),
            None,
            TaskState.TASK_FINISHED,
            None,
            "Command exited with status 0",
            id="finished",
        ),
        pytest.param(
            Exit(status=3 << 8),
            None,
            TaskState.TASK_FAILED,
            None,
            "Command exited with status 3",
            id="failed",
        ),
        pytest.param(
            Exit(status=0),
            Kill(),
            TaskState.TASK_KILLED,
            None,
            "Command exited with status 0",
            id="killed-whatever-the-status",
        ),
        pytest.param(
            Exit(status=9),
            Kill(message="Health check failed", healthy=False),
            TaskState.TASK_KILLED,
            None,
            "Health check failed: Command terminated with signal Killed",
            id="killed-with-a-word",
        ),
        pytest.param(
            Exit(status=9, limitation=OUT_OF_MEMORY),
            Kill(),
            TaskState.TASK_FAILED,
            "REASON_CONTAINER_LIMITATION_MEMORY",
            "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB",
            id="out-of-memory",
        ),
        pytest.param(
            Exit(status=0, limitation=OUT_OF_MEMORY),
            Kill(),
            TaskState.TASK_FAILED,
            "REASON_CONTAINER_LIMITATION_MEMORY",
            "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB",
            id="out-of-memory-of-a-child-that-nobody-missed",
        ),
        pytest.param(
            Exit(error="runc said no"),
            None,
            TaskState.TASK_FAILED,
            "REASON_CONTAINER_LAUNCH_FAILED",
            "Failed to launch container: runc said no",
            id="never-started",
        ),
    ],
)
def test_an_exit_becomes_a_last_status(
    exit: Exit, kill: Kill | None, state: TaskState, reason: str | None, message: str
) -> None:
    end = ending(exit, kill)

    assert (end.state, end.reason, end.message) == (state, reason, message)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param(int(signal.SIGTERM), "Command terminated with signal Terminated", id="signal"),
        pytest.param(143 << 8, "Command terminated with signal Terminated", id="through-the-shell"),
        pytest.param(127 << 8, "Command exited with status 127", id="not-found"),
        pytest.param(255 << 8, "Command exited with status 255", id="no-such-signal"),
    ],
)
def test_a_wait_status_has_words(status: int, words: str) -> None:
    assert words_of(status) == words


BIG = Machine(cpus=4, memory_megabytes=8192, disk_megabytes=20480)
SMALL = Machine(cpus=1, memory_megabytes=1000, disk_megabytes=8000)


@pytest.mark.parametrize(
    ("text", "machine", "found"),
    [
        pytest.param("", BIG, "cpus:4;mem:7168;disk:15360;ports:[31000-32000]", id="found-out"),
        pytest.param("", SMALL, "cpus:1;mem:500;disk:4000;ports:[31000-32000]", id="halves"),
        pytest.param(
            "cpus:2;ports:[1-2];gpus:0",
            BIG,
            "cpus:2;mem:7168;disk:15360;ports:[1-2]",
            id="named-ones-stay",
        ),
    ],
)
def test_resources_are_named_or_found_out(text: str, machine: Machine, found: str) -> None:
    assert Resources.of(offered_resources(text, machine)) == Resources.parse(found)


def test_bad_resources_are_named() -> None:
    with pytest.raises(ConfigError, match="--resources: 'cpus'"):
        offered_resources("cpus", BIG)


def test_attributes_have_types() -> None:
    attributes = parse_attributes("rack:r1; level:10 ;ids:[1-4,6-7];a:b:c")

    assert attributes_form(attributes) == {
        "rack": "r1",
        "level": 10.0,
        "ids": "[1-4, 6-7]",
        "a": "b:c",
    }


@pytest.mark.parametrize("text", ["rack", "x:", ":y", "s:{a,b}", "r:[1]"])
def test_bad_attributes_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="--attributes"):
        parse_attributes(text)


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a\nb", "x" * 256, "é" * 128, "\x7f"])
def test_an_id_that_is_no_file_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="id: "):
        checked_id(text)


def test_a_sandbox_lies_where_mesos_has_it() -> None:
    layout = Layout(Path("/w"), Path("/r"))

    assert str(layout.sandbox("S0", ("fw", "t"), "c")) == (
        "/w/slaves/S0/frameworks/fw/executors/t/runs/c"
    )
    assert str(layout.networks) == "/r/isolators/network/cni"


def task_info(**more: Any) -> TaskInfo:
    ids = {"task_id": {"value": "t"}, "agent_id": {"value": "S0"}}
    return from_json(TaskInfo, {"name": "web", **ids, **more})


@pytest.mark.parametrize(
    ("more", "hostname"),
    [
        pytest.param({}, "web", id="task-name"),
        pytest.param({"name": "DB_1.prod"}, "db-1", id="first-label"),
        pytest.param({"name": "..."}, "c1", id="no-label"),
        pytest.param({"container": {"type": "MESOS", "hostname": "h"}}, "h", id="asked-for"),
    ],
)
def test_a_container_has_a_host_name(more: dict[str, object], hostname: str) -> None:
    assert hostname_of(task_info(**more), "c1") == hostname


def policy(seconds: float) -> KillPolicy:
    return KillPolicy(grace_period=DurationInfo(nanoseconds=int(seconds * 1e9)))


@pytest.mark.parametrize(
    ("policies", "seconds"),
    [
        pytest.param((), 3.0, id="default"),
        pytest.param((None, policy(5)), 5.0, id="task"),
        pytest.param((policy(0.5), policy(5)), 0.5, id="kill-beats-task"),
        pytest.param((KillPolicy(), policy(5)), 5.0, id="empty-policy"),
    ],
)
def test_grace_comes_from_the_first_who_says(
    policies: tuple[KillPolicy | None, ...], seconds: float
) -> None:
    assert grace_seconds(*policies) == seconds


VIP_LABEL = {"labels": {"labels": [{"key": "VIP_0", "value": "/web:80"}]}}
BEHIND_VIP = {
    "discovery": {"visibility": "CLUSTER", "ports": {"ports": [{"number": 80, **VIP_LABEL}]}}
}
BY_TASK_LABEL = {"labels": {"labels": [{"key": "vip_port0", "value": "tcp://web:80"}]}}
TOLD = ("TASK_KILLING_STATE",)


@pytest.mark.parametrize(
    ("task", "capabilities", "kill", "is_drained"),
    [
        pytest.param(BEHIND_VIP, TOLD, Kill(), True, id="behind-a-vip"),
        pytest.param(BY_TASK_LABEL, TOLD, Kill(), True, id="behind-a-vip-of-the-first-form"),
        pytest.param({}, TOLD, Kill(), False, id="behind-none"),
        pytest.param(BEHIND_VIP, (), Kill(), False, id="nobody-is-told"),
        pytest.param(BEHIND_VIP, TOLD, Kill(healthy=False), False, id="unhealthy"),
        pytest.param(BEHIND_VIP, TOLD, Kill(grace_seconds=0.0), False, id="no-grace"),
    ],
)
def test_a_task_behind_a_vip_goes_on_until_all_know_of_its_end(
    task: dict[str, Any], capabilities: tuple[str, ...], kill: Kill, is_drained: bool
) -> None:
    framework = {"user": "root", "name": "m", "capabilities": [{"type": x} for x in capabilities]}
    record = TaskRecord(
        framework_info=from_json(FrameworkInfo, framework), task=task_info(**task), container_id="c"
    )

    assert drain_seconds(record, kill, 1.5) == (1.5 if is_drained else 0.0)


@pytest.mark.parametrize(
    ("beside", "is_drained"),
    [
        pytest.param([BEHIND_VIP], True, id="needed-by-another"),
        pytest.param([{}], False, id="nobody-serves"),
        pytest.param([], False, id="alone"),
    ],
)
def test_a_task_that_a_serving_one_of_its_pod_may_need_goes_on_as_long(
    beside: list[dict[str, Any]], is_drained: bool
) -> None:
    framework = {"user": "root", "name": "m", "capabilities": [{"type": x} for x in TOLD]}
    record = TaskRecord(
        framework_info=from_json(FrameworkInfo, framework), task=task_info(), container_id="c"
    )
    others = [task_info(**each) for each in beside]

    assert (drain_seconds(record, Kill(), 1.0, beside=others) > 0) == is_drained


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "deep" / "er")
    framework = FrameworkInfo(user="root", name="m", id=FrameworkID(value="fw"))
    record = TaskRecord(framework_info=framework, task=task_info(), container_id="c")
    kill = Kill(message="m", healthy=False, grace_seconds=1.5)

    assert checkpoint.read_record() is None
    checkpoint.write_record(record)
    checkpoint.write_kill(kill)

    assert checkpoint.read_record() == record
    assert checkpoint.read_kill() == kill
    checkpoint.remove()
    assert checkpoint.read_record() is None


def test_the_agents_id_is_kept(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "work", tmp_path / "run")
    assert recover_info(layout, is_strict=True) is None

    for agent_id in ("S0", "S1"):
        keep_id(layout, AgentInfo(hostname="h", id=AgentID(value=agent_id)))
        found = recover_info(layout, is_strict=True)
        assert found is not None
        assert found.id == AgentID(value=agent_id)

    layout.latest.unlink()
    assert recover_info(layout, is_strict=True) is None


def test_a_reboot_is_noticed_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path)

    assert [note_boot(layout, boot) for boot in ("a", "a", "b", "b")] == [
        *(False, False, True, False)
    ]


def test_a_work_directory_is_held_by_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path)
    hold(layout)

    with pytest.raises(ConfigError, match="another agent"):
        hold(layout)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("//h:5050", "http://h:5050/v1/agent"),
        ("//h:5050/v1/agent", "http://h:5050/v1/agent"),
        ("http://h:5050/v1/agent", "http://h:5050/v1/agent"),
    ],
)
def test_a_redirect_leads_to_the_same_path(location: str, url: str) -> None:
    assert leader_url("http://a:1/v1/agent", location) == url


def config(**more: Any) -> AgentConfig:
    given = {"work_dir": Path("/w"), "ip": IPv4Address("127.0.0.1"), **more}
    return AgentConfig(master=MasterAddress((HostPort("h", 1),)), **given)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param({"port": 70000}, "--port: 70000", id="port"),
        pytest.param(
            {"network_cni_config_dir": Path("/")}, "network_cni_plugins_dir", id="no-plugins"
        ),
        pytest.param({"network_cni_plugins_dir": "/x"}, "network_cni_config_dir", id="no-configs"),
        pytest.param(
            {"network_cni_config_dir": Path("/nosuch"), "network_cni_plugins_dir": "/x"},
            "'/nosuch': is not a directory",
            id="missing-directory",
        ),
        pytest.param({"work_dir": Path("rel")}, "--work-dir: 'rel'", id="relative"),
        pytest.param({"docker_registry": Path("rel")}, "--docker-registry: 'rel'", id="registry"),
        pytest.param({"docker_store_dir": Path("rel")}, "--docker-store-dir: 'rel'", id="store"),
        pytest.param(
            {"docker_registry": Path("/nosuch")},
            "--docker-registry: '/nosuch': is not a directory",
            id="missing-registry",
        ),
        pytest.param({"cgroups_root": "/"}, "--cgroups-root: '/'", id="root-cgroup"),
        pytest.param({"cgroups_root": "a/../.."}, "--cgroups-root", id="cgroup-escape"),
        pytest.param({"network_cni_plugin_timeout": "0secs"}, "'0secs'", id="no-time"),
        pytest.param({"network_cni_plugin_timeout": "10"}, "timeout: '10'", id="no-unit"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(more: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(**more).check_places()


def test_good_settings_pass() -> None:
    made = config(network_cni_config_dir=Path("/"), network_cni_plugins_dir="/a:/b")

    assert made.plugin_directories == (Path("/a"), Path("/b"))


def test_the_usual_resources_are_always_shown() -> None:
    form = resources_form(Resources.parse("cpus:1;ports:[1-2,5-6];rare:3").messages())

    assert form == {
        **{"disk": 0.0, "mem": 0.0, "gpus": 0.0, "cpus": 1.0},
        **{"rare": 3.0, "ports": "[1-2, 5-6]"},
    }


def test_a_command_tasks_executor_is_not_named() -> None:
    info = task_info()
    task = Task(
        name="n",
        task_id=info.task_id,
        agent_id=info.agent_id,
        framework_id=FrameworkID(value="fw"),
        state=TaskState.TASK_RUNNING,
    )

    form = task_form(task)

    assert (form["executor_id"], form["slave_id"], form["role"]) == ("", "S0", "*")
