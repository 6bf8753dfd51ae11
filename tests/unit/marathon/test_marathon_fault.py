"""Updates that come twice, offers that are gone, tasks that all end at once or never begin."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.unit.marathon.test_marathon_schedule import app_of, instance

from phalanx.marathon.engine.convergence import LAUNCH_SECONDS, doom_overdue
from phalanx.marathon.engine.orders import MAX_DEPLOYMENTS
from phalanx.marathon.model.instance import Reservation
from phalanx.marathon.schedule.backoff import is_drained
from phalanx.marathon.schedule.status import after_update
from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.scheduler import Event, Rescind, Update

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.marathon.conftest import FakeMaster, Marathon

APP: dict[str, Any] = {"id": "/job", "cmd": "x", "cpus": 0.1, "mem": 32, "portDefinitions": []}


async def deploy(marathon: Marathon, master: FakeMaster, **more: Any) -> list[mesos.TaskInfo]:
    """Create the app and let its tasks run; return them."""
    status, _ = await marathon.ask("POST", "/v2/apps", {**APP, **more})
    assert status == 201
    await master.next("REVIVE")
    await master.offer("a1")
    tasks = await master.tasks(more.get("instances", 1))
    for task in tasks:
        await master.update(task, "TASK_RUNNING")
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    return tasks


async def test_instances_that_end_all_at_once_wait_and_the_queue_says_why(
    marathon: Marathon, master: FakeMaster
) -> None:
    tasks = await deploy(marathon, master, instances=3, backoffSeconds=60)

    for task in tasks:
        await master.update(task, "TASK_FAILED", message="no such file")
    answer = await marathon.until(
        "/v2/queue", lambda answer: bool(answer["queue"]) and answer["queue"][0]["count"] == 3
    )

    delay = answer["queue"][0]["delay"]
    assert not delay["overdue"]
    assert delay["timeLeftSeconds"] > 0
    _, answer = await marathon.ask("GET", "/v2/apps/job?embed=app.lastTaskFailure")
    assert answer["app"]["lastTaskFailure"]["message"] == "no such file"
    status, _ = await marathon.ask("DELETE", "/v2/queue/%2Fjob/delay")
    assert status == 204
    await master.next("REVIVE", seen=1)
    await master.offer("a1")
    again = (await master.tasks(6))[3:]
    assert len({task.task_id.value for task in (*tasks, *again)}) == 6


def standing_before(moment: float, clock: Callable[[], float]) -> Callable[[], float]:
    """Return the clock, which stands still just before a moment."""
    return lambda: min(clock(), moment - 0.01)


async def test_instances_that_end_again_and_again_wait_longer_each_time(
    marathon: Marathon, master: FakeMaster
) -> None:
    count, board, clock = 20, marathon.board, marathon.board.clock
    backoff = {"backoffSeconds": 0.2, "backoffFactor": 1.02}
    tasks = await deploy(marathon, master, instances=count, **backoff)
    waits: list[float] = []

    for number in range(2, 6):
        revived, declined = len(master.of("REVIVE")), len(master.of("DECLINE"))
        for task in tasks:
            await master.update(task, "TASK_FAILED")
        await marathon.until(
            "/v2/queue", lambda answer: answer["queue"] and answer["queue"][0]["count"] == count
        )
        present = board.backoffs["/job"]
        board.clock = standing_before(present.until, clock)
        await master.offer("a1")
        await master.next("DECLINE", seen=declined)
        board.clock = clock
        await master.next("REVIVE", seen=revived)
        await master.offer("a1")
        tasks = (await master.tasks(number * count))[-count:]
        started = [i.launched.staged_at for i in board.ledger.instances() if i.launched]
        assert min(started) >= present.until
        waits.append(present.delay_seconds)

    assert waits == pytest.approx([0.2 * 1.02 ** (count * n - 1) for n in range(1, 5)])
    assert len(master.launched()) == 5 * count


async def test_an_update_that_comes_twice_counts_once_and_is_acknowledged_twice(
    marathon: Marathon, master: FakeMaster
) -> None:
    [task] = await deploy(marathon, master, backoffSeconds=0)
    status = mesos.TaskStatus(
        task_id=task.task_id,
        state=mesos.TaskState.TASK_FAILED,
        agent_id=task.agent_id,
        uuid=uuid.uuid4().bytes,
    )

    for _ in range(3):
        await master.send(Event(type="UPDATE", update=Update(status=status)))
    await master.update(task, "TASK_RUNNING", with_uuid=False)  # late, from before its end
    await master.next("KILL")  # whatever says that it lives: it is nobody's now
    await master.next("REVIVE", seen=1)
    await master.offer("a1", "a2")
    tasks = await master.tasks(2)
    await master.update(tasks[1], "TASK_RUNNING")
    await marathon.until("/v2/apps/job", lambda answer: answer["app"]["tasksRunning"] == 1)

    uuids = [call.acknowledge.uuid for call in master.of("ACKNOWLEDGE") if call.acknowledge]
    assert uuids.count(status.uuid or b"") == 3
    assert len(master.launched()) == 2


async def test_what_was_launched_on_an_offer_that_was_rescinded_is_launched_anew(
    marathon: Marathon, master: FakeMaster
) -> None:
    await marathon.ask("POST", "/v2/apps", {**APP, "backoffSeconds": 0})
    await master.next("REVIVE")
    await master.offer("a1")
    [lost] = await master.tasks(1)
    accept = (await master.next("ACCEPT")).accept
    assert accept is not None
    await master.send(Event(type="RESCIND", rescind=Rescind(offer_id=accept.offer_ids[0])))

    await master.update(lost, "TASK_DROPPED", with_uuid=False, message="offer no longer valid")
    await master.next("REVIVE", seen=1)
    await master.offer("a2")
    _, task = await master.tasks(2)
    await master.update(task, "TASK_RUNNING")
    await marathon.until("/v2/deployments", lambda answer: answer == [])

    assert task.agent_id.value == "agent-a2"
    assert task.task_id != lost.task_id
    assert master.of("KILL") == []


async def test_a_task_that_never_runs_is_killed_and_replaced(
    marathon: Marathon, master: FakeMaster
) -> None:
    await marathon.ask("POST", "/v2/apps", APP)
    await master.next("REVIVE")
    await master.offer("a1")
    [task] = await master.tasks(1)
    await master.update(task, "TASK_STARTING")
    board = marathon.board
    await marathon.until("/v2/apps/job/tasks", lambda a: a["tasks"][0]["state"] == "TASK_STARTING")
    async with board.lock:
        await doom_overdue(board)
        [young] = board.ledger.instances()
        assert young.launched is not None
        long_ago = msgspec.structs.replace(
            young.launched, staged_at=young.launched.staged_at - LAUNCH_SECONDS
        )
        await board.ledger.put_instance(msgspec.structs.replace(young, launched=long_ago))
        await doom_overdue(board)
    board.poke()

    kill = (await master.next("KILL")).kill

    assert not young.doomed
    assert kill is not None
    assert kill.task_id == task.task_id


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("TASK_KILLED", "REASON_SLAVE_DRAINING", True),
        ("TASK_GONE_BY_OPERATOR", "REASON_AGENT_DRAINING", True),
        ("TASK_FAILED", "REASON_SLAVE_DRAINING", False),
        ("TASK_KILLED", None, False),
    ],
)
def test_tasks_of_an_agent_that_is_drained_delay_nothing(
    state: str, reason: str | None, expected: bool
) -> None:
    status = mesos.TaskStatus(
        task_id=mesos.TaskID(value="t"), state=mesos.TaskState(state), reason=reason
    )

    assert is_drained(status) is expected


def test_volumes_are_given_up_with_an_agent_that_is_gone_for_good() -> None:
    kept = Reservation(agent_id="a", role="prod", since=1.0, volumes=(), is_made=True)
    resident = instance(1, reservation=kept)
    gone = mesos.TaskStatus(
        task_id=mesos.TaskID(value=resident.task_id),
        state=mesos.TaskState.TASK_GONE_BY_OPERATOR,
    )

    after = after_update(app_of(), resident, gone, now=5.0).instance

    assert after is not None
    assert after.reservation is None
    assert after.incarnation == 2


async def test_an_unreachable_task_that_returns_in_time_is_one_too_many(
    marathon: Marathon, master: FakeMaster
) -> None:
    strategy = {"inactiveAfterSeconds": 1, "expungeAfterSeconds": 60}
    selection = {"unreachableStrategy": strategy, "killSelection": "OLDEST_FIRST"}
    [task] = await deploy(marathon, master, **selection)

    await master.update(task, "TASK_UNREACHABLE", with_uuid=False)
    await master.next("REVIVE", seen=1)  # after a second
    await master.offer("a2")
    _, replacement = await master.tasks(2)
    await master.update(replacement, "TASK_RUNNING")
    await marathon.until("/v2/apps/job", lambda answer: answer["app"]["tasksRunning"] == 1)
    _, both = await marathon.ask("GET", "/v2/apps/job/tasks")
    await master.update(task, "TASK_RUNNING", with_uuid=False)
    kill = (await master.next("KILL")).kill

    assert {found["state"] for found in both["tasks"]} == {"TASK_RUNNING", "TASK_UNREACHABLE"}
    assert kill is not None
    assert kill.task_id == task.task_id


async def test_an_unreachable_task_that_is_to_be_waited_for_is_not_replaced(
    marathon: Marathon, master: FakeMaster
) -> None:
    [task] = await deploy(marathon, master, unreachableStrategy="disabled")
    revived = len(master.of("REVIVE"))

    await master.update(task, "TASK_UNREACHABLE", with_uuid=False)
    await marathon.until(
        "/v2/apps/job/tasks", lambda answer: answer["tasks"][0]["state"] == "TASK_UNREACHABLE"
    )
    await master.update(task, "TASK_RUNNING", with_uuid=False)
    await marathon.until("/v2/apps/job", lambda answer: answer["app"]["tasksRunning"] == 1)

    assert len(master.of("REVIVE")) == revived
    assert len(master.launched()) == 1
    assert master.of("KILL") == []


async def test_the_grace_period_of_an_app_goes_with_each_kill(
    marathon: Marathon, master: FakeMaster
) -> None:
    [task] = await deploy(marathon, master, taskKillGracePeriodSeconds=7)

    await marathon.ask("DELETE", f"/v2/apps/job/tasks/{task.task_id.value}")
    kill = (await master.next("KILL")).kill

    assert kill is not None
    assert kill.kill_policy is not None
    assert kill.kill_policy.grace_period is not None
    assert kill.kill_policy.grace_period.nanoseconds == 7_000_000_000


async def test_an_app_that_fits_nowhere_says_why_in_queue_and_app(
    marathon: Marathon, master: FakeMaster
) -> None:
    await marathon.ask("POST", "/v2/apps", {**APP, "cpus": 1000, "instances": 2})
    await master.next("REVIVE")
    await master.offer("a1", "a2")

    answer = await marathon.until(
        "/v2/queue?embed=lastUnusedOffers",
        lambda answer: answer["queue"][0]["processedOffersSummary"]["unusedOffersCount"] == 2,
    )

    [item] = answer["queue"]
    assert item["count"] == 2
    last = item["processedOffersSummary"]["rejectSummaryLastOffers"]
    assert {row["reason"]: row["declined"] for row in last}["InsufficientCpus"] == 2
    assert [offer["reason"] for offer in item["lastUnusedOffers"]] == [["InsufficientCpus"]] * 2
    _, app = await marathon.ask("GET", "/v2/apps/job?embed=app.deployments")
    assert app["app"]["deployments"] != []


async def test_a_flood_of_deployments_is_bounded_and_answered(marathon: Marathon) -> None:
    flood = [{**APP, "id": f"/flood/{n}"} for n in range(MAX_DEPLOYMENTS + 50)]

    answers = await asyncio.gather(*(marathon.ask("POST", "/v2/apps", app) for app in flood))
    _, deployments = await marathon.ask("GET", "/v2/deployments")
    _, listed = await marathon.ask("GET", "/v2/apps")

    found = Counter(status for status, _ in answers)
    assert found == {201: MAX_DEPLOYMENTS, 403: 50}
    refused = next(answer for status, answer in answers if status == 403)
    assert "deployments" in refused["message"]
    assert len(deployments) == len(listed["apps"]) == MAX_DEPLOYMENTS


async def test_of_changes_by_force_the_last_remains(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/apps", APP)
    path, turns = "/v2/apps/job?force=true", 60

    answers = await asyncio.gather(
        *(marathon.ask("PUT", path, {"env": {"TURN": str(turn)}}) for turn in range(turns))
    )
    _, [deployment] = await marathon.ask("GET", "/v2/deployments")
    _, shown = await marathon.ask("GET", "/v2/apps/job")

    assert {status for status, _ in answers} == {200}
    assert deployment["affectedApps"] == ["/job"]
    assert deployment["version"] == max(answer["version"] for _, answer in answers)
    assert shown["app"]["version"] == deployment["version"]
