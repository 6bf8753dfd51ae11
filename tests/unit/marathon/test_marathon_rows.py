"""Instances in rows: what is read back is what was kept, whatever failed in between."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.core.error import UnavailableError
from phalanx.core.store.memory import MemoryStore
from phalanx.marathon.ledger.ledger import Ledger
from phalanx.marathon.ledger.page import MOST_TASKS, Pages
from phalanx.marathon.model.instance import Condition, Instance, Launched, Member

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "remove", "wait", "fail", "heal"]),
        st.integers(min_value=0, max_value=80),
    ),
    max_size=60,
)


class Failing(MemoryStore):
    """A store that takes nothing while it is told to fail."""

    is_failing = False
    puts = 0

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        self.puts += 1
        await asyncio.sleep(0)
        if self.is_failing:
            raise UnavailableError("no server answers")
        return await super().put(key, value, version=version)

    async def remove(self, key: str) -> None:
        await asyncio.sleep(0)
        if self.is_failing:
            raise UnavailableError("no server answers")
        await super().remove(key)


def instance_of(number: int, *, round: int = 0, members: int = 0) -> Instance:
    """Return an instance that runs; every third is another app's."""
    app = "/b" if number % 3 == 0 else "/a"
    return Instance(
        id=f"{app[1:]}.instance-{number}",
        app_id=app,
        version="2021-01-01T00:00:00.000Z",
        since=float(round),
        condition=Condition.RUNNING,
        launched=Launched(
            agent_id="a",
            hostname="h",
            agent_ip="198.18.0.1",
            staged_at=1.0,
            members=tuple(Member(name=f"c{n}", since=1.0) for n in range(members)),
        ),
    )


async def written(store: MemoryStore) -> dict[str, Instance]:
    """Return what a new process reads."""
    return {instance.id: instance for instance in await Pages(store).load()}


@given(steps=STEPS)
@settings(deadline=None)
def test_what_was_kept_is_read_back(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        store = Failing()
        pages = Pages(store)
        kept: dict[str, Instance] = {}
        waiting: list[asyncio.Task[None]] = []

        async def change(instance: Instance, *, is_put: bool) -> None:
            await (pages.put(instance) if is_put else pages.remove(instance))
            if is_put:
                kept[instance.id] = instance
            else:
                kept.pop(instance.id, None)

        async def settle() -> None:
            for task in waiting:
                with suppress(UnavailableError):
                    await task
            waiting.clear()

        for round, (step, number) in enumerate(steps):
            if step in ("put", "remove"):
                instance = instance_of(number, round=round)
                waiting.append(asyncio.create_task(change(instance, is_put=step == "put")))
            else:
                await settle()
                store.is_failing = step == "fail" or (store.is_failing and step != "heal")
        await settle()

        assert await written(store) == kept

    asyncio.run(run())


async def test_changes_of_one_moment_are_one_write_a_page() -> None:
    store = Failing()
    ledger = Ledger(store)
    await ledger.load()
    store.puts = 0

    await ledger.put_instances(instance_of(3 * number + 1) for number in range(4 * MOST_TASKS))

    assert store.puts == 4
    assert len(await store.list("instances")) == 4


async def test_containers_of_pods_count_towards_a_page() -> None:
    store = MemoryStore()
    pages = Pages(store)

    for number in range(6):
        await pages.put(instance_of(3 * number + 1, members=MOST_TASKS // 2))

    assert len(await store.list("instances")) == 3


async def test_room_of_those_that_ended_is_used_again() -> None:
    store = MemoryStore()
    pages = Pages(store)
    everybody = [instance_of(3 * number + 1) for number in range(2 * MOST_TASKS)]
    for instance in everybody:
        await pages.put(instance)
    for instance in everybody[: MOST_TASKS // 2]:
        await pages.remove(instance)

    for number in range(MOST_TASKS // 2):
        await pages.put(instance_of(3 * (number + 1000) + 1))

    assert len(await store.list("instances")) == 2


async def test_rows_of_one_instance_are_still_read() -> None:
    store = MemoryStore()
    old = instance_of(1)
    await store.put(f"instances/{old.id}", msgspec.json.encode(old))
    pages = Pages(store)
    [read] = await pages.load()

    await pages.remove(read)

    assert read == old
    assert await store.list("instances") == {}
