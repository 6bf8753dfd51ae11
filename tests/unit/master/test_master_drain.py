"""What operators do with agents: drain, deactivate, mark gone, take machines down; and who asks."""

from ipaddress import IPv4Address

import msgspec
import pytest
from tests.unit.master.test_master_lifecycle import (
    BreakableStore,
    FakeClock,
    Json,
    Lab,
    events,
    of,
    states,
)

from phalanx.core.error import InvalidError, NotFoundError, UnavailableError
from phalanx.master.network.definition import NetworkSpec
from phalanx.mesos.agent_protocol import AgentSubscribe
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import DurationInfo, MachineID, MachineInfo

GRACE = DurationInfo(nanoseconds=5_000_000_000)


@pytest.fixture
async def lab() -> Lab:
    return await Lab.begin(BreakableStore(), FakeClock())


async def next_leader(lab: Lab) -> Lab:
    return await Lab.begin(lab.store, lab.clock, number=2)


async def test_a_draining_agent_is_told_and_offered_no_more(lab: Lab) -> None:
    agent, stream = await lab.agent()
    framework, offers = lab.framework()
    lab.launch(framework, offers, "t")
    lab.leader.allocator.allocate_once()
    events(stream)

    await lab.leader.agents.drain(agent.id, GRACE)

    [drain] = of("DRAIN", stream)
    assert drain["config"]["max_grace_period"] == {"nanoseconds": 5_000_000_000}
    assert agent.drain is not None
    assert agent.drain.state == "DRAINING"
    assert not agent.offers
    assert lab.leader.allocator.allocate_once() == 0


async def test_an_agent_without_anything_has_drained_at_once(lab: Lab) -> None:
    agent, _ = await lab.agent()

    await lab.leader.agents.drain(agent.id, GRACE)

    assert agent.drain is not None
    assert agent.drain.state == "DRAINED"


async def test_an_agent_has_drained_when_its_last_update_is_acknowledged(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t")
    await lab.leader.agents.drain(agent.id)
    await lab.silence(0)
    lab.update(agent, framework, "t", "TASK_KILLED")
    await lab.silence(0)
    assert agent.drain is not None
    assert agent.drain.state == "DRAINING"

    lab.acknowledge(agent, framework, "t")
    await lab.silence(0)

    assert agent.drain.state == "DRAINED"
    assert agent.is_deactivated
    await lab.leader.agents.reactivate(agent.id)
    assert agent.drain is None
    assert lab.leader.allocator.allocate_once() == 1


async def test_a_draining_agent_cannot_be_reactivated(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t")
    await lab.leader.agents.drain(agent.id)

    with pytest.raises(InvalidError, match="still in the DRAINING state"):
        await lab.leader.agents.reactivate(agent.id)


async def test_an_agent_goes_for_ever_after_its_drain_if_that_was_asked(lab: Lab) -> None:
    agent, stream = await lab.agent()

    await lab.leader.agents.drain(agent.id, mark_gone=True)
    await lab.silence(0)

    assert agent.id in lab.cluster.gone
    assert agent.id not in lab.cluster.agents
    assert of("SHUTDOWN", stream)


async def test_a_drain_goes_on_under_the_next_leader(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t")
    await lab.leader.agents.drain(agent.id, GRACE)
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

    await lab.leader.agents.drain(agent.id)
    await lab.silence(0)
    assert agent.drain is not None
    assert agent.drain.state == "DRAINING"  # nobody knows what runs there

    _, stream = await lab.agent(agent.id)
    assert of("DRAIN", stream)
    await lab.silence(0)
    assert agent.drain.state == "DRAINED"


async def test_an_agent_that_believes_to_drain_is_told_better(lab: Lab) -> None:
    agent, _ = await lab.agent()
    await lab.leader.agents.drain(agent.id)
    await lab.silence(0)
    lab.leader.agents.disconnected(agent, agent.stream)  # type: ignore[arg-type]  # it has one
    await lab.leader.agents.reactivate(agent.id)

    subscribe = from_json(
        AgentSubscribe,
        {
            "agent_info": {"hostname": "a1", "id": {"value": agent.id}},
            "version": "1.11.0",
            "drain": {"mark_gone": False},
        },
    )
    _, stream = await lab.leader.agents.subscribe(subscribe, agent.address)

    assert of("DRAIN", stream) == [{}]


async def test_a_deactivated_agent_keeps_its_tasks_and_gets_no_new_ones(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t")

    await lab.leader.agents.deactivate(agent.id)

    assert lab.leader.allocator.allocate_once() == 0
    assert agent.tasks
    lab = await next_leader(lab)
    again, _ = await lab.agent(agent.id)
    assert again.is_deactivated
    await lab.leader.agents.reactivate(agent.id)
    assert not again.is_deactivated


async def test_what_cannot_be_written_is_not_done(lab: Lab) -> None:
    assert isinstance(lab.store, BreakableStore)
    agent, stream = await lab.agent()
    lab.store.is_broken = True
    events(stream)

    for change in (
        lab.leader.agents.drain(agent.id),
        lab.leader.agents.deactivate(agent.id),
        lab.leader.agents.mark_gone(agent.id),
    ):
        with pytest.raises(UnavailableError, match="full"):
            await change

    assert agent.drain is None
    assert not agent.is_deactivated
    assert agent.id in lab.cluster.agents
    assert not events(stream)


async def test_nobody_knows_an_unknown_agent(lab: Lab) -> None:
    for change in (
        lab.leader.agents.drain("x"),
        lab.leader.agents.deactivate("x"),
        lab.leader.agents.reactivate("x"),
        lab.leader.agents.mark_gone("x"),
    ):
        with pytest.raises(NotFoundError):
            await change


async def test_agents_of_a_machine_that_is_down_end_and_may_not_return(lab: Lab) -> None:
    agent, stream = await lab.agent()
    framework, updates = lab.framework(capabilities=[{"type": "PARTITION_AWARE"}])
    lab.launch(framework, updates, "t")
    machine = MachineInfo(id=MachineID(hostname="a1"), mode="DOWN")
    lab.cluster.machines[machine.id] = machine

    lab.leader.agents.shut_down([agent], "Operator initiated 'Machine DOWN'")

    assert of("SHUTDOWN", stream) == [{"message": "Operator initiated 'Machine DOWN'"}]
    assert states(updates) == [("t", "TASK_GONE")]
    assert agent.id not in lab.cluster.agents
    assert await refused(lab, id=agent.id) == "Machine is `DOWN`"
    lab.cluster.machines.clear()
    again, _ = await lab.agent(agent.id)
    assert again.id == agent.id


async def test_an_agent_that_unregisters_is_forgotten(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, updates = lab.framework()
    lab.launch(framework, updates, "t")

    await lab.leader.agents.unregister(agent)

    assert agent.id not in lab.cluster.agents
    assert states(updates) == [("t", "TASK_LOST")]
    assert not (await next_leader(lab)).cluster.recovered


async def refused(
    lab: Lab, *, id: str, address: str = "198.18.0.2", hostname: str = "a1"
) -> str | None:
    """Return why an agent is refused."""
    body = {"agent_info": {"hostname": hostname, "id": {"value": id}}, "version": "1.11.0"}
    agent, stream = await lab.leader.agents.subscribe(
        from_json(AgentSubscribe, body), IPv4Address(address)
    )
    if agent is not None:
        return None
    [shutdown] = of("SHUTDOWN", stream)
    return str(shutdown["message"])


@pytest.mark.parametrize(
    "elsewhere", [{"address": "198.18.0.9"}, {"hostname": "a2"}], ids=["address", "hostname"]
)
async def test_a_copy_of_a_registered_agent_is_refused(lab: Lab, elsewhere: dict[str, str]) -> None:
    agent, _ = await lab.agent()
    words = "Agent attempted to re-register with different IP / hostname"

    if "address" in elsewhere:
        with pytest.raises(UnavailableError, match=r"heard at 198\.18\.0\.2 a moment ago"):
            await refused(lab, id=agent.id, **elsewhere)
        lab.clock.time += 1
        agent.heard = lab.clock.time
    assert await refused(lab, id=agent.id, **elsewhere) == words
    assert agent.is_connected

    lab.clock.time += 80
    await lab.silence(0)
    assert await refused(lab, id=agent.id, **elsewhere) is None  # it may have moved


async def test_an_agent_that_moved_is_taken_once_it_is_silent_and_keeps_its_subnets(
    lab: Lab,
) -> None:
    agent, _ = await lab.agent()
    networks = lab.leader.networks
    old, new = agent.address, IPv4Address("198.18.0.9")
    await networks.create(NetworkSpec("blue", "10.1.0.0/16"), nodes=[old])
    [before] = networks.leases_of("blue")

    with pytest.raises(UnavailableError, match="a moment ago"):
        await refused(lab, id=agent.id, address=str(new))
    await lab.silence(3)

    assert await refused(lab, id=agent.id, address=str(new)) is None
    assert agent.address == new
    assert networks.leases_of("blue") == [msgspec.structs.replace(before, node=new)]


async def test_an_agent_that_moved_is_no_copy_for_what_a_busy_leader_did_not_hear(
    lab: Lab,
) -> None:
    agent, _ = await lab.agent()
    new = "198.18.0.9"
    lab.clock.time += 1
    with pytest.raises(UnavailableError, match="a moment ago"):
        await refused(lab, id=agent.id, address=new)

    lab.clock.time += 1.5
    lab.leader.agents.excuse(1.5)

    with pytest.raises(UnavailableError, match="a moment ago"):
        await refused(lab, id=agent.id, address=new)
    await lab.silence(3)
    assert await refused(lab, id=agent.id, address=new) is None


async def test_a_copy_is_told_from_an_agent_that_moved_by_a_leader_that_was_busy(lab: Lab) -> None:
    agent, stream = await lab.agent()
    new = "198.18.0.9"
    with pytest.raises(UnavailableError, match="a moment ago"):
        await refused(lab, id=agent.id, address=new)
    lab.clock.time += 1.5
    lab.leader.agents.excuse(1.5)

    lab.clock.time += 1
    lab.leader.agents.hear(stream.id)

    assert "different IP / hostname" in str(await refused(lab, id=agent.id, address=new))


async def test_subnets_of_a_node_with_two_agents_stay_when_one_moves(lab: Lab) -> None:
    agent, _ = await lab.agent()
    other = {"agent_info": {"hostname": "a1", "port": 5052}, "version": "1.11.0"}
    await lab.leader.agents.subscribe(from_json(AgentSubscribe, other), agent.address)
    networks = lab.leader.networks
    old, new = agent.address, IPv4Address("198.18.0.9")
    await networks.create(NetworkSpec("blue", "10.1.0.0/16"), nodes=[old])
    await lab.silence(3)

    assert await refused(lab, id=agent.id, address=str(new)) is None
    assert {str(lease.node): str(lease.subnet) for lease in networks.leases_of("blue")} == {
        str(old): "10.1.0.0/24",
        str(new): "10.1.1.0/24",
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"version": "0.28.2"}, "version: '0.28.2' is older than 1.0.0"),
        ({"version": "new"}, "version: 'new' is no version"),
        (
            {
                "agent_info": {
                    "hostname": "a",
                    "domain": {"fault_domain": {"region": {"name": "r"}, "zone": {"name": "z"}}},
                }
            },
            "fault domain, but the master is not",
        ),
    ],
    ids=["old", "strange", "domain"],
)
async def test_who_cannot_be_an_agent_is_told_why(lab: Lab, more: Json, message: str) -> None:
    body = {"agent_info": {"hostname": "a"}, "version": "1.11.0", **more}

    with pytest.raises(InvalidError, match=message):
        await lab.leader.agents.subscribe(
            from_json(AgentSubscribe, body), IPv4Address("198.18.0.2")
        )
