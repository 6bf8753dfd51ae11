"""Validation of tasks and task groups, and offers that can be used together."""

from dataclasses import replace

import pytest

from phalanx.master.cluster.offer import Outstanding
from phalanx.master.scheduler.accept import offers_problem, prepared, prepared_executor
from phalanx.master.scheduler.bench import Bench
from phalanx.master.scheduler.task_check import group_problem, task_form_problem, task_problem
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import ExecutorInfo, OfferID, TaskInfo

Json = dict[str, object]
AVAILABLE = Resources.parse("cpus:2;mem:512;disk:100;ports:[31000-31009]")
BENCH = Bench("a1", "web", AVAILABLE, {"live"}, {"away"}, framework_id="f")


def scalar(name: str, value: object, **more: object) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **more}


def task(id: str = "t1", more: Json | None = None) -> TaskInfo:
    json: Json = {
        "name": "web",
        "task_id": {"value": id},
        "agent_id": {"value": "a1"},
        "resources": [scalar("cpus", 1), scalar("mem", 128)],
        "command": {"value": "sleep 1"},
    }
    return from_json(TaskInfo, json | (more or {}))


def problem_of(more: Json) -> str | None:
    given = task(more=more)
    if problem := task_form_problem(given):
        return problem
    executor = prepared_executor(given.executor, "f", "web")
    return task_problem(prepared(given, executor, "web"), BENCH)


def ports(begin: int, end: int) -> Json:
    return {
        "name": "ports",
        "type": "RANGES",
        "ranges": {"range": [{"begin": begin, "end": end}]},
    }


def env(**variable: object) -> Json:
    return {"command": {"value": "x", "environment": {"variables": [{"name": "a", **variable}]}}}


def secret(**more: object) -> Json:
    return env(type="SECRET", secret=more)


def volume(**more: object) -> Json:
    volume = {"mode": "RW", "container_path": "p", **more}
    return {"container": {"type": "MESOS", "volumes": [volume]}}


def custom(**more: object) -> Json:
    executor = {"executor_id": {"value": "e"}, "command": {"value": "x"}, **more}
    return {"command": None, "executor": executor}


def disk(**more: object) -> Json:
    return scalar("disk", 1, disk=more)


PERSISTENT = {"persistence": {"id": "v"}, "volume": {"container_path": "p", "mode": "RW"}}
HELD = scalar("disk", 1, reservations=[{"type": "DYNAMIC", "role": "web"}], disk=PERSISTENT)
CHECK = "Task uses invalid check: "
HEALTH = "Task uses invalid health check: "
COMMAND = "Task's `CommandInfo` is invalid: Environment variable "
VOLUME = "Task's `ContainerInfo` is invalid: Invalid volume: "

# The words are those of Mesos 1.11.
BAD: dict[str, tuple[Json, str]] = {
    "id-syntax": ({"task_id": {"value": "a/b"}}, "'a/b' contains invalid characters"),
    "id-empty": ({"task_id": {"value": ""}}, "ID must not be empty"),
    "id-long": ({"task_id": {"value": "x" * 256}}, "ID must not be greater than 255 characters"),
    "duplicate": ({"task_id": {"value": "live"}}, "Task has duplicate ID: live"),
    "unreachable": (
        {"task_id": {"value": "away"}},
        "Task reuses the ID of an unreachable task: away",
    ),
    "other-agent": (
        {"agent_id": {"value": "a2"}},
        "Task uses invalid agent a2 while agent a1 is expected",
    ),
    "grace": (
        {"kill_policy": {"grace_period": {"nanoseconds": -1}}},
        "Task's 'kill_policy.grace_period' must be non-negative",
    ),
    "completion": (
        {"max_completion_time": {"nanoseconds": -1}},
        "Task's `max_completion_time` must be non-negative",
    ),
    "check-none": ({"check": {}}, f"{CHECK}CheckInfo must specify 'type'"),
    "check-unknown": (
        {"check": {"type": "UNKNOWN"}},
        f"{CHECK}'UNKNOWN' is not a valid check type",
    ),
    "check-member": (
        {"check": {"type": "HTTP"}},
        f"{CHECK}Expecting 'http' to be set for HTTP check",
    ),
    "check-shell": (
        {"check": {"type": "COMMAND", "command": {"command": {}}}},
        f"{CHECK}Command check must contain 'shell command'",
    ),
    "check-path": (
        {"check": {"type": "HTTP", "http": {"port": 1, "path": "x"}}},
        f"{CHECK}The path 'x' of HTTP check must start with '/'",
    ),
    "check-delay": (
        {"check": {"type": "TCP", "tcp": {"port": 1}, "delay_seconds": -1}},
        f"{CHECK}Expecting 'delay_seconds' to be non-negative",
    ),
    "health-none": ({"health_check": {}}, f"{HEALTH}HealthCheck must specify 'type'"),
    "health-unknown": (
        {"health_check": {"type": "UNKNOWN"}},
        f"{HEALTH}'UNKNOWN' is not a valid health check type",
    ),
    "health-member": (
        {"health_check": {"type": "HTTP"}},
        f"{HEALTH}Expecting 'http' to be set for HTTP health check",
    ),
    "health-shell": (
        {"health_check": {"type": "COMMAND", "command": {}}},
        f"{HEALTH}Command health check must contain 'shell command'",
    ),
    "health-path-to-run": (
        {"health_check": {"type": "COMMAND", "command": {"shell": False}}},
        f"{HEALTH}Command health check must contain 'executable path'",
    ),
    "health-scheme": (
        {"health_check": {"http": {"port": 1, "scheme": "ftp"}}},
        f"{HEALTH}Unsupported HTTP health check scheme: 'ftp'",
    ),
    "health-path": (
        {"health_check": {"http": {"port": 1, "path": "x"}}},
        f"{HEALTH}The path 'x' of HTTP health check must start with '/'",
    ),
    "health-interval": (
        {"health_check": {"tcp": {"port": 1}, "interval_seconds": -1}},
        f"{HEALTH}Expecting 'interval_seconds' to be non-negative",
    ),
    "health-environment": (
        {"health_check": {"command": env()["command"]}},
        f"{HEALTH}Health check's `CommandInfo` is invalid: Environment variable 'a' of type"
        " 'VALUE' must have a value set",
    ),
    "no-resources": ({"resources": []}, "Task uses no resources"),
    "negative": (
        {"resources": [scalar("cpus", -1)]},
        "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0",
    ),
    "too-little": (
        {"resources": [scalar("cpus", 0.0001)]},
        "Resource 'cpus:0' is invalid: Invalid scalar resource: value <= 0",
    ),
    "infinite": ({"resources": [scalar("cpus", "Infinity")]}, "Invalid scalar resource"),
    "too-great": ({"resources": [scalar("cpus", 1e308)]}, "Invalid scalar resource"),
    "no-scalar": (
        {"resources": [{"name": "cpus", "type": "SCALAR"}]},
        "is invalid: Invalid scalar resource",
    ),
    "range-turned-round": (
        {"resources": [scalar("cpus", 1), ports(5, 3)]},
        "Resource 'ports:[5-3]' is invalid: Invalid ranges resource: begin > end",
    ),
    "set-twice": (
        {"resources": [{"name": "x", "type": "SET", "set": {"item": ["a", "a"]}}]},
        "is invalid: Invalid set resource: duplicated elements",
    ),
    "no-name": ({"resources": [scalar("", 1)]}, "is invalid: Empty resource name"),
    "half-a-gpu": (
        {"resources": [scalar("gpus", 0.5)]},
        "Task uses invalid resources: Invalid 'gpus' resource:"
        " The 'gpus' resource must be an unsigned integer",
    ),
    "bad-role": (
        {"resources": [scalar("cpus", 1, role="a//b")]},
        "is invalid: Role 'a//b' cannot contain two adjacent slashes",
    ),
    "star-reserved": (
        {"resources": [scalar("cpus", 1, reservations=[{"type": "DYNAMIC", "role": "*"}])]},
        'Invalid reservation: role "*" cannot be reserved',
    ),
    "no-refinement": (
        {
            "resources": [
                scalar(
                    "cpus",
                    1,
                    reservations=[
                        {"type": "DYNAMIC", "role": "r"},
                        {"type": "DYNAMIC", "role": "x"},
                    ],
                )
            ]
        },
        "Invalid refined reservation: role 'x' is not a refinement of 'r'",
    ),
    "shared-cpus": (
        {"resources": [scalar("cpus", 1, shared={})]},
        "Resource 'cpus<SHARED>:1' is invalid: Resource cpus cannot be shared",
    ),
    "disk-of-cpus": (
        {"resources": [scalar("cpus", 1, disk={"persistence": {"id": "v"}})]},
        "Resource 'cpus[v]:1' is invalid: DiskInfo should not be set for cpus resource",
    ),
    "disk-empty": (
        {"resources": [disk()]},
        "Task uses invalid resources: Invalid DiskInfo: DiskInfo is set but empty",
    ),
    "volume-unreserved": (
        {"resources": [disk(**PERSISTENT)]},
        "Task uses invalid resources: Invalid DiskInfo:"
        " Persistent volumes cannot be created from unreserved resources",
    ),
    "volume-twice": (
        {"resources": [HELD, HELD]},
        "Task uses duplicate persistence ID: Persistence ID 'v' is not unique",
    ),
    "two-roles": (
        {"resources": [scalar("cpus", 1, allocation_info={"role": "q"}), scalar("mem", 1)]},
        "Invalid task resources: The resources have multiple allocation roles ('web' and 'q')"
        " but only one allocation role is allowed",
    ),
    "other-role": (
        {"resources": [scalar("cpus", 1, allocation_info={"role": "q"})]},
        "Total resources cpus(allocated: q):1 required by task and its executor is more than"
        " available cpus(allocated: web):2",
    ),
    "revocable-mix": (
        {"resources": [scalar("cpus", 1), scalar("cpus", 1, revocable={})]},
        "Task mixes revocable and non-revocable resources:"
        " Cannot use both revocable and non-revocable 'cpus' at the same time",
    ),
    "value-without": (env(), f"{COMMAND}'a' of type 'VALUE' must have a value set"),
    "value-and-secret": (
        env(value="b", secret={"type": "VALUE", "value": {"data": "YQ=="}}),
        f"{COMMAND}'a' of type 'VALUE' must not have a secret set",
    ),
    "secret-without": (
        env(type="SECRET"),
        f"{COMMAND}'a' of type 'SECRET' must have a secret set",
    ),
    "secret-and-value": (
        env(type="SECRET", value="x", secret={"type": "VALUE", "value": {"data": "YQ=="}}),
        f"{COMMAND}'a' of type 'SECRET' must not have a value set",
    ),
    "secret-null": (
        secret(type="VALUE", value={"data": "AA=="}),
        f"{COMMAND}'a' specifies a secret containing null bytes, which is not allowed in the"
        " environment",
    ),
    "secret-reference": (
        secret(type="REFERENCE"),
        f"{COMMAND}'a' specifies an invalid secret: Secret of type REFERENCE must have the"
        " 'reference' field set",
    ),
    "variable-unknown": (
        env(type="UNKNOWN", value="x"),
        "Environment variable of type 'UNKNOWN' is not allowed",
    ),
    "docker": (
        {"container": {"type": "DOCKER"}},
        "Task's `ContainerInfo` is invalid:"
        " DockerInfo 'docker' is not set for DOCKER typed ContainerInfo",
    ),
    "docker-name": (
        {
            "container": {
                "type": "DOCKER",
                "docker": {"image": "x", "parameters": [{"key": "name", "value": "x"}]},
            }
        },
        "Task's `ContainerInfo` is invalid: Parameter in DockerInfo must not be 'name'",
    ),
    "volume-two-sources": (
        volume(host_path="/h", image={"type": "DOCKER", "docker": {"name": "x"}}),
        f"{VOLUME}Only one of them should be set: 'host_path', 'image' and 'source'",
    ),
    "volume-no-source": (
        volume(),
        f"{VOLUME}Only one of them should be set: 'host_path', 'image' and 'source'",
    ),
    "volume-no-member": (
        volume(source={"type": "HOST_PATH"}),
        f"{VOLUME}'source.host_path' is not set for HOST_PATH volume",
    ),
    "volume-unknown": (volume(source={}), f"{VOLUME}'source.type' is unknown"),
    "share": (
        {"container": {"type": "MESOS", "linux_info": {"share_cgroups": False}}},
        "Only tasks in a task group may have 'share_cgroups' set to 'false'",
    ),
    "limit-of-disk": (
        {"limits": {"disk": {"value": 5}}},
        "Only cpus and mem may be included in a task's resource limits",
    ),
    "limit-below": (
        {"limits": {"cpus": {"value": 0.5}}},
        "The cpu limit must be greater than or equal to the cpu request",
    ),
    "limit-without-request": (
        {"resources": [scalar("cpus", 1)], "limits": {"mem": {"value": 100}}},
        "When a memory limit is specified, a memory request must also be specified",
    ),
    "no-command": (
        {"command": None},
        "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
    ),
    "both": (
        custom() | {"command": {"value": "x"}},
        "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
    ),
    "executor-default": (
        custom(type="DEFAULT", command=None),
        "'ExecutorInfo.type' must be 'CUSTOM'",
    ),
    "executor-without-command": (custom(command=None), "'ExecutorInfo.command' must be set"),
    "executor-custom-without": (
        custom(type="CUSTOM", command=None),
        "'ExecutorInfo.command' must be set for 'CUSTOM' executor",
    ),
    "executor-id": (custom(executor_id={"value": "a/b"}), "'a/b' contains invalid characters"),
    "executor-framework": (
        custom(framework_id={"value": "zz"}),
        "ExecutorInfo has an invalid FrameworkID (Actual: zz vs Expected: f)",
    ),
    "executor-grace": (
        custom(shutdown_grace_period={"nanoseconds": -1}),
        "ExecutorInfo's 'shutdown_grace_period' must be non-negative",
    ),
    "executor-environment": (
        custom(**env()),
        "Executor's `CommandInfo` is invalid: Environment variable 'a' of type 'VALUE' must",
    ),
    "executor-docker": (
        custom(container={"type": "DOCKER"}),
        "Executor's `ContainerInfo` is invalid: DockerInfo 'docker' is not set",
    ),
    "executor-revocable": (
        custom(resources=[scalar("cpus", 1, revocable={})]),
        "Task and its executor mix revocable and non-revocable resources: Cannot use both",
    ),
    "executor-too-large": (
        custom(resources=[scalar("cpus", 99)]),
        "Total resources cpus(allocated: web):100; mem(allocated: web):128 required by task and"
        " its executor is more than available cpus(allocated: web):2",
    ),
    "too-large": ({"resources": [scalar("cpus", 3)]}, "is more than available"),
    "set": (
        {"resources": [{"name": "bugs", "type": "SET", "set": {"item": ["a"]}}]},
        "Total resources bugs(allocated: web):{a} required by task",
    ),
    "port-not-offered": ({"resources": [ports(31009, 31010)]}, "is more than available"),
    "reserved-not-offered": (
        {"resources": [scalar("cpus", 1, role="web", reservation={})]},
        "Total resources cpus(allocated: web)(reservations: [(DYNAMIC,web)]):1 required",
    ),
}


@pytest.mark.parametrize(("more", "message"), BAD.values(), ids=BAD.keys())
def test_first_broken_rule_gives_the_message(more: Json, message: str) -> None:
    assert message in (problem_of(more) or "")


GOOD: dict[str, Json] = {
    "plain": {},
    "command-check": {"health_check": {"command": {"value": "true"}}},
    "http-check": {"health_check": {"type": "HTTP", "http": {"port": 80, "path": "/"}}},
    "check": {"check": {"type": "TCP", "tcp": {"port": 80}}},
    "ports": {"resources": [scalar("cpus", 2), ports(31000, 31001)]},
    "own-role": {"resources": [scalar("cpus", 1, role="*", allocation_info={"role": "web"})]},
    "nothing-of-it": {"resources": [scalar("cpus", 0)]},
    "limit": {"limits": {"cpus": {"value": 2}, "mem": {"value": "Infinity"}}},
    "secret": secret(type="VALUE", value={"data": "YQ=="}),
    "network": {"container": {"type": "MESOS", "network_infos": [{"name": "nosuch"}]}},
    "sandbox-path": volume(
        source={"type": "SANDBOX_PATH", "sandbox_path": {"type": "SELF", "path": "x"}}
    ),
    "custom-executor": custom(resources=[scalar("cpus", 0.1)]),
    "executor-of-little": custom(),
}


@pytest.mark.parametrize("more", GOOD.values(), ids=GOOD.keys())
def test_task_within_the_rules_has_no_problem(more: Json) -> None:
    assert problem_of(more) is None


def executor(**more: object) -> ExecutorInfo:
    json: Json = {
        "type": "DEFAULT",
        "executor_id": {"value": "e"},
        "resources": [scalar("cpus", 0.1), scalar("mem", 32), scalar("disk", 10)],
    }
    return from_json(ExecutorInfo, json | more)


def group(given: ExecutorInfo, *tasks: TaskInfo, bench: Bench = BENCH) -> str | None:
    whole = prepared_executor(given, "f", "web")
    assert whole is not None
    own = [prepared(item, prepared_executor(item.executor, "f", "web"), "web") for item in tasks]
    return group_problem(whole, own, bench)


NET = {"container": {"type": "MESOS", "network_infos": [{"name": "x"}]}}
SPLIT = {"container": {"type": "MESOS", "linux_info": {"share_cgroups": False}}}
SMALL: Json = {"resources": [scalar("cpus", 0.1), scalar("mem", 32)]}
BAD_GROUPS: dict[str, tuple[Json, list[Json], str]] = {
    "no-type": ({"type": None}, [SMALL], "'ExecutorInfo.type' must be set"),
    "unknown-type": ({"type": "UNKNOWN"}, [SMALL], "Unknown executor type"),
    "default-with-command": (
        {"command": {"value": "x"}},
        [SMALL],
        "'ExecutorInfo.command' must not be set for 'DEFAULT' executor",
    ),
    "custom-without-command": (
        {"type": "CUSTOM"},
        [SMALL],
        "'ExecutorInfo.command' must be set for 'CUSTOM' executor",
    ),
    "default-in-docker": (
        {"container": {"type": "DOCKER", "docker": {"image": "x"}}},
        [SMALL],
        "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor",
    ),
    "default-in-image": (
        {
            "container": {
                "type": "MESOS",
                "mesos": {"image": {"type": "DOCKER", "docker": {"name": "x"}}},
            }
        },
        [SMALL],
        "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor",
    ),
    "custom-in-docker": (
        {
            "type": "CUSTOM",
            "command": {"value": "x"},
            "container": {"type": "DOCKER", "docker": {"image": "x"}},
        },
        [SMALL],
        "Docker ContainerInfo is not supported on the executor",
    ),
    "no-cpus": (
        {"resources": [scalar("mem", 32), scalar("disk", 10)]},
        [SMALL],
        "Executor 'e' uses less CPUs (None) than the minimum required (0.01)",
    ),
    "little-memory": (
        {"resources": [scalar("cpus", 0.1), scalar("mem", 1), scalar("disk", 10)]},
        [SMALL],
        "Executor 'e' uses less memory (1MB) than the minimum required (32MB)",
    ),
    "no-disk": (
        {"resources": [scalar("cpus", 0.1), scalar("mem", 32)]},
        [SMALL],
        "Executor 'e' uses no disk",
    ),
    "other-executor": (
        {},
        [SMALL | {"executor": {"executor_id": {"value": "other"}}}],
        "The `ExecutorInfo` of task 't0' is different from executor 'e'",
    ),
    "docker-task": (
        {},
        [SMALL | {"container": {"type": "DOCKER", "docker": {"image": "x"}}}],
        "Task 't0' is invalid: Docker ContainerInfo is not supported on the task",
    ),
    "own-network-with-check": (
        {},
        [SMALL | NET | {"health_check": {"type": "HTTP", "http": {"port": 1}}}],
        "Task 't0' is invalid: HTTP and TCP health checks are not supported for nested containers"
        " not joining parent's network",
    ),
    "limit-of-shared": (
        {},
        [SMALL | {"limits": {"cpus": {"value": 3}}}],
        "Task 't0' is invalid: Resource limits may only be set for tasks within a task group when"
        " the 'share_cgroups' field is set to 'false'.",
    ),
    "share-differs": ({}, [SMALL | SPLIT, SMALL], "If set, the value of 'share_cgroups' must be"),
    "too-large": (
        {},
        [{}, {"resources": [scalar("cpus", 1.5)]}],
        "Total resources cpus(allocated: web):2.6; mem(allocated: web):160;"
        " disk(allocated: web):10 required by task group and its executor are more than",
    ),
    "one-bad-task": (
        {},
        [SMALL, {"resources": []}],
        "Task 't1' is invalid: Task uses no resources",
    ),
    "other-agent": (
        {},
        [{"agent_id": {"value": "x"}}],
        "Task 't0' is invalid: Task uses invalid agent x while agent a1 is expected",
    ),
    "same-id": (
        {},
        [SMALL | {"task_id": {"value": "s"}}, SMALL | {"task_id": {"value": "s"}}],
        "Task has duplicate ID: s",
    ),
    "revocable-mix": (
        {},
        [{"resources": [scalar("cpus", 1, revocable={})]}],
        "Task group and executor mix revocable and non-revocable resources: Cannot use both",
    ),
    "other-framework": (
        {"framework_id": {"value": "x"}},
        [SMALL],
        "ExecutorInfo has an invalid FrameworkID (Actual: x vs Expected: f)",
    ),
}


@pytest.mark.parametrize(("more", "tasks", "message"), BAD_GROUPS.values(), ids=BAD_GROUPS.keys())
def test_first_broken_rule_of_a_group_gives_the_message(
    more: Json, tasks: list[Json], message: str
) -> None:
    members = [task(f"t{number}", item) for number, item in enumerate(tasks)]

    assert message in (group(executor(**more), *members) or "")


def test_group_within_the_rules_has_no_problem() -> None:
    split = task("t1", SMALL | SPLIT | {"limits": {"cpus": {"value": 1}}})

    assert group(executor(), task("t1", SMALL), task("t2", SMALL)) is None
    assert group(executor(), split) is None
    assert group(executor(), task("t1", SMALL | NET | {"check": CHECKED})) is None


CHECKED = {"type": "TCP", "tcp": {"port": 1}}


def test_running_executor_needs_nothing_and_must_be_the_same() -> None:
    small = executor(resources=[scalar("cpus", 0.1)])
    running = prepared_executor(small, "f", "web")
    assert running is not None
    bench = replace(BENCH, executors={("f", "e"): running}, groups={("f", "e"): True})

    assert group(small, task("t1", SMALL), bench=bench) is None
    other = group(executor(), task("t1", SMALL), bench=bench) or ""
    assert other.startswith("ExecutorInfo is not compatible with existing ExecutorInfo")
    split = group(small, task("t1", SMALL | SPLIT), bench=bench) or ""
    assert split.startswith("If set, the value of 'share_cgroups' must be the same")


OFFERS = {
    "o1": Outstanding("o1", "f", "a1", "*", AVAILABLE),
    "o2": Outstanding("o2", "f", "a2", "*", AVAILABLE),
    "o3": Outstanding("o3", "f", "a1", "web", AVAILABLE),
    "o4": Outstanding("o4", "other", "a1", "*", AVAILABLE),
    "o5": Outstanding("o5", "f", "a1", "*", AVAILABLE),
}


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ([], "No offers"),
        (["o1", "o1"], "Duplicate offer o1 in offer list"),
        (["gone"], "Offer gone is no longer valid"),
        (["o4"], "Offer o4 is no longer valid"),
        (["o1", "o2"], "one single agent"),
        (["o1", "o3"], "same role"),
    ],
    ids=["none", "twice", "gone", "foreign", "agents", "roles"],
)
def test_offers_that_cannot_be_used_together_have_a_problem(ids: list[str], problem: str) -> None:
    found = offers_problem([OfferID(value=id) for id in ids], OFFERS, "f")

    assert problem in (found or "")


def test_offers_of_one_agent_and_role_can_be_used_together() -> None:
    ids = [OfferID(value="o1"), OfferID(value="o5")]

    assert offers_problem(ids, OFFERS, "f") is None
