"""Every field of an app, one row each: what it is by default, how it is shown, where it goes."""

import json
import math
from random import Random
from typing import Any

import msgspec
import pytest
from tests.unit.marathon.conftest import make_offer

from phalanx.marathon.definition.parse import parse_app
from phalanx.marathon.definition.problem import DefinitionError
from phalanx.marathon.definition.render import render_app
from phalanx.marathon.model.app import App
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.schedule.match import matching
from phalanx.marathon.schedule.residency import Circumstances
from phalanx.marathon.schedule.service_port import free_ports, with_service_ports
from phalanx.mesos.v1.codec import encode

UNSET: Any = object()  # what is not shown
LEAST: dict[str, Any] = {"id": "/prod/web", "cmd": "serve"}
NETWORKS = {"networks": [{"mode": "container", "name": "dcos"}]}
SECRET: dict[str, Any] = {"secrets": {"key": {"source": "team/key"}}}
REFERENCE = {"type": "REFERENCE", "reference": {"name": "team/key"}}


def app_of(raw: dict[str, Any]) -> App:
    """Return an app with its service ports."""
    return with_service_ports(parse_app(raw), before=None, free=free_ports([]))


def task_of(app: App, *, enforcing: frozenset[str] = frozenset()) -> Any:
    """Return the task of one instance as it goes over the wire."""
    role = app.role
    waiting = [(app, Instance(id="prod_web.instance-1", app_id=app.id, version="v", since=0))]
    around = Circumstances(enforcing=enforcing)
    offer = make_offer("a1", role=role)
    found = matching([offer], waiting, {}, Random(1), around)
    return json.loads(encode(found.placements[0].task))


def at(path: str, wire: Any) -> Any:
    """Return what is at a path such as ``command.uris.0.value``; UNSET where nothing is."""
    for part in path.split("."):
        if isinstance(wire, list):
            wire = wire[int(part)] if int(part) < len(wire) else UNSET
        elif isinstance(wire, dict) and "=" in part:
            wire = next(one for one in wire["variables"] if one["name"] == part[1:])
        else:
            wire = wire.get(part, UNSET)
        if wire is UNSET:
            return UNSET
    return wire


def variable(name: str, task: Any) -> Any:
    """Return a variable of a task's environment; UNSET where there is none."""
    of_executor = task.get("executor", {})
    variables = (task.get("command") or of_executor["command"])["environment"]["variables"]
    return next((one for one in variables if one["name"] == name), UNSET)


# field, what it is when not given, what is given beside it, the value, where it is in the task.
ROWS = [
    ("cmd", UNSET, {"cmd": None, "args": ["a", "b"]}, UNSET, "command.shell", False),
    ("cmd", "serve", {}, "run", "command.value", "run"),
    ("cmd", "serve", {}, "run", "command.shell", True),
    ("args", [], {"cmd": None}, ["a", "b"], "command.arguments", ["a", "b"]),
    ("args", [], {"cmd": None}, ["a", "b"], "command.value", "a"),
    ("user", UNSET, {}, "nobody", "command.user", "nobody"),
    ("tty", UNSET, {}, True, "container.tty_info", {}),
    ("executor", "", {}, "//cmd", "executor", UNSET),
    ("executor", "", {}, "./run it", "command", UNSET),
    ("executor", "", {}, "./run it", "executor.command.value",
     "chmod ug+rx './run it' && exec './run it' serve"),
    ("executor", "", {}, "/bin/run", "executor.type", "CUSTOM"),
    ("executor", "", {}, "/bin/run", "executor.executor_id.value",
     "marathon-prod_web.instance-1._app.1"),
    ("executor", "", {"cmd": None, "args": ["a", "b"]}, "/bin/run", "executor.command.value",
     "chmod ug+rx /bin/run && exec /bin/run a b"),
    ("executorResources", UNSET, {"executor": "/bin/run"}, {"cpus": 0.5, "mem": 16, "disk": 1},
     "executor.resources.0.scalar.value", 0.5),
    ("executorResources", UNSET, {}, {"cpus": 0.1, "mem": 32, "disk": 10}, "executor", UNSET),
    ("instances", 1, {}, 3, "name", "web.prod"),
    ("cpus", 1, {}, 0.5, "resources.0.scalar.value", 0.5),
    ("mem", 128, {}, 64, "resources.1.scalar.value", 64),
    ("disk", 0, {}, 7, "resources.2.scalar.value", 7),
    ("gpus", 0, {}, 0, "resources.0.name", "cpus"),
    ("resourceLimits", UNSET, {}, {"cpus": 2, "mem": "unlimited"}, "limits.cpus.value", 2),
    ("resourceLimits", UNSET, {}, {"mem": "unlimited"}, "limits.mem.value", math.inf),
    ("secrets", UNSET, {}, SECRET["secrets"], "name", "web.prod"),
    ("labels", {}, {}, {"a": "b"}, "labels.labels", [{"key": "a", "value": "b"}]),
    ("role", "*", {}, "prod", "resources.0.allocation_info.role", "prod"),
    ("acceptedResourceRoles", UNSET, {}, ["*"], "name", "web.prod"),
    ("constraints", [], {}, [["hostname", "UNIQUE"]], "name", "web.prod"),
    ("constraints", [], {}, [["hostname", "LIKE", "a.*"]], "name", "web.prod"),
    ("fetch", [], {}, [{"uri": "u", "extract": False, "executable": True, "cache": True,
                        "destPath": "d"}],
     "command.uris.0", {"value": "u", "extract": False, "executable": True, "cache": True,
                        "output_file": "d"}),
    ("dependencies", [], {}, ["/prod/db"], "name", "web.prod"),
    ("networks", [{"mode": "host"}], {}, NETWORKS["networks"], "container.network_infos.0.name",
     "dcos"),
    ("networks", [{"mode": "host"}], {}, [{"mode": "container/bridge"}],
     "container.network_infos.0.name", "mesos-bridge"),
    ("networks", [{"mode": "host"}], {}, [{"mode": "container", "name": "a", "labels": {"k": "v"}}],
     "container.network_infos.0.labels.labels", [{"key": "k", "value": "v"}]),
    ("requirePorts", False, {"portDefinitions": [{"port": 31000}]}, True,
     "discovery.ports.ports.0.number", 31000),
    ("portDefinitions", [{"port": 10000, "name": "default", "protocol": "tcp", "labels": {}}], {},
     [{"port": 7, "name": "n", "protocol": "udp", "labels": {"VIP_0": "/w:1"}}],
     "discovery.ports.ports.0.labels.labels", [{"key": "VIP_0", "value": "/w:1"}]),
    ("portDefinitions", [{"port": 10000, "name": "default", "protocol": "tcp", "labels": {}}], {},
     [{"port": 7, "name": "n", "protocol": "udp", "labels": {}}],
     "discovery.ports.ports.0.protocol", "udp"),
    ("portDefinitions", [{"port": 10000, "name": "default", "protocol": "tcp", "labels": {}}], {},
     [], "discovery.ports.ports", UNSET),
    ("healthChecks", [], {}, [
        {"protocol": "MESOS_HTTP", "path": "/h", "portIndex": 0, "gracePeriodSeconds": 1,
         "intervalSeconds": 2, "timeoutSeconds": 1.5, "maxConsecutiveFailures": 4,
         "delaySeconds": 0, "ignoreHttp1xx": False, "ipProtocol": "IPv4"}],
     "health_check.consecutive_failures", 4),
    ("check", UNSET, {}, {"exec": {"command": {"shell": "true"}}, "intervalSeconds": 9,
                          "timeoutSeconds": 8, "delaySeconds": 7},
     "check.command.command.value", "true"),
    ("readinessChecks", [], {}, [
        {"name": "r", "protocol": "HTTPS", "path": "/r", "portName": "default",
         "intervalSeconds": 9, "timeoutSeconds": 8, "httpStatusCodesForReady": [201],
         "preserveLastResponse": True}], "name", "web.prod"),
    ("backoffSeconds", 1, {}, 2, "name", "web.prod"),
    ("backoffFactor", 1.15, {}, 1.5, "name", "web.prod"),
    ("maxLaunchDelaySeconds", 300, {}, 3600, "name", "web.prod"),
    ("upgradeStrategy", {"minimumHealthCapacity": 1, "maximumOverCapacity": 1}, {},
     {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.25}, "name", "web.prod"),
    ("killSelection", "YOUNGEST_FIRST", {}, "OLDEST_FIRST", "name", "web.prod"),
    ("unreachableStrategy", {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0}, {},
     {"inactiveAfterSeconds": 5, "expungeAfterSeconds": 9}, "name", "web.prod"),
    ("unreachableStrategy", {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0}, {}, "disabled",
     "name", "web.prod"),
    ("taskKillGracePeriodSeconds", UNSET, {}, 3, "kill_policy.grace_period.nanoseconds", 3e9),
    ("container", UNSET, {}, {"type": "MESOS", "volumes": [
        {"containerPath": "c", "hostPath": "/h", "mode": "RO"}]},
     "container.volumes.0", {"container_path": "c", "host_path": "/h", "mode": "RO"}),
    ("container", UNSET, SECRET, {"type": "MESOS", "volumes": [
        {"containerPath": "c", "secret": "key", "mode": "RO"}]},
     "container.volumes.0.source.secret", REFERENCE),
    ("container", UNSET, SECRET, {"type": "MESOS", "volumes": [], "docker": {
        "image": "i", "forcePullImage": True, "privileged": False, "parameters": [],
        "pullConfig": {"secret": "key"}}},
     "container.mesos.image",
     {"type": "DOCKER", "cached": False, "docker": {"name": "i", "config": REFERENCE}}),
    ("container", UNSET, {}, {"type": "DOCKER", "volumes": [], "docker": {
        "image": "i", "forcePullImage": True, "privileged": True,
        "parameters": [{"key": "k", "value": "v"}]}},
     "container.docker", {
         "image": "i", "network": "HOST", "privileged": True, "force_pull_image": True,
         "parameters": [{"key": "k", "value": "v"},
                        {"key": "label", "value": "MESOS_TASK_ID=prod_web.instance-1._app.1"}]}),
    ("container", UNSET, {}, {"type": "MESOS", "volumes": [], "linuxInfo": {
        "seccomp": {"profileName": "p"}, "ipcInfo": {"mode": "PRIVATE", "shmSize": 8}}},
     "container.linux_info",
     {"ipc_mode": "PRIVATE", "shm_size": 8, "seccomp": {"profile_name": "p"},
      "share_cgroups": True}),
    ("container", {"type": "MESOS", "volumes": [], "portMappings": [
        {"containerPort": 0, "servicePort": 10000, "protocol": "tcp", "name": "default",
         "labels": {}}]},
     NETWORKS, {"type": "MESOS", "volumes": [], "portMappings": [
         {"containerPort": 80, "hostPort": 31005, "servicePort": 9, "protocol": "udp,tcp",
          "name": "n", "labels": {"VIP_0": "/w:1"}, "networkNames": ["dcos"]}]},
     "container.network_infos.0.port_mappings", [
         {"host_port": 31005, "container_port": 80, "protocol": "udp"},
         {"host_port": 31005, "container_port": 80, "protocol": "tcp"}]),
]  # fmt: skip
ROW_IDS = [f"{row[0]}-{index}" for index, row in enumerate(ROWS)]


@pytest.mark.parametrize(("field", "usual", "beside", "value", "path", "told"), ROWS, ids=ROW_IDS)
def test_field(field: str, usual: Any, beside: Any, value: Any, path: str, told: Any) -> None:
    without = {**LEAST, **beside}
    if field == "args":
        without = LEAST
    raw = without if value is UNSET else {**LEAST, **beside, field: value}
    app = app_of(raw)
    shown = render_app(app)

    if value is not UNSET:
        assert render_app(app_of(without)).get(field, UNSET) == usual
    assert shown.get(field, UNSET) == value
    assert app_of(shown) == app
    assert at(path, task_of(app)) == told


def test_every_field_has_a_row() -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(App)}
    # What else there is has its own tests: variables below, versions with the REST API.
    assert fields - {row[0] for row in ROWS} == {"id", "env", "version", "versionInfo"}


@pytest.mark.parametrize(
    ("more", "name", "expected"),
    [
        ({}, "MESOS_TASK_ID", "prod_web.instance-1._app.1"),
        ({}, "MARATHON_APP_ID", "/prod/web"),
        ({}, "MARATHON_APP_VERSION", ""),
        ({}, "MARATHON_APP_RESOURCE_CPUS", "1.0"),
        ({}, "MARATHON_APP_RESOURCE_MEM", "128.0"),
        ({}, "MARATHON_APP_RESOURCE_DISK", "0.0"),
        ({}, "MARATHON_APP_RESOURCE_GPUS", "0"),
        ({}, "MARATHON_APP_DOCKER_IMAGE", UNSET),
        ({"container": {"docker": {"image": "i"}}}, "MARATHON_APP_DOCKER_IMAGE", "i"),
        ({}, "MARATHON_APP_ENFORCE_GROUP_ROLE", "FALSE"),
        ({"role": "prod"}, "MARATHON_APP_ENFORCE_GROUP_ROLE", "TRUE"),
        ({}, "MARATHON_APP_LABELS", ""),
        ({"labels": {"a-b": "x", "c": "y"}}, "MARATHON_APP_LABELS", "A_B C"),
        ({"labels": {"a--b": "x"}}, "MARATHON_APP_LABEL_A_B", "x"),
        ({"labels": {"a": "x" * 512}}, "MARATHON_APP_LABEL_A", UNSET),
        ({"labels": {"a": "x" * 511}}, "MARATHON_APP_LABEL_A", "x" * 511),
        ({"labels": {"a" * 493: "x"}}, f"MARATHON_APP_LABEL_{'A' * 493}", UNSET),
        ({}, "HOST", "a1"),
        ({"portDefinitions": []}, "PORT", UNSET),
        ({"portDefinitions": []}, "PORTS", UNSET),
        ({"portDefinitions": [{"port": 31000}, {"port": 31001, "name": "a-b"}],
          "requirePorts": True}, "PORTS", "31000,31001"),
        ({"portDefinitions": [{"port": 31000}, {"port": 31001, "name": "a-b"}],
          "requirePorts": True}, "PORT", "31000"),
        ({"portDefinitions": [{"port": 31000}, {"port": 31001, "name": "a-b"}],
          "requirePorts": True}, "PORT1", "31001"),
        ({"portDefinitions": [{"port": 31000}, {"port": 31001, "name": "a-b"}],
          "requirePorts": True}, "PORT_31001", "31001"),
        ({"portDefinitions": [{"port": 31000}, {"port": 31001, "name": "a-b"}],
          "requirePorts": True}, "PORT_A-B", "31001"),
        ({**NETWORKS, "container": {"portMappings": [{"containerPort": 80}]}}, "PORT0", "80"),
        ({**NETWORKS, "container": {"portMappings": [{"containerPort": 80, "hostPort": 31003}]}},
         "PORT0", "31003"),
        ({**NETWORKS, "container": {"portMappings": [{"containerPort": 80, "hostPort": 31003}]}},
         "PORT_80", "31003"),
        ({"env": {"PORT": "mine", "A": "b"}}, "PORT", "mine"),
        ({"env": {"A": "b"}}, "A", "b"),
    ],
)  # fmt: skip
def test_variable(more: dict[str, Any], name: str, expected: Any) -> None:
    enforcing = frozenset({"prod"}) if more.get("role") == "prod" else frozenset[str]()

    found = variable(name, task_of(app_of({**LEAST, **more}), enforcing=enforcing))

    assert (found if found is UNSET else found.get("value", "")) == expected


def test_variable_may_be_a_secret() -> None:
    app = app_of({**LEAST, **SECRET, "env": {"KEY": {"secret": "key"}}})

    assert variable("KEY", task_of(app)) == {"name": "KEY", "type": "SECRET", "secret": REFERENCE}
    assert render_app(app)["env"] == {"KEY": {"secret": "key"}}


def test_an_own_executor_gets_files_variables_and_container() -> None:
    app = app_of(
        {
            **LEAST,
            "executor": "run",
            "executorResources": {"cpus": 0.5},
            "fetch": [{"uri": "http://x/run"}],
            "container": {"type": "MESOS", "docker": {"image": "i"}},
            "taskKillGracePeriodSeconds": 1,
        }
    )

    task = task_of(app)

    executor = task["executor"]
    assert executor["command"]["uris"][0]["value"] == "http://x/run"
    assert variable("PORT0", task)["value"] == str(task["discovery"]["ports"]["ports"][0]["number"])
    assert executor["container"]["mesos"]["image"]["docker"] == {"name": "i"}
    assert [r["scalar"]["value"] for r in executor["resources"]] == [0.5, 32, 10]
    assert [r["scalar"]["value"] for r in task["resources"][:2]] == [1, 128]
    assert "kill_policy" in task
    assert not {"command", "container"} & task.keys()


@pytest.mark.parametrize("executor", ["//x", "/bin//x", "run/", "/"])
def test_an_executor_is_a_path(executor: str) -> None:
    with pytest.raises(DefinitionError, match="/executor: must fully match regular expression"):
        parse_app({**LEAST, "executor": executor})


def test_an_own_executor_takes_its_share_of_an_offer() -> None:
    app = app_of({**LEAST, "cpus": 7.9, "executor": "run", "executorResources": {"cpus": 0.2}})
    waiting = [(app, Instance(id="i.instance-1", app_id=app.id, version="v", since=0))]

    found = matching([make_offer("a1", cpus=8)], waiting, {}, Random(1))

    assert [rejection.reason for rejection in found.rejections] == ["InsufficientCpus"]


@pytest.mark.parametrize(
    ("more", "path", "words"),
    [
        ({"executorResources": {"cpus": -1}}, "/executorResources/cpus", "got -1, expected 0"),
        ({"container": {"docker": {"image": "i", "pullConfig": {"secret": "x"}}}},
         "/container/docker/pullConfig", "pullConfig is not supported with DOCKER"),
        ({"container": {"type": "MESOS", "docker": {"image": "i", "pullConfig": {"secret": "x"}}}},
         "/container/docker/pullConfig/secret", "references the undeclared secret 'x'"),
        ({"container": {"docker": {"image": "i"}}, "check": {"exec": {"command": {"shell": "x"}}}},
         "/check", "is only supported by the Mesos containerizer"),
        ({"healthChecks": [{"protocol": "MESOS_HTTP", "ipProtocol": "IPv6"}]},
         "/healthChecks(0)/ipProtocol", "IPv6 can only be used with a Docker container"),
        ({"healthChecks": [{"ipProtocol": "IPX"}]},
         "/healthChecks(0)/ipProtocol", "'IPX' is neither IPv4 nor IPv6"),
        ({"constraints": [["a", "LIKE"]]}, "/constraints(0)", "Value was empty"),
        ({"constraints": [["a", "UNLIKE", ""]]}, "/constraints(0)", "Value was empty"),
        ({"constraints": [["a", "MAX_PER", "x"]]}, "/constraints(0)", "Value was empty"),
        ({"constraints": [["a"]]}, "/constraints(0)", "must be a field, an operator"),
        ({"labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}}, "/upgradeStrategy", "must be 0, 0"),
    ],
)  # fmt: skip
def test_more_rules_are_kept(more: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_app({**LEAST, **more})

    found = {problem.path: problem.error for problem in caught.value.problems}
    assert found[path].startswith(words)


@pytest.mark.parametrize("protocol", ["MESOS_HTTP", "MESOS_TCP"])
def test_agents_check_of_a_docker_container_may_go_over_ipv6(protocol: str) -> None:
    check = {"protocol": protocol, "ipProtocol": "IPv6"}
    raw = {**LEAST, "container": {"docker": {"image": "i"}}, "healthChecks": [check]}

    found = task_of(app_of(raw))["health_check"]

    assert found["tcp" if protocol == "MESOS_TCP" else "http"]["protocol"] == "IPv6"


def test_several_checks_by_commands_are_tolerated_and_the_first_is_run() -> None:
    commands = [{"protocol": "COMMAND", "command": {"value": word}} for word in ("one", "two")]

    found = task_of(app_of({**LEAST, "healthChecks": commands}))["health_check"]

    assert found["command"]["value"] == "one"


def test_old_definitions_of_ports_off_the_host_are_service_ports() -> None:
    docker = {"image": "i", "network": "BRIDGE", "portMappings": [{"containerPort": 80}]}
    definitions = [{"port": 9000}, {"port": 9001}]

    app = parse_app({**LEAST, "portDefinitions": definitions, "container": {"docker": docker}})

    assert [(m.container_port, m.service_port) for m in app.mappings] == [(80, 9000), (0, 9001)]
    assert app.port_definitions is None
