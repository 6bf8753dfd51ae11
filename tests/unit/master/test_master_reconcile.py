"""Answers to RECONCILE."""

import pytest

from phalanx.master.scheduler.reconcile import Known, explicit_answers, implicit_answers
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import FrameworkInfo, Task
from phalanx.mesos.v1.scheduler import ReconcileTask

AWARE = from_json(
    FrameworkInfo, {"user": "", "name": "", "capabilities": [{"type": "PARTITION_AWARE"}]}
)
PLAIN = from_json(FrameworkInfo, {"user": "", "name": ""})


def task(id: str, state: str, **more: object) -> Task:
    ids = {"task_id": {"value": id}, "framework_id": {"value": "f"}, "agent_id": {"value": "here"}}
    return from_json(Task, {"name": id, "state": state, **ids, **more})


STATUS = {
    "task_id": {"value": "live"},
    "state": "TASK_RUNNING",
    "healthy": True,
    "container_status": {"network_infos": [{"name": "dcos"}]},
    "uuid": "AAAAAAAAAAAAAAAAAAAAAA==",
}
KNOWN = Known(
    {
        "live": task(
            "live", "TASK_FINISHED", status_update_state="TASK_RUNNING", statuses=[STATUS]
        ),
        "new": task("new", "TASK_STAGING"),
    },
    {"away": task("away", "TASK_UNREACHABLE", agent_id={"value": "silent"})},
    frozenset({"here"}),
    {"silent": 7.0},
    frozenset({"awaited"}),
    frozenset({"gone"}),
)


def asked(task_id: str, agent_id: str | None = None) -> ReconcileTask:
    json: dict[str, object] = {"task_id": {"value": task_id}}
    return from_json(
        ReconcileTask, json if agent_id is None else json | {"agent_id": {"value": agent_id}}
    )


@pytest.mark.parametrize(
    ("item", "aware", "plain"),
    [
        (asked("live"), "TASK_RUNNING", "TASK_RUNNING"),
        (asked("new", "here"), "TASK_STAGING", "TASK_STAGING"),
        (asked("nosuch", "here"), "TASK_GONE", "TASK_LOST"),
        (asked("nosuch", "silent"), "TASK_UNREACHABLE", "TASK_LOST"),
        (asked("away"), "TASK_UNREACHABLE", "TASK_LOST"),
        (asked("nosuch", "gone"), "TASK_GONE_BY_OPERATOR", "TASK_LOST"),
        (asked("nosuch", "stranger"), "TASK_UNKNOWN", "TASK_LOST"),
        (asked("nosuch", "awaited"), None, None),
        (asked("nosuch"), None, None),
    ],
    ids=["live", "staging", "lost", "silent", "away", "gone", "stranger", "awaited", "anywhere"],
)
def test_explicit_answer(item: ReconcileTask, aware: str | None, plain: str | None) -> None:
    for info, state in ((AWARE, aware), (PLAIN, plain)):
        answers = explicit_answers([item], KNOWN, info, 1.0)

        assert [answer.state for answer in answers] == ([] if state is None else [state])
        for answer in answers:
            assert answer.uuid is None
            assert answer.source == "SOURCE_MASTER"
            assert answer.reason == "REASON_RECONCILIATION"


def test_unreachable_answer_says_since_when() -> None:
    [answer] = explicit_answers([asked("away")], KNOWN, AWARE, 9.0)

    assert answer.unreachable_time is not None
    assert answer.unreachable_time.nanoseconds == 7_000_000_000


def test_answer_carries_health_and_container_of_the_newest_status() -> None:
    [answer] = explicit_answers([asked("live")], KNOWN, PLAIN, 1.0)

    assert answer.healthy is True
    assert answer.container_status is not None
    assert answer.container_status.network_infos[0].name == "dcos"


def test_implicit_answers_are_of_every_active_task_and_no_other() -> None:
    answers = implicit_answers(KNOWN, 1.0)

    assert {answer.task_id.value: answer.state for answer in answers} == {
        "live": "TASK_RUNNING",
        "new": "TASK_STAGING",
    }


def test_task_unknown_anywhere_is_unknown_once_all_agents_are_back() -> None:
    settled = Known({}, {}, frozenset({"here"}), {}, frozenset())

    [answer] = explicit_answers([asked("nosuch")], settled, AWARE, 1.0)

    assert answer.state == "TASK_UNKNOWN"
