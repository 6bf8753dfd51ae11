"""Every field of a pod, one row each: how it is shown, and where it goes in executor and tasks."""

import json
from random import Random
from typing import Any

import msgspec
import pytest
from tests.unit.marathon.conftest import make_offer

from phalanx.marathon.definition.pod import parse_pod
from phalanx.marathon.definition.render import render_pod
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.model.pod import Pod, PodContainer
from phalanx.marathon.schedule.match import matching
from phalanx.mesos.v1.codec import encode

UNSET: Any = object()  # what is not there
NAME = "prod_pair.instance-1"
EXEC = {"command": {"shell": "x"}}
POD: dict[str, Any] = {"id": "/prod/pair", "containers": [{"name": "one", "exec": EXEC}]}
ON_DCOS = {"networks": [{"mode": "container", "name": "dcos"}]}
SECRET: dict[str, Any] = {"secrets": {"key": {"source": "team/key"}}}
REFERENCE = {"type": "REFERENCE", "reference": {"name": "team/key"}}
IMAGE = {"kind": "DOCKER", "id": "i"}


def group_of(pod: Pod) -> Any:
    """Return executor and tasks of one instance as they go over the wire."""
    waiting = [(pod, Instance(id=NAME, app_id=pod.id, version="v", since=0))]
    found = matching([make_offer("a1", role=pod.role)], waiting, {}, Random(1))
    placement = found.placements[0]
    assert placement.executor is not None
    return {
        "executor": json.loads(encode(placement.executor)),
        "task": json.loads(encode(placement.tasks[0])),
    }


def at(path: str, wire: Any) -> Any:
    """Return what is at a path; ``$NAME`` is a variable of an environment."""
    for part in path.split("."):
        if part.startswith("$"):
            named = [one for one in wire["environment"]["variables"] if one["name"] == part[1:]]
            wire = named[0] if named else UNSET
        elif isinstance(wire, list):
            wire = wire[int(part)] if int(part) < len(wire) else UNSET
        else:
            wire = wire.get(part, UNSET)
        if wire is UNSET:
            return UNSET
    return wire


# what is given beside it, field, value, where it is in executor or task
OF_POD = [
    ({}, "labels", {"a": "b"}, "executor.labels.labels", [{"key": "a", "value": "b"}]),
    ({}, "labels", {"a": "b"}, "task.labels.labels", [{"key": "a", "value": "b"}]),
    ({}, "user", "nobody", "task.command.user", "nobody"),
    ({}, "environment", {"A": "b"}, "task.command.$A.value", "b"),
    (SECRET, "environment", {"A": {"secret": "key"}}, "task.command.$A.secret", REFERENCE),
    ({}, "secrets", SECRET["secrets"], "task.name", "one"),
    ({}, "networks", ON_DCOS["networks"], "executor.container.network_infos.0.name", "dcos"),
    ({}, "networks", [{"mode": "container/bridge"}], "executor.container.network_infos.0.name",
     "mesos-bridge"),
    ({}, "scaling", {"kind": "fixed", "instances": 3}, "executor.name", "pair.prod"),
    ({}, "scheduling", {
        "backoff": {"backoff": 2, "backoffFactor": 1.5, "maxLaunchDelay": 9},
        "upgrade": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.25},
        "placement": {"constraints": [{"fieldName": "hostname", "operator": "LIKE", "value": "a1"}],
                      "acceptedResourceRoles": ["*"]},
        "killSelection": "OLDEST_FIRST", "unreachableStrategy": "disabled"},
     "executor.type", "DEFAULT"),
    ({}, "executorResources", {"cpus": 0.5, "mem": 64, "disk": 1},
     "executor.resources.0.scalar.value", 0.5),
    ({}, "role", "prod", "executor.resources.0.allocation_info.role", "prod"),
    ({}, "linuxInfo", {"ipcInfo": {"mode": "PRIVATE", "shmSize": 8}},
     "executor.container.linux_info.shm_size", 8),
    ({}, "legacySharedCgroups", False, "task.container.linux_info.share_cgroups", False),
]  # fmt: skip
OF_CONTAINER = [
    ({}, "name", "one", "task.task_id.value", f"{NAME}.one.1"),
    ({}, "exec", {"command": {"argv": ["a", "b"]}}, "task.command",
     {"shell": False, "value": "a", "arguments": ["a", "b"]}),
    ({"image": IMAGE}, "exec", {"command": {"argv": ["a", "b"]}, "overrideEntrypoint": False},
     "task.command", {"shell": False, "arguments": ["a", "b"]}),
    ({}, "exec", {"command": {"shell": "run"}}, "task.command", {"shell": True, "value": "run"}),
    ({}, "resources", {"cpus": 0.5, "mem": 64, "disk": 7, "gpus": 0},
     "task.resources.2.scalar.value", 7),
    ({}, "resourceLimits", {"cpus": 2}, "task.limits.cpus.value", 2),
    ({}, "image", {**IMAGE, "forcePull": True, "pullConfig": {"secret": "key"},
                   "labels": {"a": "b"}},
     "task.container.mesos.image",
     {"type": "DOCKER", "cached": False, "docker": {"name": "i", "config": REFERENCE}}),
    ({}, "environment", {"A": "b"}, "task.command.$A.value", "b"),
    ({}, "user", "daemon", "task.command.user", "daemon"),
    ({}, "labels", {"c": "d"}, "task.labels.labels", [{"key": "c", "value": "d"}]),
    ({}, "lifecycle", {"killGracePeriodSeconds": 3}, "task.kill_policy.grace_period.nanoseconds",
     3e9),
    ({}, "tty", True, "task.container.tty_info", {}),
    ({}, "linuxInfo", {"seccomp": {"unconfined": True}},
     "task.container.linux_info.seccomp.unconfined", True),
    ({}, "artifacts", [{"uri": "u", "extract": False, "executable": True, "cache": True,
                        "destPath": "d"}],
     "task.command.uris.0", {"value": "u", "extract": False, "executable": True, "cache": True,
                             "output_file": "d"}),
    ({}, "volumeMounts", [{"name": "tmp", "mountPath": "m", "readOnly": True}],
     "task.container.volumes.0", {
         "mode": "RO", "container_path": "m",
         "source": {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": "tmp"}}}),
    ({}, "volumeMounts", [{"name": "logs", "mountPath": "m", "readOnly": False}],
     "task.container.volumes.0", {"mode": "RW", "container_path": "m", "host_path": "/var/log"}),
    ({}, "volumeMounts", [{"name": "cert", "mountPath": "m", "readOnly": False}],
     "task.container.volumes.0.source.secret", REFERENCE),
    ({}, "endpoints", [{"name": "web", "containerPort": 80, "hostPort": 31005,
                        "protocol": ["tcp", "udp"], "labels": {"VIP_0": "/w:80"},
                        "networkNames": ["dcos"]}],
     "executor.container.network_infos.0.port_mappings", [
         {"host_port": 31005, "container_port": 80, "protocol": "tcp"},
         {"host_port": 31005, "container_port": 80, "protocol": "udp"}]),
    ({}, "endpoints", [{"name": "web", "containerPort": 80, "protocol": ["tcp"],
                        "labels": {"VIP_0": "/w:80"}}],
     "task.discovery.ports.ports.0", {
         "number": 80, "name": "web", "protocol": "tcp", "labels": {"labels": [
             {"key": "VIP_0", "value": "/w:80"}, {"key": "network-scope", "value": "container"},
             {"key": "network-name", "value": "dcos"}]}}),
    ({"endpoints": [{"name": "web", "containerPort": 80}]}, "healthCheck", {
        "http": {"endpoint": "web", "path": "/h", "scheme": "HTTPS"}, "gracePeriodSeconds": 1,
        "intervalSeconds": 3, "maxConsecutiveFailures": 4, "timeoutSeconds": 2,
        "delaySeconds": 0},
     "task.health_check.http", {"protocol": "IPv4", "scheme": "https", "port": 80, "path": "/h"}),
    ({"endpoints": [{"name": "web", "containerPort": 80}]}, "healthCheck", {
        "tcp": {"endpoint": "web"}, "gracePeriodSeconds": 1, "intervalSeconds": 3,
        "maxConsecutiveFailures": 4, "timeoutSeconds": 2, "delaySeconds": 0},
     "task.health_check.consecutive_failures", 4),
    ({}, "check", {"exec": {"command": {"argv": ["a", "b"]}}, "intervalSeconds": 3,
                   "timeoutSeconds": 2, "delaySeconds": 1},
     "task.check.command.command", {"shell": False, "value": "a", "arguments": ["a", "b"]}),
]  # fmt: skip
VOLUMES = [
    {"name": "tmp"},
    {"name": "logs", "host": "/var/log"},
    {"name": "cert", "secret": "key"},
]


def without_environment(wire: Any) -> Any:
    """Return a command without its variables, anything else as it is."""
    return {k: v for k, v in wire.items() if k != "environment"} if isinstance(wire, dict) else wire


@pytest.mark.parametrize(("beside", "field", "value", "path", "told"), OF_POD)
def test_field_of_a_pod(beside: Any, field: str, value: Any, path: str, told: Any) -> None:
    pod = parse_pod({**POD, **beside, field: value})
    shown = render_pod(pod)

    assert shown[field] == value
    assert parse_pod(shown) == pod
    assert at(path, group_of(pod)) == told


@pytest.mark.parametrize(("beside", "field", "value", "path", "told"), OF_CONTAINER)
def test_field_of_a_container(beside: Any, field: str, value: Any, path: str, told: Any) -> None:
    mounts = [{"name": volume["name"], "mountPath": volume["name"]} for volume in VOLUMES]
    holder = {"name": "two", "exec": EXEC, "volumeMounts": mounts}
    one = {"name": "one", "exec": EXEC, **beside, field: value}
    pod = parse_pod({**POD, **ON_DCOS, **SECRET, "volumes": VOLUMES, "containers": [one, holder]})
    shown = render_pod(pod)

    assert shown["containers"][0][field] == value
    assert parse_pod(shown) == pod
    assert without_environment(at(path, group_of(pod))) == told


def test_every_field_has_a_row() -> None:
    of_pod = {field.encode_name for field in msgspec.structs.fields(Pod)}
    of_container = {field.encode_name for field in msgspec.structs.fields(PodContainer)}

    # Volumes are seen where they are mounted.
    assert of_pod - {row[1] for row in OF_POD} == {
        "id", "containers", "volumes", "version", "versionInfo",
    }  # fmt: skip
    assert of_container - {row[1] for row in OF_CONTAINER} == set()


@pytest.mark.parametrize(
    ("networks", "endpoint", "expected"),
    [
        ([{"mode": "host"}], {"hostPort": 31007},
         {"ENDPOINT_A_B": "31007", "EP_HOST_A_B": "31007", "EP_CONTAINER_A_B": None}),
        (ON_DCOS["networks"], {"containerPort": 80, "hostPort": 31007},
         {"ENDPOINT_A_B": "80", "EP_HOST_A_B": "31007", "EP_CONTAINER_A_B": "80"}),
        (ON_DCOS["networks"], {"containerPort": 80},
         {"ENDPOINT_A_B": "80", "EP_HOST_A_B": None, "EP_CONTAINER_A_B": "80"}),
        (ON_DCOS["networks"], {"containerPort": 0, "hostPort": 31007},
         {"ENDPOINT_A_B": "31007", "EP_HOST_A_B": "31007", "EP_CONTAINER_A_B": "31007"}),
    ],
)  # fmt: skip
def test_every_container_is_told_of_every_endpoint(
    networks: Any, endpoint: dict[str, Any], expected: dict[str, str | None]
) -> None:
    other = {"name": "two", "exec": EXEC, "endpoints": [{"name": "a-b", **endpoint}]}
    containers = [*POD["containers"], other]
    pod = parse_pod({**POD, "networks": networks, "containers": containers})

    variables = group_of(pod)["task"]["command"]["environment"]["variables"]

    told = {one["name"]: one.get("value") for one in variables}
    assert {name: told.get(name) for name in expected} == expected
    assert told["MESOS_EXECUTOR_ID"] == f"instance-{NAME}.1"
    assert told["MARATHON_APP_ID"] == "/prod/pair"
    assert told["MARATHON_CONTAINER_ID"] == "one"
    assert told["MARATHON_CONTAINER_RESOURCE_CPUS"] == "1.0"
