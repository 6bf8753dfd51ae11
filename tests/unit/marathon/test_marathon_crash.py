"""A Marathon that ends at any of its writes comes back and finishes, launching nothing twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.marathon.conftest import SECONDS, FakeMaster, Marathon, running_marathon

from phalanx.core.error import UnavailableError
from phalanx.mesos.v1 import mesos

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from phalanx.core.store.store import Store, Stored
    from phalanx.mesos.v1.scheduler import Call

APP: dict[str, Any] = {
    "id": "/job",
    "cmd": "x",
    "cpus": 0.1,
    "mem": 32,
    "instances": 2,
    "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.5},
}


class Mortal:
    """A store that takes so many writes and none after them, as if its process had ended.

    *is_told* says whether the writer still hears of the last one, and so acts on it.
    """

    def __init__(self, store: Store, writes: int, *, is_told: bool) -> None:
        self._store = store
        self._left = writes
        self._is_told = is_told
        self.is_dead = False
        self.died = asyncio.Event()

    async def get(self, key: str) -> Stored | None:
        return await self._store.get(key)

    async def list(self, prefix: str) -> Mapping[str, Stored]:
        return await self._store.list(prefix)

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        self._spend()
        number = await self._store.put(key, value, version=version)
        self._hear()
        return number

    async def remove(self, key: str) -> None:
        self._spend()
        await self._store.remove(key)
        self._hear()

    async def close(self) -> None:
        await self._store.close()

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            self._die()

    def _hear(self) -> None:
        if self._left == 0 and not self._is_told:
            self._die()

    def _die(self) -> None:
        self.is_dead = True
        self.died.set()
        raise UnavailableError("the process has ended")


class Cluster:
    """What a master and its agents do by themselves: offer, run, kill, answer."""

    def __init__(self, master: FakeMaster) -> None:
        self.live: dict[str, mesos.TaskInfo] = {}
        self.launches: Counter[str] = Counter()
        self.most = 0
        self._master = master

    async def run(self) -> None:
        """Answer every call, each once, until cancelled."""
        calls = self._master.calls
        while True:
            with suppress(TimeoutError):  # quiet so far
                await self._master.until(lambda: len(calls) > 0)
            while calls:
                with suppress(ConnectionError):  # nobody listens any more
                    await self._take(calls.pop(0))

    async def _take(self, call: Call) -> None:
        if call.revive is not None:
            await self._master.offer("a1", "a2")
        elif call.accept is not None:
            for operation in call.accept.operations:
                for task in operation.launch.task_infos if operation.launch else ():
                    name = task.task_id.value
                    self.launches[name] += 1
                    self.live[name] = task
                    self.most = max(self.most, len(self.live))
                    await self._master.update(task, "TASK_RUNNING")
        elif call.kill is not None:
            killed = self.live.pop(call.kill.task_id.value, None)
            if killed is not None:
                await self._master.update(killed, "TASK_KILLED")
        elif call.reconcile is not None:
            for asked in call.reconcile.tasks:
                assert asked.agent_id is not None
                state = "TASK_RUNNING" if asked.task_id.value in self.live else "TASK_GONE"
                task = mesos.TaskInfo(name="", task_id=asked.task_id, agent_id=asked.agent_id)
                await self._master.update(task, state, with_uuid=False)


async def settled(marathon: Marathon, turn: str) -> bool:
    """Bring the app to *turn*, as an operator who repeats what was not answered; tell if it is."""
    body = {**APP, "env": {"TURN": turn}}
    _, app = await marathon.ask("GET", "/v2/apps/job")
    if app.get("app", {}).get("env") != body["env"]:
        status, _ = await marathon.ask("PUT", "/v2/apps/job?force=true", body)
        if status >= 500:
            return False
    while True:
        status, deployments = await marathon.ask("GET", "/v2/deployments")
        if deployments == []:
            return True
        await asyncio.sleep(0.01)  # waits: until the deployment is over, or the store is dead


async def crash_once(place: Path, writes: int, *, is_told: bool) -> tuple[bool, Cluster, list[Any]]:
    """Deploy and upgrade with an end after so many writes; return whether it came to that."""
    master = FakeMaster()
    await master.start()
    cluster = Cluster(master)
    driving = asyncio.create_task(cluster.run())
    mortals: list[Mortal] = []

    def wrap(store: Store) -> Store:
        mortals.append(Mortal(store, writes, is_told=is_told))
        return mortals[-1]

    async def both(marathon: Marathon) -> None:
        for turn in ("1", "2"):
            await settled(marathon, turn)

    async with running_marathon(master, place, wrap) as marathon:
        working = asyncio.create_task(both(marathon))
        dying = asyncio.create_task(mortals[0].died.wait())
        await asyncio.wait((working, dying), return_when=asyncio.FIRST_COMPLETED)
        for task in (working, dying):
            task.cancel()
        await asyncio.gather(working, dying, return_exceptions=True)
    is_dead = mortals[0].is_dead
    async with running_marathon(master, place) as marathon, asyncio.timeout(SECONDS * 4):
        await both(marathon)
        tasks = (await marathon.ask("GET", "/v2/apps/job/tasks"))[1]["tasks"]
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)
    await master.stop()
    return is_dead, cluster, tasks


@pytest.mark.parametrize("is_told", [True, False], ids=["before-the-next", "within-the-last"])
async def test_an_end_at_any_write_loses_nothing_and_launches_nothing_twice(
    tmp_path: Path, is_told: bool
) -> None:
    writes = 0 if is_told else 1
    while True:
        place = tmp_path / str(writes)
        is_dead, cluster, tasks = await crash_once(place, writes, is_told=is_told)

        assert max(cluster.launches.values()) == 1, f"after {writes} writes"
        assert {task["id"] for task in tasks} == cluster.live.keys(), f"after {writes} writes"
        assert len(tasks) == 2, f"after {writes} writes"
        assert cluster.most <= 3, f"after {writes} writes"
        if not is_dead:
            break
        writes += 1
    assert writes > 10
