"""What operators do with agents: drain, deactivate, mark gone, take machines down."""

from ipaddress import IPv4Address

import pytest
from tests.unit.master.lab import ADDRESS, BreakableStore, Json, Lab, events, of, states

from phalanx.core.error import InvalidError, NotFoundError, UnavailableError
from phalanx.master.agents.drain import correction
from phalanx.mesos.agent_protocol import AgentSubscribe, Drain
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import DrainConfig, DrainInfo, DurationInfo, MachineID, MachineInfo

GRACE = DurationInfo(nanoseconds=5_000_000_000)


async def next_leader(lab: Lab) -> Lab:
    return await Lab.begin(lab.store, lab.clock, number=2)


async def test_a_draining_agent_is_told_and_offered_no_more(lab: Lab) -> None:
    agent, stream = await lab.agent()
    framework, offers = lab.framework()
    lab.launch(framework, offers, "t")
    lab.leader.allocator.allocate_once()
    events(stream)

    await lab.leader.orders.drain(agent.id, GRACE)

    [drain] = of("DRAIN", stream)
    assert drain["config"]["max_grace_period"] == {"nanoseconds": 5_000_000_000}
    assert agent.drain is not None
    assert agent.drain.state == "DRAINING"
    assert not agent.offers
    assert lab.leader.allocator.allocate_once() == 0


async def test_an_agent_without_anything_has_drained_at_once(lab: Lab) -> None:
    agent, _ = await lab.agent()

    await lab.leader.orders.drain(agent.id, GRACE)

    assert agent.drain is not None
    assert agent.drain.state == "DRAINED"


async def test_an_agent_has_drained_when_its_last_update_is_acknowledged(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t")
    await lab.leader.orders.drain(agent.id)
    await lab.silence(0)
    lab.update(agent, framework, "t", "TASK_KILLED")
    await lab.silence(0)
    assert agent.drain is not None
    assert agent.drain.state == "DRAINING"

    lab.acknowledge(agent, framework, "t")
    await lab.silence(0)

    assert agent.drain.state == "DRAINED"
    assert agent.is_deactivated
    await lab.leader.orders.reactivate(agent.id)
    assert agent.drain is None
    assert lab.leader.allocator.allocate_once() == 1


async def test_a_draining_agent_cannot_be_reactivated(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t")
    await lab.leader.orders.drain(agent.id)

    with pytest.raises(InvalidError, match="still in the DRAINING state"):
        await lab.leader.orders.reactivate(agent.id)


async def test_an_agent_goes_for_ever_after_its_drain_if_that_was_asked(lab: Lab) -> None:
    agent, stream = await lab.agent()

    await lab.leader.orders.drain(agent.id, mark_gone=True)
    await lab.silence(0)

    assert agent.id in lab.cluster.gone
    assert agent.id not in lab.cluster.agents
    assert of("SHUTDOWN", stream)


async def test_a_drain_goes_on_under_the_next_leader(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t")
    await lab.leader.orders.drain(agent.id, GRACE)
    task: Json = {
        "name": "t",
        "task_id": {"value": "t"},
        "framework_id": {"value": framework.id},
        "agent_id": {"value": agent.id},
        "state": "TASK_RUNNING",
        "resources": [],
    }
    info = {"id": {"value": framework.id}, "user": "root", "name": "marathon"}

    lab = await next_leader(lab)
    again, stream = await lab.agent(agent.id, tasks=[task], frameworks=[info])

    assert again.is_deactivated
    [drain] = of("DRAIN", stream)
    assert drain["config"]["max_grace_period"] == {"nanoseconds": 5_000_000_000}
    framework, _ = lab.framework(framework.id)
    lab.update(again, framework, "t", "TASK_KILLED")
    lab.acknowledge(again, framework, "t")
    await lab.silence(0)
    assert again.drain is not None
    assert again.drain.state == "DRAINED"

    lab = await next_leader(lab)
    third, stream = await lab.agent(agent.id)
    assert third.drain is not None
    assert third.drain.state == "DRAINED"
    assert not of("DRAIN", stream)


async def test_an_agent_that_is_away_drains_when_it_returns(lab: Lab) -> None:
    agent, _ = await lab.agent()
    lab.clock.time += 80
    await lab.silence(0)
    assert agent.unreachable_since is not None

    await lab.leader.orders.drain(agent.id)
    await lab.silence(0)
    assert agent.drain is not None
    assert agent.drain.state == "DRAINING"  # nobody knows what runs there

    _, stream = await lab.agent(agent.id)
    assert of("DRAIN", stream)
    await lab.silence(0)
    assert agent.drain.state == "DRAINED"


async def test_an_agent_that_believes_to_drain_is_told_better(lab: Lab) -> None:
    agent, _ = await lab.agent()
    await lab.leader.orders.drain(agent.id)
    await lab.silence(0)
    lab.leader.observer.disconnected(agent, agent.stream)  # type: ignore[arg-type]  # it has one
    await lab.leader.orders.reactivate(agent.id)

    subscribe = from_json(
        AgentSubscribe,
        {
            "agent_info": {"hostname": "a1", "id": {"value": agent.id}},
            "version": "1.11.0",
            "drain": {"mark_gone": False},
        },
    )
    _, stream = await lab.leader.registration.subscribe(subscribe, agent.address)

    assert of("DRAIN", stream) == [{}]


async def test_a_deactivated_agent_keeps_its_tasks_and_gets_no_new_ones(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t")

    await lab.leader.orders.deactivate(agent.id)

    assert lab.leader.allocator.allocate_once() == 0
    assert agent.tasks
    lab = await next_leader(lab)
    again, _ = await lab.agent(agent.id)
    assert again.is_deactivated
    await lab.leader.orders.reactivate(agent.id)
    assert not again.is_deactivated


async def test_what_cannot_be_written_is_not_done(lab: Lab) -> None:
    assert isinstance(lab.store, BreakableStore)
    agent, stream = await lab.agent()
    lab.store.is_broken = True
    events(stream)

    for change in (
        lab.leader.orders.drain(agent.id),
        lab.leader.orders.deactivate(agent.id),
        lab.leader.orders.mark_gone(agent.id),
    ):
        with pytest.raises(UnavailableError, match="full"):
            await change

    assert agent.drain is None
    assert not agent.is_deactivated
    assert agent.id in lab.cluster.agents
    assert not events(stream)


async def test_nobody_knows_an_unknown_agent(lab: Lab) -> None:
    for change in (
        lab.leader.orders.drain("x"),
        lab.leader.orders.deactivate("x"),
        lab.leader.orders.reactivate("x"),
        lab.leader.orders.mark_gone("x"),
    ):
        with pytest.raises(NotFoundError):
            await change


async def test_agents_of_a_machine_that_is_down_end_and_may_not_return(lab: Lab) -> None:
    agent, stream = await lab.agent()
    framework, updates = lab.framework(capabilities=[{"type": "PARTITION_AWARE"}])
    lab.launch(framework, updates, "t")
    machine = MachineInfo(id=MachineID(hostname="a1"), mode="DOWN")
    lab.cluster.machines[machine.id] = machine

    lab.leader.orders.shut_down([agent], "Operator initiated 'Machine DOWN'")

    assert of("SHUTDOWN", stream) == [{"message": "Operator initiated 'Machine DOWN'"}]
    assert states(updates) == [("t", "TASK_GONE")]
    assert agent.id not in lab.cluster.agents
    assert await lab.refused(id=agent.id) == "Machine is `DOWN`"
    lab.cluster.machines.clear()
    again, _ = await lab.agent(agent.id)
    assert again.id == agent.id


async def test_agent_marked_gone_may_not_return(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.aware()
    lab.launch(framework, stream, "t1")
    events(stream)
    events(to_agent)

    await lab.leader.orders.mark_gone(agent.id)

    assert states(stream) == [("t1", "TASK_GONE_BY_OPERATOR")]
    assert len(of("SHUTDOWN", to_agent)) == 1
    subscribe = from_json(
        AgentSubscribe,
        {"agent_info": {"hostname": "a1", "id": {"value": agent.id}}, "version": "1"},
    )
    refused, reply = await lab.leader.registration.subscribe(subscribe, IPv4Address(ADDRESS))
    assert refused is None
    assert of("SHUTDOWN", reply) == [{"message": "Agent has been marked gone"}]


CONFIG = DrainConfig(mark_gone=True)


@pytest.mark.parametrize(
    ("wanted", "known", "said"),
    [
        pytest.param(None, None, None, id="neither-drains"),
        pytest.param(None, CONFIG, Drain(), id="it-drains-in-vain"),
        pytest.param("DRAINING", None, Drain(config=CONFIG), id="it-was-away"),
        pytest.param("DRAINING", CONFIG, Drain(config=CONFIG), id="told-again"),
        pytest.param("DRAINED", CONFIG, None, id="done"),
    ],
)
def test_what_an_agent_that_registers_is_told_of_its_drain(
    wanted: str | None, known: DrainConfig | None, said: Drain | None
) -> None:
    ordered = None if wanted is None else DrainInfo(state=wanted, config=CONFIG)

    assert correction(ordered, known) == said
