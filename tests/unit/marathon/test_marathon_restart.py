"""A Marathon that ends and comes back with the same work directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from phalanx.core.store.sqlite import SqliteStore
from phalanx.marathon.engine import scheduler
from phalanx.marathon.ledger.ledger import Ledger
from phalanx.marathon.model.instance import Condition, Instance, Launched

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.unit.marathon.conftest import FakeMaster, Marathon

    Start = Callable[[], AbstractAsyncContextManager[Marathon]]

APP = {"id": "/job", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32}


async def test_restart_reuses_the_framework_id_and_launches_nothing_twice(
    master: FakeMaster, start: Start
) -> None:
    async with start() as marathon:
        await marathon.ask("POST", "/v2/apps", {**APP, "instances": 2})
        await master.next("REVIVE")
        await master.offer("a1")
        tasks = await master.tasks(2)
        for task in tasks:
            await master.update(task, "TASK_RUNNING")
        await marathon.until("/v2/deployments", lambda answer: answer == [])
        await master.next("SUPPRESS")

    async with start() as marathon:
        subscribe = await master.subscribed(2)
        reconcile = (await master.next("RECONCILE")).reconcile
        for task in tasks:
            await master.update(task, "TASK_RUNNING", with_uuid=False)
        await master.next("SUPPRESS", seen=1)
        await master.offer("a1")
        await master.next("DECLINE")
        _, answer = await marathon.ask("GET", "/v2/apps/job")

    assert subscribe.framework_id is not None
    assert subscribe.framework_id.value == "fw-0000"
    assert reconcile is not None
    assert {t.task_id for t in reconcile.tasks} == {t.task_id for t in tasks}
    assert answer["app"]["tasksRunning"] == 2
    assert len(master.launched()) == 2
    assert master.of("KILL") == []


async def test_thousands_of_tasks_are_asked_for_in_parts(
    master: FakeMaster, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "RECONCILED_AT_ONCE", 10)
    (tmp_path / "work").mkdir()
    ledger = Ledger(SqliteStore(tmp_path / "work" / "marathon.db"))
    await ledger.put_instances(running(number) for number in range(21))
    ids = {instance.task_id for instance in ledger.instances()}
    await ledger.close()

    async with start():
        await master.until(lambda: len(master.of("RECONCILE")) >= 3)

    asked = [call.reconcile.tasks for call in master.of("RECONCILE") if call.reconcile]
    assert [len(tasks) for tasks in asked] == [10, 10, 1]
    assert {task.task_id.value for tasks in asked for task in tasks} == ids


def running(number: int) -> Instance:
    launched = Launched(agent_id="agent-a1", hostname="a1", agent_ip="127.0.0.1", staged_at=1.0)
    return Instance(
        id=f"job.instance-{number}", app_id="/job", version="v", since=1.0,
        condition=Condition.RUNNING, launched=launched,
    )  # fmt: skip


async def test_restart_finishes_a_running_deployment(master: FakeMaster, start: Start) -> None:
    async with start() as marathon:
        _, created = await marathon.ask("POST", "/v2/apps", {**APP, "instances": 2})
        await master.next("REVIVE")
        await master.offer("a1", cpus=0.1)
        [first] = await master.tasks(1)
        await master.update(first, "TASK_RUNNING")
        await marathon.until("/v2/apps/job", lambda answer: answer["app"]["tasksRunning"] == 1)

    async with start() as marathon:
        await master.next("REVIVE", seen=1)
        _, [deployment] = await marathon.ask("GET", "/v2/deployments")
        await master.offer("a2")
        _, second = await master.tasks(2)
        await master.update(second, "TASK_RUNNING")
        await marathon.until("/v2/deployments", lambda answer: answer == [])

    assert deployment["id"] == created["deployments"][0]["id"]
    assert second.task_id != first.task_id


async def test_task_that_ended_meanwhile_is_replaced(master: FakeMaster, start: Start) -> None:
    async with start() as marathon:
        await marathon.ask("POST", "/v2/apps", {**APP, "backoffSeconds": 0})
        await master.next("REVIVE")
        await master.offer("a1")
        [task] = await master.tasks(1)

    async with start():
        await master.next("RECONCILE")
        await master.update(task, "TASK_GONE", with_uuid=False)
        await master.next("REVIVE", seen=1)
        await master.offer("a1")
        _, again = await master.tasks(2)

    assert again.task_id != task.task_id


async def test_broken_stream_is_opened_again_with_the_framework_id(
    master: FakeMaster, start: Start
) -> None:
    async with start() as marathon:
        await master.subscribed()
        await marathon.ask("POST", "/v2/apps", APP)
        await master.next("REVIVE")
        master.hang_up()
        subscribe = await master.subscribed(2)
        await master.next("REVIVE", seen=1)
        await master.offer("a1")
        tasks = await master.tasks(1)

    assert subscribe.framework_id is not None
    assert subscribe.framework_id.value == "fw-0000"
    assert len(tasks) == 1


async def test_launch_that_the_master_refused_is_asked_for(
    master: FakeMaster, start: Start
) -> None:
    async with start() as marathon:
        await marathon.ask("POST", "/v2/apps", {**APP, "backoffSeconds": 0})
        await master.next("REVIVE")
        master.refusal = 400
        await master.offer("a1")
        await marathon.until("/v2/tasks", lambda answer: len(answer["tasks"]) == 1)
        master.hang_up()
        reconcile = (await master.next("RECONCILE")).reconcile

    assert reconcile is not None
    [asked] = reconcile.tasks
    assert asked.task_id.value.startswith("job.instance-")
    assert master.launched() == []


async def test_stranger_is_killed(master: FakeMaster, start: Start) -> None:
    async with start() as marathon:
        await marathon.ask("POST", "/v2/apps", APP)
        await master.next("REVIVE")
        await master.offer("a1")
        [task] = await master.tasks(1)
        await master.update(task, "TASK_UNREACHABLE", with_uuid=False)
        await master.next("REVIVE", seen=1)
        await master.update(task, "TASK_RUNNING")
        kill = (await master.next("KILL")).kill
        await master.next("ACKNOWLEDGE")

    assert kill is not None
    assert kill.task_id == task.task_id


async def test_health_that_the_agent_told_is_remembered(master: FakeMaster, start: Start) -> None:
    check = {"protocol": "COMMAND", "command": {"value": "true"}}
    async with start() as marathon:
        await marathon.ask("POST", "/v2/apps", {**APP, "healthChecks": [check]})
        await master.next("REVIVE")
        await master.offer("a1")
        [task] = await master.tasks(1)
        await master.update(task, "TASK_RUNNING", healthy=True)
        await marathon.until("/v2/deployments", lambda answer: answer == [])

    async with start() as marathon:
        _, answer = await marathon.ask("GET", "/v2/apps/job")

    assert answer["app"]["tasksHealthy"] == 1
