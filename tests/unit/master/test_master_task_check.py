"""Validation of tasks, and what an ACCEPT comes to."""

import pytest

from phalanx.master.cluster.offer import Outstanding
from phalanx.master.scheduler.accept import dropped, offers_problem, outcome
from phalanx.master.scheduler.task_check import Bench, task_problem
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import (
    ExecutorID,
    ExecutorInfo,
    FrameworkInfo,
    Launch,
    LaunchGroup,
    OfferID,
    Operation,
    TaskGroupInfo,
    TaskInfo,
)

Json = dict[str, object]
AVAILABLE = Resources.parse("cpus:2;mem:512;ports:[31000-31009]")
BENCH = Bench("a1", "*", AVAILABLE, {"live"}, {"away"})


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


def ports(begin: int, end: int) -> Json:
    return {
        "name": "ports",
        "type": "RANGES",
        "ranges": {"range": [{"begin": begin, "end": end}]},
    }


BAD: dict[str, tuple[Json, str]] = {
    "id-syntax": ({"task_id": {"value": "a/b"}}, "is invalid"),
    "duplicate": ({"task_id": {"value": "live"}}, "Task has duplicate ID: live"),
    "unreachable": ({"task_id": {"value": "away"}}, "reuses the ID of an unreachable task: away"),
    "other-agent": ({"agent_id": {"value": "a2"}}, "invalid agent a2"),
    "amount-too-great": ({"resources": [scalar("cpus", 1e308)]}, "1e+308 is no amount"),
    "range-turned-round": (
        {"resources": [scalar("cpus", 1), ports(31005, 31003)]},
        "31005-31003 ends before it begins",
    ),
    "grace": ({"kill_policy": {"grace_period": {"nanoseconds": -1}}}, "grace_period"),
    "completion": ({"max_completion_time": {"nanoseconds": -1}}, "max_completion_time"),
    "check-without-type": ({"health_check": {}}, "'type' must be"),
    "check-without-member": ({"health_check": {"type": "HTTP"}}, "Expecting 'http'"),
    "check-without-command": (
        {"health_check": {"type": "COMMAND", "command": {}}},
        "must contain a command",
    ),
    "check-scheme": (
        {"health_check": {"http": {"port": 1, "scheme": "ftp"}}},
        "Unsupported HTTP health check scheme",
    ),
    "check-path": ({"health_check": {"http": {"port": 1, "path": "x"}}}, "must start with '/'"),
    "check-interval": (
        {"health_check": {"tcp": {"port": 1}, "interval_seconds": -1}},
        "interval_seconds",
    ),
    "no-resources": ({"resources": []}, "Task uses no resources"),
    "zero-resources": ({"resources": [scalar("cpus", 0)]}, "Task uses no resources"),
    "negative": ({"resources": [scalar("cpus", -1)]}, "no valid amount"),
    "infinite": ({"resources": [scalar("cpus", "Infinity")]}, "no valid amount"),
    "half-a-gpu": ({"resources": [scalar("gpus", 0.5)]}, "unsigned integer"),
    "set": (
        {"resources": [{"name": "bugs", "type": "SET", "set": {"item": ["a"]}}]},
        "more than available",
    ),
    "other-role": (
        {"resources": [scalar("cpus", 1, allocation_info={"role": "other"})]},
        "allocated to role 'other'",
    ),
    "reserved": ({"resources": [scalar("cpus", 1, role="ops")]}, "is reserved"),
    "secret": (
        {
            "command": {
                "value": "x",
                "environment": {"variables": [{"name": "a", "type": "SECRET"}]},
            }
        },
        "SECRET",
    ),
    "variable": (
        {"command": {"value": "x", "environment": {"variables": [{"name": "a"}]}}},
        "must have a value",
    ),
    "docker": ({"container": {"type": "DOCKER"}}, "'docker' is not set"),
    "limit-below": ({"limits": {"cpus": {"value": 0.5}}}, "below its request"),
    "limit-of-disk": ({"limits": {"disk": {"value": 1}}}, "only cpus and mem"),
    "limit-infinite": ({"limits": {"cpus": {"value": "Infinity"}}}, "infinite"),
    "no-command": ({"command": None}, "but not both"),
    "executor": (
        {"command": None, "executor": {"executor_id": {"value": "e"}}},
        "not supported in this build",
    ),
    "too-large": ({"resources": [scalar("cpus", 3)]}, "is more than available"),
    "port-not-offered": ({"resources": [ports(31009, 31010)]}, "is more than available"),
}


@pytest.mark.parametrize(("more", "message"), BAD.values(), ids=BAD.keys())
def test_first_broken_rule_gives_the_message(more: Json, message: str) -> None:
    assert message in (task_problem(task(more=more), BENCH) or "")


GOOD: dict[str, Json] = {
    "plain": {},
    "command-check": {"health_check": {"command": {"value": "true"}}},
    "http-check": {"health_check": {"type": "HTTP", "http": {"port": 80, "path": "/"}}},
    "ports": {"resources": [scalar("cpus", 2), ports(31000, 31001)]},
    "own-role": {"resources": [scalar("cpus", 1, role="*", allocation_info={"role": "*"})]},
    "limit": {"limits": {"cpus": {"value": 2}}},
    "network": {"container": {"type": "MESOS", "network_infos": [{"name": "nosuch"}]}},
}


@pytest.mark.parametrize("more", GOOD.values(), ids=GOOD.keys())
def test_task_within_the_rules_has_no_problem(more: Json) -> None:
    assert task_problem(task(more=more), BENCH) is None


def launch(*tasks: TaskInfo) -> Operation:
    return Operation(type="LAUNCH", launch=Launch(task_infos=tasks))


def accepted(*operations: Operation) -> tuple[list[str], list[tuple[str, str]], Resources]:
    result = outcome(
        operations,
        AVAILABLE,
        agent_id="a1",
        role="web",
        taken_ids={"live"},
        unreachable_ids=(),
        wall=1.0,
    )
    refused = [(status.task_id.value, status.reason or "") for status in result.refusals]
    return [item.task_id.value for item in result.launches], refused, result.unused


def test_a_bad_task_does_not_hold_up_the_others() -> None:
    launched, refused, unused = accepted(launch(task("t1"), task("live"), task("t2")))

    assert launched == ["t1", "t2"]
    assert refused == [("live", "REASON_TASK_INVALID")]
    assert unused == Resources.parse("mem:256;ports:[31000-31009]")


def test_tasks_share_what_the_offer_has() -> None:
    launched, refused, _ = accepted(launch(task("t1"), task("t2")), launch(task("t3")))

    assert launched == ["t1", "t2"]
    assert refused == [("t3", "REASON_TASK_INVALID")]


def test_one_id_is_launched_once() -> None:
    launched, refused, _ = accepted(launch(task("t1"), task("t1")))

    assert launched == ["t1"]
    assert refused == [("t1", "REASON_TASK_INVALID")]


def test_role_of_the_offer_is_filled_in() -> None:
    result = outcome(
        [launch(task())],
        AVAILABLE,
        agent_id="a1",
        role="web",
        taken_ids=(),
        unreachable_ids=(),
        wall=1.0,
    )

    roles = {
        item.allocation_info.role for item in result.launches[0].resources if item.allocation_info
    }
    assert roles == {"web"}


def test_task_groups_are_refused_as_a_whole() -> None:
    executor = ExecutorInfo(executor_id=ExecutorID(value="e"))
    tasks = TaskGroupInfo(tasks=(task("t1"), task("t2")))
    group = Operation(
        type="LAUNCH_GROUP", launch_group=LaunchGroup(executor=executor, task_group=tasks)
    )

    launched, refused, unused = accepted(group)

    assert launched == []
    assert refused == [
        ("t1", "REASON_TASK_GROUP_INVALID"),
        ("t2", "REASON_TASK_GROUP_INVALID"),
    ]
    assert unused == AVAILABLE


@pytest.mark.parametrize(
    ("capabilities", "state"), [([], "TASK_LOST"), (["PARTITION_AWARE"], "TASK_DROPPED")]
)
def test_invalid_offers_drop_every_task(capabilities: list[str], state: str) -> None:
    info = from_json(
        FrameworkInfo,
        {"user": "", "name": "", "capabilities": [{"type": name} for name in capabilities]},
    )

    [status] = dropped(
        [launch(task())],
        info,
        problem="Offer o is no longer valid",
        reason="REASON_INVALID_OFFERS",
        wall=1.0,
    )

    assert status.state == state
    assert status.source == "SOURCE_MASTER"
    assert status.uuid is None
    assert status.message == "Task launched with invalid offers: Offer o is no longer valid"


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
        (["o1", "o1"], "Duplicate"),
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
