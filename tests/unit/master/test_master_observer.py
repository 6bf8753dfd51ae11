"""Agents that fall silent, are cut off, come back or never do; and how fast they are given up."""

import asyncio

import pytest
from tests.unit.master.lab import (
    BreakableStore,
    FakeClock,
    Json,
    Lab,
    events,
    of,
    plain,
    settled,
    states,
)

from phalanx.core.error import UnavailableError
from phalanx.master.agents.liveness import Patience, Verdicts, deafness_of, verdicts
from phalanx.mesos.resources import Resources
from phalanx.net.model.objects import Liveness


async def test_silent_agent_is_suspect_then_unreachable(lab: Lab) -> None:
    agent, _ = await lab.agent()

    found = []
    for seconds in (2.4, 0.2, 72.3, 0.2):
        await lab.silence(seconds)
        found.append(agent.liveness.value)

    assert found == ["alive", "suspect", "suspect", "unreachable"]
    assert lab.leader.registry.records[agent.id].state == "unreachable"


async def test_what_a_busy_leader_did_not_hear_is_no_silence(lab: Lab) -> None:
    spoke, _ = await lab.agent()
    await lab.silence(1.0)
    late, _ = await lab.agent(address="198.18.0.9")
    lab.clock.time += 30.0
    lab.leader.observer.excuse(30.0)  # it slept, and what they said waits to be read

    found = []
    for seconds in (1.4, 0.2, 0.9):
        await lab.silence(seconds)
        found.append((spoke.liveness.value, late.liveness.value))

    assert found == [("alive", "alive"), ("suspect", "alive"), ("suspect", "suspect")]


async def test_leader_that_was_stopped_suspects_nobody_at_once(lab: Lab) -> None:
    agent, _ = await lab.agent()
    watching = asyncio.ensure_future(lab.leader.observer.watch())
    await asyncio.sleep(0)
    lab.clock.time += 30.0
    heard = agent.heard

    while agent.heard == heard:  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0.01)
    watching.cancel()  # it would call the next second deafness as well
    await lab.silence(1.0)

    assert agent.liveness is Liveness.ALIVE
    await lab.silence(2.0)
    assert agent.liveness.value == "suspect"


@pytest.mark.parametrize(
    ("elapsed", "deaf"),
    [
        pytest.param(0.25, 0.0, id="on-time"),
        pytest.param(0.45, 0.0, id="a-little-late"),
        pytest.param(0.75, 0.5, id="late"),
        pytest.param(60.25, 60.0, id="stopped"),
    ],
)
def test_a_pause_that_takes_too_long_is_deafness(elapsed: float, deaf: float) -> None:
    assert deafness_of(elapsed, planned=0.25) == deaf


async def test_who_has_been_silent_longest_is_given_up_first(lab: Lab) -> None:
    heard = [3.0, 1.0, 2.0, 96.0, 99.5, 0.0]
    agents = [(await lab.agent(address=f"198.18.0.{n + 2}"))[0] for n in range(len(heard))]
    for agent, when in zip(agents, heard, strict=True):
        agent.heard = when
    agents[5].liveness = Liveness.UNREACHABLE

    found = verdicts(agents, 100.0, Patience(2.5, 75.0))

    assert found == Verdicts(suspect=(agents[3],), silent=(agents[1], agents[2], agents[0]))


async def test_suspect_agent_loses_its_offers_and_one_sign_of_life_brings_them_back(
    lab: Lab,
) -> None:
    agent, to_agent = await lab.agent()
    _, stream = lab.framework()
    lab.leader.allocator.allocate_once()
    events(stream)

    await lab.silence(3.0)
    assert len(of("RESCIND", stream)) == 1
    assert lab.leader.allocator.allocate_once() == 0

    lab.leader.observer.hear(to_agent.id)
    assert agent.liveness is Liveness.ALIVE
    assert lab.leader.allocator.allocate_once() == 1


@pytest.mark.parametrize(
    ("capabilities", "state"),
    [([], "TASK_LOST"), ([{"type": "PARTITION_AWARE"}], "TASK_UNREACHABLE")],
    ids=["plain", "partition-aware"],
)
async def test_tasks_of_an_unreachable_agent(
    lab: Lab, capabilities: list[Json], state: str
) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework(capabilities=capabilities)
    lab.launch(framework, stream, "t1")
    lab.update(agent, framework, "t1", "TASK_RUNNING")
    events(stream)

    await lab.silence(75.0)

    update, failure = events(stream)
    assert update["update"]["status"]["state"] == state
    assert update["update"]["status"]["reason"] == "REASON_AGENT_REMOVED"
    assert update["update"]["status"]["unreachable_time"]["nanoseconds"] > 0
    assert failure == {"type": "FAILURE", "failure": {"agent_id": {"value": agent.id}}}
    assert framework.tasks == {}
    assert framework.unreachable.keys() == {"t1"}
    assert not agent.used


async def test_returning_agent_restores_its_tasks(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.aware()
    lab.launch(framework, stream, "t1", "t2")
    for task in ("t1", "t2"):
        lab.update(agent, framework, task, "TASK_RUNNING")
    kept = plain(framework.tasks["t1"])
    await lab.silence(75.0)
    events(stream)

    back, _ = await lab.agent(agent.id, tasks=[kept])

    assert back is agent
    assert agent.liveness is Liveness.ALIVE
    assert sorted(states(stream)) == [("t1", "TASK_RUNNING"), ("t2", "TASK_GONE")]
    assert framework.tasks.keys() == {"t1"}
    assert framework.unreachable == {}
    assert agent.used == Resources.parse("cpus:1")
    assert lab.leader.registry.records[agent.id].state == "admitted"


async def test_unreachable_agent_must_subscribe_again(lab: Lab) -> None:
    _, to_agent = await lab.agent()
    await lab.silence(75.0)

    with pytest.raises(UnavailableError, match="is not subscribed"):
        lab.leader.observer.hear(to_agent.id)


async def test_agent_does_not_become_unreachable_while_the_registry_cannot_say_so(
    lab: Lab,
) -> None:
    agent, _ = await lab.agent()
    assert isinstance(lab.store, BreakableStore)
    lab.store.is_broken = True
    await lab.silence(3.0)
    await lab.silence(72.0)
    before = agent.liveness.value
    lab.store.is_broken = False
    await lab.silence(0.25)

    assert (before, agent.liveness.value) == ("suspect", "unreachable")


async def test_broken_stream_keeps_tasks_but_stops_offers(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")

    lab.leader.observer.disconnected(agent, to_agent)

    assert framework.tasks.keys() == {"t1"}
    assert lab.leader.allocator.allocate_once() == 0


@pytest.mark.parametrize(("checkpoint", "found"), [(False, ["TASK_LOST"]), (True, [])])
async def test_tasks_of_a_disconnected_agent_are_lost_unless_their_framework_checkpoints(
    lab: Lab, checkpoint: bool, found: list[str]
) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.framework(checkpoint=checkpoint)
    lab.launch(framework, stream, "t1")
    lab.update(agent, framework, "t1", "TASK_RUNNING")
    lab.leader.observer.disconnected(agent, to_agent)
    await lab.silence(2.4)
    events(stream)

    await lab.silence(0.2)

    statuses = [update["status"] for update in of("UPDATE", stream)]
    assert [status["state"] for status in statuses] == found
    assert {status["reason"] for status in statuses} <= {"REASON_AGENT_DISCONNECTED"}
    assert framework.tasks.keys() == (set() if found else {"t1"})
    assert bool(agent.used) is not bool(found)


async def test_an_agent_that_is_suspect_already_loses_tasks_with_its_connection(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")
    await lab.silence(5.0)
    events(stream)

    lab.leader.observer.disconnected(agent, to_agent)

    assert states(stream) == [("t1", "TASK_LOST")]


async def test_silent_agent_that_is_replaced_meanwhile_is_not_given_up(lab: Lab) -> None:
    assert isinstance(lab.store, BreakableStore)
    await lab.agent()
    lab.store.gate = asyncio.Event()
    replacing = asyncio.ensure_future(lab.agent())
    await settled()
    watching = asyncio.ensure_future(lab.silence(80))
    await settled()

    lab.store.gate.set()
    new, _ = await replacing
    await watching

    assert lab.cluster.agents.keys() == {new.id}
    assert new.liveness is Liveness.ALIVE


async def test_silent_agent_that_registers_meanwhile_is_not_given_up(lab: Lab) -> None:
    assert isinstance(lab.store, BreakableStore)
    agent, _ = await lab.agent()
    lab.clock.time += 80
    lab.store.gate = asyncio.Event()
    moving = asyncio.ensure_future(lab.agent(agent.id, rack="r9"))
    await settled()
    watching = asyncio.ensure_future(lab.silence(0))
    await settled()

    lab.store.gate.set()
    _, stream = await moving
    await watching

    assert agent.liveness is Liveness.ALIVE
    assert agent.stream is stream
    assert lab.leader.registry.records[agent.id].state == "admitted"


async def test_agent_that_never_returns_is_given_up(lab: Lab) -> None:
    agent, _ = await lab.agent()
    after = await Lab.begin(lab.store, lab.clock, number=2)

    await after.leader.observer.give_up_recovered()

    assert after.cluster.recovered == {}
    assert after.cluster.agents[agent.id].liveness is Liveness.UNREACHABLE
    assert after.leader.registry.records[agent.id].state == "unreachable"

    framework, stream = after.aware()
    events(stream)
    task = {
        "name": "t1",
        "task_id": {"value": "t1"},
        "agent_id": {"value": agent.id},
        "framework_id": {"value": framework.id},
        "state": "TASK_RUNNING",
    }
    await after.agent(agent.id, tasks=[task])
    assert states(stream) == [("t1", "TASK_RUNNING")]


async def test_agents_become_unreachable_no_faster_than_the_limit() -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock(), agent_removal_rate_limit="1/100secs")
    for number in range(3):
        await lab.agent(address=f"198.18.0.{number + 2}")

    for expected in (1, 1, 2, 3):
        lab.clock.time += 80
        await lab.silence(0)
        away = [a for a in lab.cluster.agents.values() if a.unreachable_since is not None]
        assert len(away) == expected
        lab.clock.time += 0 if expected == 1 else 50


async def test_a_leader_that_misses_too_many_ends_instead_of_giving_them_up() -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock())
    for number in range(4):
        await lab.agent(f"S{number}", address=f"198.18.0.{number + 2}")
    lab = await Lab.begin(lab.store, lab.clock, number=2, recovery_agent_removal_limit="70%")
    await lab.agent("S0", address="198.18.0.2")
    observer = lab.leader.observer

    with pytest.raises(UnavailableError, match="3 of 4 agents"):
        await observer.give_up_recovered()

    await lab.agent("S1", address="198.18.0.3")
    await observer.give_up_recovered()
    assert not lab.cluster.recovered


async def test_old_agents_are_pruned_from_registry_and_memory() -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock())
    first, _ = await lab.agent()
    second, _ = await lab.agent(address="198.18.0.3")
    await lab.leader.orders.mark_gone(second.id)
    lab.clock.time += 80
    await lab.silence(0)

    await lab.leader.observer.prune(most_seconds=100, most_count=10)
    assert first.id in lab.cluster.agents
    lab.clock.time += 101
    await lab.leader.observer.prune(most_seconds=100, most_count=10)

    assert first.id not in lab.cluster.agents
    assert second.id not in lab.cluster.gone
    assert not await lab.store.list("agents")
