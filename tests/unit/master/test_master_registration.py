"""Agents that register, come back with their tasks, or unregister."""

import asyncio

import pytest
from tests.unit.master.lab import BreakableStore, Lab, events, of, plain, settled, states

from phalanx.core.error import UnavailableError
from phalanx.mesos.resources import Resources


async def next_leader(lab: Lab) -> Lab:
    return await Lab.begin(lab.store, lab.clock, number=2)


async def test_agent_is_admitted_into_the_registry_before_it_is_told(lab: Lab) -> None:
    assert isinstance(lab.store, BreakableStore)
    lab.store.is_broken = True

    with pytest.raises(UnavailableError, match="full"):
        await lab.agent()

    assert lab.cluster.agents == {}


async def test_a_task_that_was_told_lost_and_comes_back_is_killed(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")
    lab.update(agent, framework, "t1", "TASK_RUNNING")
    task = plain(framework.tasks["t1"])
    lab.leader.observer.disconnected(agent, to_agent)
    await lab.silence(4.0)
    events(stream)

    _, back = await lab.agent(agent.id, tasks=[task])

    [kill] = of("KILL_TASK", back)
    assert kill["task_id"] == {"value": "t1"}
    assert kill["kill_policy"] == {"grace_period": {"nanoseconds": 0}}
    assert states(stream) == []
    assert not framework.tasks
    assert not agent.used


@pytest.mark.parametrize(
    ("checkpoint", "reason"),
    [(False, "REASON_AGENT_DISCONNECTED"), (True, "REASON_RECONCILIATION")],
)
async def test_a_restarted_agent_without_the_task_ends_it(
    lab: Lab, checkpoint: bool, reason: str
) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework(checkpoint=checkpoint)
    lab.launch(framework, stream, "t1")
    lab.update(agent, framework, "t1", "TASK_RUNNING")
    events(stream)

    await lab.agent(agent.id)

    [update] = of("UPDATE", stream)
    assert (update["status"]["state"], update["status"]["reason"]) == ("TASK_LOST", reason)


async def test_second_process_of_an_agent_replaces_the_first(lab: Lab) -> None:
    agent, old = await lab.agent()

    again, new = await lab.agent(agent.id)

    assert again is agent
    assert old.is_closed
    assert agent.stream is new
    lab.leader.observer.disconnected(agent, old)
    assert agent.is_connected


async def test_task_that_the_agent_never_got_is_dropped(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.aware()
    lab.launch(framework, stream, "t1")
    events(stream)

    await lab.agent(agent.id)

    assert states(stream) == [("t1", "TASK_DROPPED")]
    assert not agent.used


async def test_new_agent_at_an_old_address_ends_the_old_one(lab: Lab) -> None:
    old, _ = await lab.agent()
    framework, stream = lab.aware()
    lab.launch(framework, stream, "t1")
    events(stream)

    new, _ = await lab.agent()

    assert new.id != old.id
    assert lab.cluster.agents.keys() == {new.id}
    assert states(stream) == [("t1", "TASK_GONE")]
    assert lab.leader.registry.records.keys() == {new.id}


async def test_agent_that_hangs_up_while_it_replaces_another_leaves_no_trace(lab: Lab) -> None:
    assert isinstance(lab.store, BreakableStore)
    await lab.agent()
    lab.store.gate = asyncio.Event()
    replacing = asyncio.ensure_future(lab.agent())
    await settled()
    replacing.cancel()
    await settled()

    lab.store.gate.set()
    await settled()

    assert not lab.cluster.agents
    assert not lab.leader.registry.records
    await lab.silence(80)


async def test_new_leader_waits_for_the_agents_of_the_registry(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")
    lab.update(agent, framework, "t1", "TASK_RUNNING")
    told = {
        "tasks": [plain(framework.tasks["t1"])],
        "frameworks": [plain(framework.info)],
    }

    after = await Lab.begin(lab.store, lab.clock, number=2)
    assert after.cluster.recovered.keys() == {agent.id}
    _, early = after.framework()
    assert after.leader.allocator.allocate_once() == 0
    assert of("OFFERS", early) == []

    back, _ = await after.agent(agent.id, **told)  # type: ignore[arg-type]  # two lists of objects
    assert after.cluster.recovered == {}
    assert back.used == Resources.parse("cpus:1")
    recovered = after.cluster.frameworks[framework.id]
    assert recovered.is_recovered

    again, again_stream = after.framework(framework.id)
    assert again is recovered
    assert again.tasks.keys() == {"t1"}
    events(again_stream)
    after.call(again, "RECONCILE")
    assert states(again_stream) == [("t1", "TASK_RUNNING")]


async def test_tasks_of_a_framework_that_is_over_are_ended_on_the_agent(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")
    task = plain(framework.tasks["t1"])
    lab.call(framework, "TEARDOWN")

    _, back = await lab.agent(agent.id, tasks=[task], frameworks=[plain(framework.info)])

    assert [item["framework_id"]["value"] for item in of("SHUTDOWN_FRAMEWORK", back)] == [
        framework.id
    ]
    assert not agent.used


async def test_an_agent_that_unregisters_is_forgotten(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, updates = lab.framework()
    lab.launch(framework, updates, "t")

    await lab.leader.registration.unregister(agent)

    assert agent.id not in lab.cluster.agents
    assert states(updates) == [("t", "TASK_LOST")]
    assert not (await next_leader(lab)).cluster.recovered
