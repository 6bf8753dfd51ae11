"""Verdicts, kill order, status updates, backoff, plans: every decision as a table."""

from typing import Any

import msgspec
import pytest

from phalanx.core.error import InvalidError
from phalanx.marathon.api.answer import BadRequestError
from phalanx.marathon.api.selector import parse_selector
from phalanx.marathon.definition.parse import parse_app
from phalanx.marathon.model.app import App
from phalanx.marathon.model.group import Root
from phalanx.marathon.model.instance import Condition, Instance, Launched
from phalanx.marathon.model.moment import moment, next_version, seconds_of
from phalanx.marathon.schedule.backoff import after_failure, after_launch, is_over
from phalanx.marathon.schedule.planning import changes, stamped, steps
from phalanx.marathon.schedule.status import after_update
from phalanx.marathon.schedule.verdict import restarting, steady, stopping
from phalanx.marathon.schedule.victim import victims
from phalanx.mesos.v1.mesos import TaskID, TaskState, TaskStatus

OLD, NEW = "2020-01-01T00:00:00.000Z", "2021-01-01T00:00:00.000Z"


def app_of(**more: Any) -> App:
    """Return an app of version NEW."""
    app = parse_app({"id": "/web", "cmd": "x", **more})
    return stamped(None, app, NEW)


def instance(number: int, version: str = NEW, **more: Any) -> Instance:
    """Return a running instance that started at second *number*."""
    launched = Launched(
        agent_id="a",
        hostname="h",
        agent_ip="198.18.0.1",
        staged_at=number,
        started_at=number,
        attributes={"rack": more.pop("rack", "r")},
    )
    fields: dict[str, Any] = {"condition": Condition.RUNNING, "launched": launched, **more}
    if fields["condition"] is Condition.SCHEDULED:
        fields["launched"] = None
    return Instance(id=f"i{number}", app_id="/web", version=version, since=number, **fields)


def ids(instances: tuple[Instance, ...]) -> list[str]:
    """Return the ids of *instances*."""
    return [found.id for found in instances]


@pytest.mark.parametrize(
    ("wanted", "present", "add", "end", "done"),
    [
        pytest.param(2, [], 2, [], False, id="none"),
        pytest.param(2, [instance(1), instance(2)], 0, [], True, id="enough"),
        pytest.param(1, [instance(1), instance(2)], 0, ["i2"], False, id="too-many"),
        pytest.param(1, [instance(1), instance(2, is_wanted=False)], 0, [], False, id="one-dying"),
        pytest.param(1, [instance(1, condition=Condition.SCHEDULED)], 0, [], False, id="waiting"),
        pytest.param(0, [], 0, [], True, id="nothing"),
    ],
)
def test_steady(wanted: int, present: list[Instance], add: int, end: list[str], done: bool) -> None:
    healthy = {i.id for i in present if i.condition is Condition.RUNNING}

    verdict = steady(app_of(instances=wanted), present, healthy, now=100)

    assert (verdict.add, ids(verdict.end), verdict.done) == (add, end, done)


def test_steady_is_not_done_while_one_is_unhealthy() -> None:
    assert not steady(app_of(instances=2), [instance(1), instance(2)], {"i1"}, now=100).done


@pytest.mark.parametrize(
    ("strategy", "now", "add"),
    [
        ({"inactiveAfterSeconds": 30, "expungeAfterSeconds": 60}, 29, 0),
        ({"inactiveAfterSeconds": 30, "expungeAfterSeconds": 60}, 31, 1),
        ("disabled", 1e9, 0),
    ],
)
def test_unreachable_instance_is_replaced_when_inactive(
    strategy: object, now: float, add: int
) -> None:
    lost = instance(1, condition=Condition.UNREACHABLE)

    assert steady(app_of(unreachableStrategy=strategy), [lost], set(), now=1 + now).add == add


def test_stopping_ends_all_and_is_done_when_none_is_left() -> None:
    assert ids(stopping([instance(1), instance(2, is_wanted=False)]).end) == ["i1"]
    assert stopping([]).done


def old(*numbers: int, **more: Any) -> list[Instance]:
    """Return instances of the old configuration."""
    return [instance(number, OLD, **more) for number in numbers]


def new(*numbers: int, **more: Any) -> list[Instance]:
    """Return instances of the new configuration."""
    return [instance(number, NEW, **more) for number in numbers]


STAGING = {"condition": Condition.STAGING}


@pytest.mark.parametrize(
    ("m", "o", "present", "sick", "add", "end", "done"),
    [
        pytest.param(1, 1, old(1, 2, 3), [], 3, 0, False, id="default-begins"),
        pytest.param(1, 1, old(1, 2, 3) + new(4, 5, 6), [4, 5, 6], 0, 0, False, id="new-staging"),
        pytest.param(1, 1, old(1, 2, 3) + new(4, 5, 6), [5, 6], 0, 1, False, id="one-for-one"),
        pytest.param(1, 1, new(4, 5, 6), [], 0, 0, True, id="done"),
        pytest.param(1, 1, new(4, 5, 6), [6], 0, 0, False, id="not-all-healthy"),
        pytest.param(0, 0, old(1, 2, 3), [], 0, 3, False, id="kill-all-first"),
        pytest.param(0, 0, old(1, 2, 3, is_wanted=False), [], 0, 0, False, id="wait-for-the-dying"),
        pytest.param(0, 0, [], [], 3, 0, False, id="then-start-all"),
        pytest.param(0.5, 0, old(1, 2, 3), [], 0, 1, False, id="half"),
        pytest.param(1, 0, old(1, 2, 3), [], 1, 0, False, id="borrow-one"),
        pytest.param(1, 0, old(1, 2, 3) + new(4), [4], 0, 0, False, id="borrowed-one-staging"),
        pytest.param(1, 0, old(1, 2, 3) + new(4), [], 0, 1, False, id="borrowed-one-healthy"),
        pytest.param(1, 0, old(1, 2, 3), [1, 2, 3], 0, 1, False, id="sick-old-make-room"),
        pytest.param(1, 1, old(1, 2, 3, 4, 5), [], 1, 2, False, id="surplus-old-go"),
        pytest.param(
            1, 1, old(1, 2) + old(3, condition=Condition.SCHEDULED), [3], 3, 1, False,
            id="waiting-old-is-dropped",
        ),
    ],
)  # fmt: skip
def test_restarting(
    m: float, o: float, present: list[Instance], sick: list[int], add: int, end: int, done: bool
) -> None:
    strategy = {"minimumHealthCapacity": m, "maximumOverCapacity": o}
    app = app_of(instances=3, upgradeStrategy=strategy)
    healthy = {i.id for i in present} - {f"i{number}" for number in sick}

    verdict = restarting(app, present, healthy, now=100)

    assert (verdict.add, len(verdict.end), verdict.done) == (add, end, done)
    assert all(ended.version == OLD for ended in verdict.end)


@pytest.mark.parametrize("m", [0, 0.3, 0.5, 1])
@pytest.mark.parametrize("o", [0, 0.3, 1])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("before", [0, 1, 4, 9])
def test_restarting_always_ends_and_keeps_its_bounds(
    m: float, o: float, n: int, before: int
) -> None:
    strategy = {"minimumHealthCapacity": m, "maximumOverCapacity": o}
    app = app_of(instances=n, upgradeStrategy=strategy)
    present = old(*range(before))
    number = before
    for _ in range(200):
        healthy = {i.id for i in present if i.is_wanted}
        verdict = restarting(app, present, healthy, now=0)
        if verdict.done:
            break
        ended = set(ids(verdict.end))
        lowest = min(len(healthy), -(-n * m // 1))
        assert len(healthy - ended) >= lowest - 1e-9
        assert len(present) + verdict.add <= max(before, n * (1 + o), n + 1)
        # What was ended a step ago is gone; what is added is healthy in the next step.
        present = [
            msgspec.structs.replace(i, is_wanted=i.id not in ended) for i in present if i.is_wanted
        ]
        present += new(*range(number, number + verdict.add))
        number += verdict.add

    assert verdict.done
    assert [i.version for i in present] == [NEW] * n


def test_restarting_to_zero_instances_ends_all() -> None:
    verdict = restarting(app_of(instances=0), old(1, 2), {"i1", "i2"}, now=0)

    assert len(verdict.end) == 2
    assert restarting(app_of(instances=0), [], set(), now=0).done


@pytest.mark.parametrize(
    ("selection", "present", "count", "expected"),
    [
        ("YOUNGEST_FIRST", new(1, 2, 3), 2, ["i3", "i2"]),
        ("OLDEST_FIRST", new(1, 2, 3), 2, ["i1", "i2"]),
        ("YOUNGEST_FIRST", new(3) + new(1, **STAGING), 1, ["i1"]),
        ("YOUNGEST_FIRST", new(3, **STAGING) + new(1, condition=Condition.UNREACHABLE), 1, ["i1"]),
        ("YOUNGEST_FIRST", new(3) + new(1, condition=Condition.SCHEDULED), 1, ["i1"]),
    ],
)
def test_victims_come_in_order(
    selection: str, present: list[Instance], count: int, expected: list[str]
) -> None:
    assert ids(victims(app_of(killSelection=selection), present, count)) == expected


def test_victims_come_from_the_largest_group() -> None:
    app = app_of(constraints=[["rack", "GROUP_BY"]])
    present = [*new(1, 2, 3, 4, rack="a"), *new(5, rack="b")]

    assert ids(victims(app, present, 3)) == ["i4", "i3", "i5"]


def status(state: str, **more: Any) -> TaskStatus:
    """Return a status of the task of instance 1."""
    return TaskStatus(task_id=TaskID(value="i1._app.1"), state=TaskState(state), **more)


@pytest.mark.parametrize(
    ("state", "more", "expected"),
    [
        ("TASK_STARTING", {}, Condition.STARTING),
        ("TASK_RUNNING", {}, Condition.RUNNING),
        ("TASK_KILLING", {}, Condition.KILLING),
        ("TASK_FAILED", {}, Condition.SCHEDULED),
        ("TASK_FINISHED", {}, Condition.SCHEDULED),
        ("TASK_GONE", {}, Condition.SCHEDULED),
        ("TASK_UNKNOWN", {}, Condition.SCHEDULED),
        ("TASK_UNREACHABLE", {}, Condition.SCHEDULED),
        ("TASK_LOST", {"reason": "REASON_INVALID_OFFERS"}, Condition.SCHEDULED),
    ],
)
def test_update_moves_the_instance(state: str, more: dict[str, Any], expected: Condition) -> None:
    outcome = after_update(app_of(), instance(1), status(state, **more), now=50)

    assert outcome.instance is not None
    assert outcome.instance.condition is expected
    assert outcome.instance.incarnation == (2 if expected is Condition.SCHEDULED else 1)
    assert outcome.ended == (expected is Condition.SCHEDULED)


@pytest.mark.parametrize(
    "lost",
    [status("TASK_UNREACHABLE"), status("TASK_LOST", reason="REASON_AGENT_REMOVED")],
    ids=["unreachable", "lost"],
)
def test_unreachable_task_is_kept_as_long_as_the_app_says(lost: TaskStatus) -> None:
    app = app_of(unreachableStrategy={"inactiveAfterSeconds": 1, "expungeAfterSeconds": 9})

    kept = after_update(app, instance(1), lost, now=50).instance
    unwanted = after_update(app, instance(1, is_wanted=False), lost, now=50).instance

    assert kept is not None
    assert (kept.condition, kept.since, kept.incarnation) == (Condition.UNREACHABLE, 50, 1)
    assert unwanted is None


def test_instance_that_is_not_wanted_is_gone_with_its_task() -> None:
    killed = status("TASK_KILLED")

    assert after_update(app_of(), instance(1, is_wanted=False), killed, now=5).instance is None


def test_delays_grow_by_the_factor_up_to_the_limit() -> None:
    app = app_of(backoffSeconds=1, backoffFactor=3, maxLaunchDelaySeconds=5)

    first = after_failure(app, None, now=10)
    second = after_failure(app, first, now=20)
    third = after_failure(app, second, now=30)

    assert [b.delay_seconds for b in (first, second, third)] == [1, 3, 5]
    assert [b.until for b in (first, second, third)] == [11, 23, 35]
    assert after_launch(third, now=40).until == 45


def test_delay_ends_with_quiet_or_another_configuration() -> None:
    app = app_of(maxLaunchDelaySeconds=5)
    failed = after_failure(app, None, now=10)
    changed = stamped(app, app_of(cmd="y"), "2022-01-01T00:00:00.000Z")

    assert not is_over(app, failed, now=14)
    assert is_over(app, failed, now=15)
    assert is_over(changed, failed, now=10)
    assert after_failure(changed, failed, now=10).delay_seconds == 1


def test_stamp_tells_scaling_from_change() -> None:
    first = app_of()
    later = "2022-01-01T00:00:00.000Z"

    scaled = stamped(first, app_of(instances=2), later)
    changed = stamped(first, app_of(cmd="y"), later)
    restarted = stamped(first, first, later, restart=True)

    assert stamped(first, app_of(), later) == first
    assert (scaled.version, scaled.config_version) == (later, NEW)
    assert (changed.version, changed.config_version) == (later, later)
    assert restarted.config_version == later


def plan(before: dict[str, App], after: dict[str, App]) -> list[list[str]]:
    """Return the actions of each step as words."""
    found = steps(changes(before, after), Root(after))
    return [[f"{action.kind.value} {action.app_id}" for action in step] for step in found]


def test_steps_stop_first_and_follow_dependencies() -> None:
    gone = app_of(id="/gone")
    kept = app_of(id="/db")
    web = app_of(id="/web", dependencies=["/db", "/queue"])
    queue = app_of(id="/queue/main")
    scaled = stamped(kept, msgspec.structs.replace(kept, instances=3), "2022")

    found = plan({"/gone": gone, "/db": kept}, {"/db": scaled, "/web": web, "/queue/main": queue})

    assert found == [
        ["StopApplication /gone"],
        ["StartApplication /queue/main", "StartApplication /web"],
        ["ScaleApplication /db", "ScaleApplication /queue/main"],
        ["ScaleApplication /web"],
    ]


def test_changed_configuration_restarts() -> None:
    first = app_of()
    changed = stamped(first, app_of(cmd="y"), "2022")

    assert plan({"/web": first}, {"/web": changed}) == [["RestartApplication /web"]]
    assert plan({"/web": first}, {"/web": first}) == []


@pytest.mark.parametrize("below", [["/b"], ["/a"]], ids=["circle", "self"])
def test_circular_dependencies_are_refused(below: list[str]) -> None:
    apps = {
        "/a": app_of(id="/a", dependencies=below),
        "/b": app_of(id="/b", dependencies=["/a"]),
    }

    with pytest.raises(InvalidError, match="cyclic dependencies"):
        steps(changes({}, apps), Root(apps))


def test_versions_sort_and_never_repeat() -> None:
    first = moment(1.6e9)

    assert first == "2020-09-13T12:26:40.000Z"
    assert next_version(1.6e9, first) == "2020-09-13T12:26:40.001Z"
    assert next_version(1.6e9 + 5, first) == "2020-09-13T12:26:45.000Z"
    assert seconds_of(first) == 1.6e9


LABELS = {"tier": "front", "odd": "a,b"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("tier", True),
        ("none", False),
        ("tier==front", True),
        ("tier == back", False),
        ("tier!=back, odd", True),
        ("tier!=front", False),
        ("tier in (front, back)", True),
        ("tier notin (front)", False),  # codespell:ignore notin
        (r"odd==a\,b", True),
    ],
)
def test_selector(selector: str, expected: bool) -> None:
    assert parse_selector(selector)(LABELS) is expected


@pytest.mark.parametrize("text", ["((", "a=b", "a in b", "==x", "a b", ",,"])
def test_bad_selector_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError):
        parse_selector(text)
