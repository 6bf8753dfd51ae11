"""The registry of agents: garbage, age, rates, full disks, the subnets of nodes."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.master.lab import ADDRESS, BreakableStore, FakeClock, Lab

from phalanx.core.error import InvalidError, UnavailableError
from phalanx.core.store.memory import MemoryStore
from phalanx.core.store.sqlite import SqliteStore
from phalanx.master.agents.limit import Limit, Rate, parse_rate
from phalanx.master.agents.locks import Locks
from phalanx.master.agents.registry import (
    ADMITTED,
    GONE,
    UNREACHABLE,
    AgentRecord,
    AgentRegistry,
    outlived,
)
from phalanx.master.api.operator import CHANGES
from phalanx.master.network.definition import NetworkSpec
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.master import Call
from phalanx.mesos.v1.mesos import AgentInfo

INFO = AgentInfo(hostname="a")


def record(id: str, state: str, since: float = 0.0) -> AgentRecord:
    return AgentRecord(id, INFO, ADDRESS, "1.11.0", state, since)


async def test_a_row_that_nobody_can_read_is_left_out_and_left_there() -> None:
    store = MemoryStore()
    registry = AgentRegistry(store)
    await registry.put(record("good", ADMITTED))
    for key, value in (("bad", b"\xff{"), ("odd", b'{"id":1}'), ("far", b"{}")):
        await store.put(f"agents/{key}", value)

    again = AgentRegistry(store)
    await again.load()

    assert list(again.records) == ["good"]
    assert await store.get("agents/bad") is not None


async def test_rows_of_older_masters_are_read() -> None:
    store = MemoryStore()
    row = b'{"id":"a","info":{"hostname":"a"},"address":"10.0.0.1","version":"1","state":"gone"}'
    await store.put("agents/a", row)
    registry = AgentRegistry(store)

    await registry.load()

    assert registry.records["a"].state == GONE


def test_the_old_and_the_too_many_are_forgotten() -> None:
    records = [
        record("in", ADMITTED),
        *(record(f"u{age}", UNREACHABLE, 100.0 - age) for age in (1, 20, 3, 4)),
        record("g30", GONE, 70.0),
    ]

    found = outlived(records, now=100.0, most_seconds=10.0, most_count=2)

    assert {each.id for each in found} == {"u20", "u4", "g30"}


@given(st.lists(st.tuples(st.sampled_from([UNREACHABLE, GONE]), st.floats(0, 1000))))
def test_what_is_kept_is_young_and_not_too_much(ages: list[tuple[str, float]]) -> None:
    records = [record(str(n), state, since) for n, (state, since) in enumerate(ages)]

    gone = {each.id for each in outlived(records, now=1000, most_seconds=500, most_count=3)}
    kept = [each for each in records if each.id not in gone]

    for state in (UNREACHABLE, GONE):
        alike = [each.since for each in kept if each.state == state]
        assert len(alike) <= 3
        lost = [each.since for each in records if each.id in gone and each.state == state]
        assert not (alike and lost) or min(alike) >= max(lost)


@given(st.lists(st.floats(0, 50), max_size=200), st.integers(1, 5))
def test_a_limit_admits_so_many_in_any_stretch(times: list[float], count: int) -> None:
    limit = Limit(Rate(count, 10.0))
    passed = []
    for now in sorted(times):
        if limit.admits(now):
            limit.note(now)
            passed.append(now)

    for first, later in zip(passed, passed[count:], strict=False):
        assert later - first >= 10.0


@pytest.mark.parametrize("text", ["1", "0/1mins", "x/1mins", "1/soon", "1/0secs", "-1/1secs"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_rate(text)


async def test_locks_are_one_a_name_and_forgotten() -> None:
    locks = Locks()
    seen: list[str] = []

    async def hold(name: str, tag: str) -> None:
        async with locks.of(name):
            seen.append(f"{tag} in")
            await asyncio.sleep(0)
            seen.append(f"{tag} out")

    await asyncio.gather(hold("a", "1"), hold("a", "2"), hold("b", "3"))

    assert seen.index("1 out") < seen.index("2 in")
    assert seen.index("3 in") < seen.index("1 out")
    assert not locks._locks


@pytest.mark.parametrize("is_whole", [True, False])
async def test_subnets_of_a_node_that_a_leader_forgot_as_it_ended_are_freed(
    *, is_whole: bool
) -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock())
    await lab.leader.networks.create(NetworkSpec("blue", "10.1.0.0/16"), nodes=())
    first, _ = await lab.agent()
    second, _ = await lab.agent(address="198.18.0.3")
    await lab.leader.registry.remove(second.id)  # and the leader ends
    if not is_whole:
        await lab.store.put("agents/odd", b"of another version")
    lab = await Lab.begin(lab.store, lab.clock, number=2)

    await lab.leader.free_nodes(set(lab.leader.housed()))

    left = {lease.node for lease in lab.leader.networks.subnets.values()}
    assert left == {first.address} | (set() if is_whole else {second.address})


async def test_of_two_agents_on_a_node_one_that_is_gone_takes_no_subnet_along() -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock())
    await lab.leader.networks.create(NetworkSpec("blue", "10.1.0.0/16"), nodes=())
    first, _ = await lab.agent(port=5051)
    second, _ = await lab.agent(port=5052)
    lab = await Lab.begin(lab.store, lab.clock, number=2)  # neither is back yet

    for id, is_leased in ((first.id, True), (second.id, False)):
        gone = {"agent_id": {"value": id}}
        call = from_json(Call, {"type": "MARK_AGENT_GONE", "mark_agent_gone": gone})
        await CHANGES["MARK_AGENT_GONE"](lab.leader, call)
        assert bool(lab.leader.networks.subnets) == is_leased


async def test_node_keeps_its_subnets_until_its_last_agent_is_forgotten() -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock())
    leader = lab.leader
    await leader.networks.create(NetworkSpec("blue", "10.1.0.0/16"), nodes=())
    first, _ = await lab.agent()
    second, _ = await lab.agent(address="198.18.0.3")
    housed = {first.address, second.address}
    await leader.orders.mark_gone(second.id)
    lab.clock.time += 80
    await lab.silence(0)

    await leader.free_nodes(housed)
    assert {lease.node for lease in leader.networks.subnets.values()} == {first.address}
    lab.clock.time += 101
    await leader.observer.prune(most_seconds=100, most_count=10)
    await leader.free_nodes(housed)

    assert not leader.networks.subnets


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """SQLite's own page limit stands in for the disk's end: the error is the same."""
    store = SqliteStore(tmp_path / "registry.db")
    await store.put("a/0", b"x" * 1000)
    store._db.execute("pragma max_page_count = 12")
    kept = 1

    async def fill() -> None:
        nonlocal kept
        while True:
            await store.put(f"a/{kept}", b"x" * 4000)
            kept += 1

    with pytest.raises(UnavailableError, match="full"):
        await fill()

    assert len(await store.list("a")) == kept
    store._db.execute("pragma max_page_count = 1000")
    await store.put("a/more", b"x")
    assert len(await store.list("a")) == kept + 1
    await store.close()
