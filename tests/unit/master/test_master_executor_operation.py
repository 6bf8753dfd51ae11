"""Executors, messages, operations and a framework's changes through a leader's parts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from tests.unit.master.lab import FakeClock
from tests.unit.master.operation_lab import (
    REFINED,
    UUID,
    Json,
    Lab,
    events,
    executor,
    named,
    reserved,
    scalar,
    volume,
)

from phalanx.core.error import InvalidError
from phalanx.core.store.memory import MemoryStore
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.offer import OutstandingInverse
from phalanx.master.cluster.task import is_over
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.recovery import recover
from phalanx.mesos.agent_protocol import AgentMessage
from phalanx.mesos.resources import Resources, summed
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import TimeInfo, Unavailability


@pytest.fixture
async def lab() -> Lab:
    clock = FakeClock()
    config = MasterConfig(work_dir=Path("/nowhere"))
    ids = iter(range(1_000_000))
    leader = await recover(
        config,
        master_info("m1", config.address, 5050, "m"),
        MemoryStore(),
        clock,
        new_id=lambda: f"s{next(ids)}",
        rng=Random(7),
    )
    leader.gate.is_open = leader.gate.has_offers = True
    return Lab(leader, clock)


# Executors


async def test_group_reaches_the_agent_with_its_executor_in_every_task(lab: Lab) -> None:
    agent, wire = await lab.agent()
    framework, stream = lab.framework()
    offer = lab.offer(stream)
    events(wire)

    lab.accept(framework, offer, lab.group(offer, lab.task(offer), lab.task(offer)))

    [run] = events(wire, "RUN_TASK_GROUP")
    assert run["executor"]["framework_id"] == {"value": framework.id}
    tasks = run["task_group"]["tasks"]
    assert [item["executor"] for item in tasks] == [run["executor"]] * 2
    assert [task.executor_id.value for task in framework.tasks.values() if task.executor_id] == [
        "e",
        "e",
    ]
    assert agent.used == Resources.parse("cpus:1.1;mem:160;disk:10")
    assert lab.offer(stream)["executor_ids"] == [{"value": "e"}]


async def test_second_group_does_not_pay_for_the_executor_again(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    for _ in range(2):
        offer = lab.offer(stream)
        lab.accept(framework, offer, lab.group(offer, lab.task(offer)))

    assert len(framework.tasks) == 2
    assert agent.used == Resources.parse("cpus:1.1;mem:160;disk:10")


async def test_end_of_an_executor_frees_what_it_held_and_is_told(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    offer = lab.offer(stream)
    lab.accept(framework, offer, lab.group(offer, lab.task(offer)))

    lab.update(agent, framework, "t1", "TASK_FAILED")
    lab.exit(agent, framework)

    [failure] = events(stream, "FAILURE")
    assert failure == {
        "agent_id": {"value": agent.id},
        "executor_id": {"value": "e"},
        "status": 9,
    }
    assert agent.used == Resources()
    assert framework.scalars == {}


async def test_custom_executor_runs_beside_its_tasks(lab: Lab) -> None:
    agent, wire = await lab.agent()
    framework, stream = lab.framework()
    offer = lab.offer(stream)
    custom = executor() | {"type": "CUSTOM", "command": {"value": "run"}}
    task = lab.task(offer) | {"command": None, "executor": custom}

    lab.accept(framework, offer, {"type": "LAUNCH", "launch": {"task_infos": [task]}})

    [run] = events(wire, "RUN_TASK")
    assert run["task"]["executor"]["framework_id"] == {"value": framework.id}
    assert agent.used == Resources.parse("cpus:0.6;mem:96;disk:10")


async def test_messages_pass_both_ways_and_shutdown_reaches_the_agent(lab: Lab) -> None:
    agent, wire = await lab.agent()
    framework, stream = lab.framework()
    where = {"agent_id": {"value": agent.id}, "executor_id": {"value": "e"}}
    events(wire)

    lab.call(framework, "MESSAGE", **where, data="YQ==")
    lab.call(framework, "SHUTDOWN", **where)
    lab.call(framework, "MESSAGE", **(where | {"agent_id": {"value": "nosuch"}}), data="YQ==")
    back = {
        "framework_id": {"value": framework.id},
        "executor_id": {"value": "e"},
        "data": "Yg==",
    }
    lab.leader.updates.take_message(agent, from_json(AgentMessage, back))

    mine = {"framework_id": {"value": framework.id}, "executor_id": {"value": "e"}}
    message, shutdown = events(wire)
    assert message["message"] == mine | {"data": "YQ=="}
    assert shutdown["shutdown_executor"] == mine
    assert events(stream, "MESSAGE") == [where | {"data": "Yg=="}]


async def test_removed_framework_leaves_no_executor(lab: Lab) -> None:
    agent, wire = await lab.agent()
    framework, stream = lab.framework()
    offer = lab.offer(stream)
    lab.accept(framework, offer, lab.group(offer, lab.task(offer)))

    lab.call(framework, "TEARDOWN")

    assert (agent.executors, agent.used) == ({}, Resources())
    assert len(events(wire, "SHUTDOWN_FRAMEWORK")) == 1


# Operations


async def test_operation_is_booked_carried_out_reported_and_acknowledged(lab: Lab) -> None:
    agent, wire = await lab.agent()
    framework, stream = lab.framework()
    offer = lab.offer(stream)

    lab.accept(framework, offer, named("RESERVE", resources=[reserved("cpus", 1)]))

    [apply] = events(wire, "APPLY_OPERATION")
    assert agent.total.reserved.scalar("cpus") == 1
    [record] = agent.operations.values()
    assert record.latest_status.state == "OPERATION_PENDING"

    lab.report(agent, framework, apply, "OPERATION_FINISHED", uuid={"value": UUID})
    lab.report(agent, framework, apply, "OPERATION_FINISHED", uuid={"value": UUID})
    told = events(stream, "UPDATE_OPERATION_STATUS")
    assert [item["status"] for item in told] == [
        {
            "operation_id": {"value": "op"},
            "state": "OPERATION_FINISHED",
            "uuid": {"value": UUID},
            "agent_id": {"value": agent.id},
        }
    ] * 2

    lab.call(
        framework,
        "ACKNOWLEDGE_OPERATION_STATUS",
        agent_id={"value": agent.id},
        uuid=UUID,
        operation_id={"value": "op"},
    )
    [acknowledged] = events(wire, "ACKNOWLEDGE_OPERATION")
    assert acknowledged == {"operation_uuid": apply["operation_uuid"], "status_uuid": UUID}
    assert agent.operations == {}


async def test_operation_that_fails_at_the_agent_is_undone(lab: Lab) -> None:
    agent, wire = await lab.agent()
    framework, stream = lab.framework()
    before = agent.total
    offer = lab.offer(stream)
    lab.accept(framework, offer, named("RESERVE", resources=[reserved("cpus", 1)]))
    lab.offer(stream)
    [apply] = events(wire, "APPLY_OPERATION")

    lab.report(agent, framework, apply, "OPERATION_FAILED", message="no", uuid={"value": UUID})

    assert agent.total == before
    kinds = [item["type"] for item in events(stream)]
    assert kinds == ["RESCIND", "UPDATE_OPERATION_STATUS"]


async def test_what_an_operation_made_is_offered_again_at_once(lab: Lab) -> None:
    await lab.agent()
    framework, stream = lab.framework()
    offer = lab.offer(stream)
    body = named("RESERVE", resources=[reserved("disk", 100)])

    lab.call(
        framework,
        "ACCEPT",
        offer_ids=[offer["id"]],
        operations=[body],
        filters={"refuse_seconds": 3600},
    )

    again = lab.offer(stream)["resources"]
    assert [item["reservations"] for item in again if "reservations" in item] == [
        [{"type": "DYNAMIC", "role": "web"}]
    ]


@pytest.mark.parametrize("is_refined", [True, False], ids=["refined", "plain"])
async def test_offer_that_is_echoed_back_is_always_taken(lab: Lab, is_refined: bool) -> None:
    agent, _ = await lab.agent()
    more: Json = {} if is_refined else {"roles": (), "role": "web", "capabilities": []}
    framework, stream = lab.framework(**more)
    offer = lab.offer(stream)
    lab.accept(
        framework,
        offer,
        named("RESERVE", resources=[reserved("disk", 100), reserved("cpus", 1)]),
        named("CREATE", volumes=[volume(10)]),
    )

    offer = lab.offer(stream)
    lab.accept(
        framework,
        offer,
        {"type": "LAUNCH", "launch": {"task_infos": [lab.task(offer, *offer["resources"])]}},
    )

    assert [item["status"] for item in events(stream, "UPDATE")] == []
    assert agent.used == agent.total


async def test_shared_volume_is_offered_while_it_is_used_and_destroyed_when_it_is_not(
    lab: Lab,
) -> None:
    agent, wire = await lab.agent()
    capabilities = [{"type": name} for name in (*REFINED, "SHARED_RESOURCES")]
    framework, stream = lab.framework(capabilities=capabilities)
    shared = volume(10) | {"shared": {}}
    offer = lab.offer(stream)
    launch = {"task_infos": [lab.task(offer, scalar("cpus", 1), shared)]}
    lab.accept(
        framework,
        offer,
        named("RESERVE", resources=[reserved("disk", 10)]),
        named("CREATE", volumes=[shared]),
        {"type": "LAUNCH", "launch": launch},
    )

    for id in ("t2", "t3"):
        offer = lab.offer(stream)
        assert [item["disk"]["persistence"]["id"] for item in offer["resources"] if "disk" in item]
        task = lab.task(offer, scalar("cpus", 1), shared)
        assert task["task_id"]["value"] == id
        lab.accept(framework, offer, {"type": "LAUNCH", "launch": {"task_infos": [task]}})
    offer = lab.offer(stream)
    lab.accept(framework, offer, named("DESTROY", volumes=[shared]))
    [refused] = events(stream, "UPDATE_OPERATION_STATUS")
    for id in list(framework.tasks):
        lab.update(agent, framework, id, "TASK_FINISHED")
    offer = lab.offer(stream)
    lab.accept(framework, offer, named("DESTROY", volumes=[shared]))

    assert "Persistent volumes in use" in refused["status"]["message"]
    assert len(events(wire, "APPLY_OPERATION")) == 3
    assert not agent.total.volumes
    assert agent.used == Resources()


async def test_destroying_a_shared_volume_rescinds_the_other_offers_of_it(lab: Lab) -> None:
    await lab.agent()
    capabilities = [{"type": name} for name in (*REFINED, "SHARED_RESOURCES")]
    framework, stream = lab.framework(capabilities=capabilities)
    shared = volume(10) | {"shared": {}}
    offer = lab.offer(stream)
    lab.accept(
        framework,
        offer,
        named("RESERVE", resources=[reserved("disk", 10)]),
        named("CREATE", volumes=[shared]),
    )
    offer = lab.offer(stream)
    other, others = lab.framework(capabilities=capabilities)
    [held] = [item for item in lab.cluster.offers.values() if item.framework_id == framework.id]
    twin = replace(held, id="twin", framework_id=other.id, resources=held.resources.shared)
    lab.cluster.add_offer(twin)

    lab.accept(framework, offer, named("DESTROY", volumes=[shared]))

    assert events(others, "RESCIND") == [{"offer_id": {"value": "twin"}}]
    assert lab.cluster.offers == {}


async def test_operations_are_reconciled(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    offer = lab.offer(stream)
    lab.accept(framework, offer, named("RESERVE", resources=[reserved("cpus", 1)]))
    events(stream)

    lab.call(framework, "RECONCILE_OPERATIONS")
    everything = events(stream, "UPDATE_OPERATION_STATUS")
    lab.call(
        framework,
        "RECONCILE_OPERATIONS",
        operations=[
            {"operation_id": {"value": "op"}},
            {"operation_id": {"value": "a"}},
            {"operation_id": {"value": "b"}, "agent_id": {"value": agent.id}},
            {"operation_id": {"value": "c"}, "agent_id": {"value": "nosuch"}},
        ],
    )
    asked = events(stream, "UPDATE_OPERATION_STATUS")

    assert [item["status"]["state"] for item in everything] == ["OPERATION_PENDING"]
    assert [(item["status"]["state"], item["status"].get("message")) for item in asked] == [
        ("OPERATION_PENDING", None),
        (
            "OPERATION_UNKNOWN",
            "Reconciliation: Operation is unknown and no 'agent_id' was provided",
        ),
        ("OPERATION_UNKNOWN", "Reconciliation: Operation is unknown"),
        ("OPERATION_UNKNOWN", "Reconciliation: Both operation and agent are unknown"),
    ]


# Changes of a framework


async def test_new_info_reaches_every_agent_that_holds_something(lab: Lab) -> None:
    _, wire = await lab.agent()
    _, other = await lab.agent(3)
    framework, stream = lab.framework()
    offer = lab.offer(stream)
    lab.accept(framework, offer, lab.group(offer, lab.task(offer)))
    here, away = (wire, other) if framework.tasks["t1"].agent_id.value == "m1-S0" else (other, wire)
    for sink in (wire, other, stream):
        events(sink)
    info = {
        "user": "root",
        "name": "renamed",
        "failover_timeout": 60.0,
        "roles": ["api"],
        "capabilities": [{"type": name} for name in REFINED],
        "id": {"value": framework.id},
    }

    lab.call(framework, "UPDATE_FRAMEWORK", framework_info=info)
    lab.framework(framework.id, name="again")

    assert [item["framework_info"]["name"] for item in events(here, "UPDATE_FRAMEWORK")] == [
        "renamed",
        "again",
    ]
    assert events(away, "UPDATE_FRAMEWORK") == []
    assert len(events(stream, "RESCIND")) == 1
    with pytest.raises(InvalidError, match=r"^Supplied FrameworkInfo is not valid: "):
        lab.call(framework, "UPDATE_FRAMEWORK", framework_info=info | {"roles": ["-a"]})


async def test_answer_to_an_inverse_offer_is_recorded(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, _ = lab.framework()
    planned = Unavailability(start=TimeInfo(nanoseconds=1))
    for id in ("i1", "i2"):
        lab.cluster.add_inverse_offer(OutstandingInverse(id, framework.id, agent.id, planned))

    lab.call(framework, "ACCEPT_INVERSE_OFFERS", inverse_offer_ids=[{"value": "i1"}])
    accepted = agent.inverse_statuses[framework.id].status
    lab.call(
        framework,
        "DECLINE_INVERSE_OFFERS",
        inverse_offer_ids=[{"value": "i2"}, {"value": "nosuch"}],
    )

    assert (accepted, agent.inverse_statuses[framework.id].status) == ("ACCEPT", "DECLINE")
    assert lab.cluster.inverse_offers == {}


# Books


async def test_books_agree_through_a_random_life_of_operations_and_groups(lab: Lab) -> None:
    rng = Random(5)
    pairs = [await lab.agent(number) for number in (2, 3)]
    framework, stream = lab.framework()
    whole = pairs[0][0].total.plain
    done = 0
    for _ in range(300):
        lab.clock.time += 0.1
        for agent, _wire in pairs:
            assert agent.stream is not None
            lab.leader.observer.hear(agent.stream.id)
        lab.leader.allocator.allocate_once()
        for offers in events(stream, "OFFERS"):
            for offer in offers["offers"]:
                lab.accept(framework, offer, *any_operations(lab, rng, offer))
        for agent, wire in pairs:
            done += carry_out(lab, rng, agent, wire, framework)
            check_books(lab, agent, framework, whole)

    assert lab.launched > 50
    assert done > 50


def any_operations(lab: Lab, rng: Random, offer: Json) -> list[Json]:
    """Return some operations, many of which can't be carried out."""
    size = rng.choice([1, 2, 5])
    held = [item for item in offer["resources"] if item.get("reservations")]
    choices: list[Callable[[], Json]] = [
        lambda: named("RESERVE", resources=[reserved(rng.choice(["cpus", "disk"]), size)]),
        lambda: named("UNRESERVE", resources=held),
        lambda: named("CREATE", volumes=[volume(size, rng.choice(["v", "w"]))]),
        lambda: named("DESTROY", volumes=[item for item in held if item.get("disk")]),
        lambda: named(
            "GROW_VOLUME", volume=volume(size, "v"), addition=reserved("disk", rng.choice([1, 2]))
        ),
        lambda: named("SHRINK_VOLUME", volume=volume(size, "v"), subtract={"value": 1}),
        lambda: lab.group(offer, lab.task(offer), id=rng.choice(["e", "d"])),
        lambda: {
            "type": "LAUNCH",
            "launch": {
                "task_infos": [lab.task(offer, *rng.sample(held, min(1, len(held))))],
            },
        },
    ]
    return [rng.choice(choices)() for _ in range(rng.randrange(4))]


def carry_out(lab: Lab, rng: Random, agent: Agent, wire: Stream, framework: Framework) -> int:
    """Answer what the agent was told, and end some of its tasks; return how many operations."""
    applied = events(wire, "APPLY_OPERATION")
    for apply in applied:
        uuid = {"value": UUID}
        lab.report(agent, framework, apply, "OPERATION_FINISHED", uuid=uuid)
        if rng.random() < 0.8:
            lab.call(
                framework,
                "ACKNOWLEDGE_OPERATION_STATUS",
                agent_id={"value": agent.id},
                uuid=UUID,
                operation_id={"value": "op"},
            )
    for _, id in list(agent.tasks):
        if rng.random() < 0.3:
            lab.update(agent, framework, id, rng.choice(["TASK_RUNNING", "TASK_FAILED"]))
            lab.call(
                framework,
                "ACKNOWLEDGE",
                agent_id={"value": agent.id},
                task_id={"value": id},
                uuid=UUID,
            )
    running = {
        task.executor_id.value
        for task in framework.tasks.values()
        if task.executor_id is not None and task.agent_id.value == agent.id and not is_over(task)
    }
    for _, id in list(agent.executors):
        if id not in running and rng.random() < 0.5:
            lab.exit(agent, framework, id)
    return len(applied)


def check_books(lab: Lab, agent: Agent, framework: Framework, whole: Resources) -> None:
    live = [framework.tasks[id] for _, id in agent.tasks if not is_over(framework.tasks[id])]
    used = summed(
        [
            *(Resources.of(task.resources) for task in live),
            *(Resources.of(item.resources) for item in agent.executors.values()),
        ]
    )
    offered = summed(lab.cluster.offers[id].resources for id in agent.offers)
    assert agent.used == used
    assert agent.offered == offered
    assert agent.used + agent.offered + agent.free == agent.total
    assert agent.total.plain == whole
