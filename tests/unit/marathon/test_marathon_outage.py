"""Writes that fail for a moment: what was half done is finished, what was heard is asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.unit.marathon.conftest import SECONDS, running_marathon

from phalanx.core.error import UnavailableError
from phalanx.core.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.unit.marathon.conftest import FakeMaster

    from phalanx.core.store.store import Store, Stored
    from phalanx.mesos.v1 import mesos

APP: dict[str, Any] = {
    "id": "/job", "cmd": "x", "cpus": 0.1, "mem": 32, "portDefinitions": [], "backoffSeconds": 0,
}  # fmt: skip


class Flaky:
    """Takes no writes of keys that begin as *failing* says; all else is the store's below.

    Of those that begin as *late* says the answers get lost.
    """

    def __init__(self) -> None:
        self.failing: tuple[str, ...] = ()
        self.late: tuple[str, ...] = ()
        self.refused = 0
        self._refused = asyncio.Condition()
        self._store: Store = MemoryStore()

    def over(self, store: Store) -> Flaky:
        """Return itself over another store."""
        self._store = store
        return self

    async def get(self, key: str) -> Stored | None:
        return await self._store.get(key)

    async def list(self, prefix: str) -> Mapping[str, Stored]:
        return await self._store.list(prefix)

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        if key.startswith(self.failing):
            await self._refuse()
        number = await self._store.put(key, value, version=version)
        if key.startswith(self.late):
            await self._refuse()
        return number

    async def remove(self, key: str) -> None:
        if key.startswith(self.failing):
            await self._refuse()
        await self._store.remove(key)

    async def close(self) -> None:
        await self._store.close()

    async def _refuse(self) -> None:
        async with self._refused:
            self.refused += 1
            self._refused.notify_all()
        raise UnavailableError("no server answers")

    async def has_refused(self, count: int) -> None:
        """Wait until this many writes were refused in all."""
        async with asyncio.timeout(SECONDS), self._refused:
            await self._refused.wait_for(lambda: self.refused >= count)


@pytest.fixture
def store() -> Flaky:
    return Flaky()


async def asked_for(master: FakeMaster, task: mesos.TaskInfo | str) -> None:
    """Wait until the master is asked for a task."""
    task_id = task if isinstance(task, str) else task.task_id.value
    await master.until(
        lambda: any(
            asked.task_id.value == task_id
            for call in master.of("RECONCILE")
            if call.reconcile is not None
            for asked in call.reconcile.tasks
        )
    )


async def test_sick_task_is_killed_once_that_can_be_written(
    master: FakeMaster, tmp_path: Path, store: Flaky
) -> None:
    async def sick(_: web.Request) -> web.Response:
        return web.Response(status=500)

    application = web.Application()
    application.add_routes([web.get("/", sick)])
    server = TestServer(application)
    await server.start_server()
    check = {
        "port": server.port,
        "path": "/",
        "intervalSeconds": 0.05,
        "gracePeriodSeconds": 0,
        "maxConsecutiveFailures": 1,
    }
    async with running_marathon(master, tmp_path, store.over) as marathon:
        await marathon.ask("POST", "/v2/apps", {**APP, "healthChecks": [check]})
        await master.next("REVIVE")
        await master.offer("a1")
        [task] = await master.tasks(1)
        store.failing = ("failures",)
        await master.update(task, "TASK_RUNNING", address="127.0.0.1")
        await store.has_refused(2)
        store.failing = ()

        kill = (await master.next("KILL")).kill
    await server.close()

    assert kill is not None
    assert kill.task_id == task.task_id


async def test_update_that_could_not_be_written_is_asked_for_and_counts_once(
    master: FakeMaster, tmp_path: Path, store: Flaky
) -> None:
    delayed = {**APP, "backoffSeconds": 100, "backoffFactor": 2}
    async with running_marathon(master, tmp_path, store.over) as marathon:
        await marathon.ask("POST", "/v2/apps", delayed)
        await master.next("REVIVE")
        await master.offer("a1")
        [task] = await master.tasks(1)
        await master.update(task, "TASK_RUNNING")
        await marathon.until("/v2/deployments", lambda answer: answer == [])
        store.failing = ("instances",)
        await master.update(task, "TASK_FAILED", with_uuid=False)
        await store.has_refused(1)
        store.failing = ()

        await asked_for(master, task)
        await master.update(task, "TASK_FAILED", with_uuid=False)
        queue = await marathon.until("/v2/queue", lambda answer: answer["queue"])

    assert 90 < queue["queue"][0]["delay"]["timeLeftSeconds"] <= 100


async def test_launch_that_was_written_but_not_sent_is_asked_for(
    master: FakeMaster, tmp_path: Path, store: Flaky
) -> None:
    async with running_marathon(master, tmp_path, store.over) as marathon:
        for name in ("/a", "/b"):
            await marathon.ask("POST", "/v2/apps", {**APP, "id": name})
        await marathon.until("/v2/queue", lambda answer: len(answer["queue"]) == 2)
        await master.next("REVIVE")
        store.failing = ("instances/a",)
        await master.offer("a1")
        await master.next("DECLINE")
        [waiting] = marathon.board.ledger.instances_of("/a")
        [written] = marathon.board.ledger.instances_of("/b")
        store.failing = ()

        await asked_for(master, written.task_id)

    assert waiting.launched is None
    assert written.launched is not None
    assert master.launched() == []


async def test_deployment_that_was_half_written_is_finished(
    master: FakeMaster, tmp_path: Path, store: Flaky
) -> None:
    both = [{**APP, "id": name, "instances": 0} for name in ("/a", "/b")]
    async with running_marathon(master, tmp_path, store.over) as marathon:
        store.failing = ("apps/b",)
        status, _ = await marathon.ask("PUT", "/v2/apps", both)
        await store.has_refused(3)
        _, deployments = await marathon.ask("GET", "/v2/deployments")
        _, half = await marathon.ask("GET", "/v2/apps")
        store.failing = ()
        await marathon.until("/v2/deployments", lambda answer: answer == [])
        _, whole = await marathon.ask("GET", "/v2/apps")
    async with running_marathon(master, tmp_path, store.over) as marathon:
        _, again = await marathon.ask("GET", "/v2/apps")

    assert status == 503
    assert [found["affectedApps"] for found in deployments] == [["/a", "/b"]]
    assert [app["id"] for app in half["apps"]] == ["/a"]
    assert [app["id"] for app in whole["apps"]] == ["/a", "/b"]
    assert [app["id"] for app in again["apps"]] == ["/a", "/b"]


async def test_deployment_that_can_not_be_written_holds_up_no_other(
    master: FakeMaster, tmp_path: Path, store: Flaky
) -> None:
    async with running_marathon(master, tmp_path, store.over) as marathon:
        store.failing = ("apps/b",)
        await marathon.ask("POST", "/v2/apps", {**APP, "id": "/b"})
        await marathon.ask("POST", "/v2/apps", {**APP, "id": "/c"})
        await master.next("REVIVE")
        await master.offer("a1")
        [task] = await master.tasks(1)
        await master.update(task, "TASK_RUNNING")
        [left] = await marathon.until("/v2/deployments", lambda answer: len(answer) == 1)
        status, _ = await marathon.ask("DELETE", f"/v2/deployments/{left['id']}?force=true")
        _, apps = await marathon.ask("GET", "/v2/apps")

    assert left["affectedApps"] == ["/b"]
    assert status == 202
    assert [app["id"] for app in apps["apps"]] == ["/c"]


async def test_deployment_whose_past_could_not_be_written_is_finished_with_it(
    master: FakeMaster, tmp_path: Path, store: Flaky
) -> None:
    async with running_marathon(master, tmp_path, store.over) as marathon:
        await marathon.ask("POST", "/v2/apps", {**APP, "instances": 0})
        await marathon.until("/v2/deployments", lambda answer: answer == [])
        _, [before] = await marathon.ask("GET", "/v2/groups/versions")
        store.failing = ("history",)
        status, _ = await marathon.ask("PUT", "/v2/apps/job", {"cmd": "y", "instances": 0})
        _, early = await marathon.ask("GET", "/v2/apps/job")
        store.failing = ()
        await marathon.until("/v2/deployments", lambda answer: answer == [])
        _, late = await marathon.ask("GET", "/v2/apps/job")
    async with running_marathon(master, tmp_path, store.over) as marathon:
        _, again = await marathon.ask("GET", "/v2/apps/job")
        _, versions = await marathon.ask("GET", "/v2/groups/versions")
        _, then = await marathon.ask("GET", f"/v2/groups/versions/{before}")

    assert status == 503
    assert [found["app"]["cmd"] for found in (early, late, again)] == ["x", "y", "y"]
    assert len(versions) == 2
    assert [app["cmd"] for app in then["apps"]] == ["x"]


async def test_deployment_that_was_refused_as_its_answer_got_lost_never_happens(
    master: FakeMaster, tmp_path: Path, store: Flaky
) -> None:
    async with running_marathon(master, tmp_path, store.over) as marathon:
        await marathon.ask("POST", "/v2/apps", {**APP, "instances": 0})
        await marathon.until("/v2/deployments", lambda answer: answer == [])
        store.late = ("deployments",)
        status, _ = await marathon.ask("PUT", "/v2/apps/job", {"cmd": "y", "instances": 0})
        store.late = ()
        async with asyncio.timeout(SECONDS):
            while await store.list("deployments"):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
        _, deployments = await marathon.ask("GET", "/v2/deployments")
    async with running_marathon(master, tmp_path, store.over) as marathon:
        _, again = await marathon.ask("GET", "/v2/apps/job")

    assert status == 503
    assert deployments == []
    assert again["app"]["cmd"] == "x"
