"""Offers, frameworks and tasks through a leader's parts, on a clock that the test moves."""

from random import Random
from typing import Any

import pytest
from tests.unit.master.lab import ADDRESS, Lab, events, of, plain, states

from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.scheduler import Subscribe

LIVE = ("TASK_STAGING", "TASK_RUNNING")


# Offers


async def test_offer_holds_all_that_is_left_and_names_no_role_for_single_role(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.leader.allocator.allocate_once()

    [offers] = of("OFFERS", stream)
    [offer] = offers["offers"]

    assert offer["framework_id"] == {"value": framework.id}
    assert offer["agent_id"] == {"value": agent.id}
    assert "allocation_info" not in offer
    assert {item["name"]: item["scalar"]["value"] for item in offer["resources"]} == {
        "cpus": 4.0,
        "mem": 1024.0,
    }
    assert not any("allocation_info" in item for item in offer["resources"])
    assert offer["url"]["address"]["ip"] == ADDRESS


async def test_offer_names_the_role_for_multi_role(lab: Lab) -> None:
    await lab.agent()
    _, stream = lab.framework(roles=["web"], capabilities=[{"type": "MULTI_ROLE"}])
    lab.leader.allocator.allocate_once()

    [offers] = of("OFFERS", stream)
    [offer] = offers["offers"]

    assert offer["allocation_info"] == {"role": "web"}
    assert all(item["allocation_info"] == {"role": "web"} for item in offer["resources"])


async def test_framework_without_roles_gets_no_offers(lab: Lab) -> None:
    await lab.agent()
    lab.framework(capabilities=[{"type": "MULTI_ROLE"}])

    assert lab.leader.allocator.allocate_once() == 0


async def test_declined_offer_stays_away_until_its_filter_ends(lab: Lab) -> None:
    await lab.agent()
    framework, stream = lab.framework()
    lab.leader.allocator.allocate_once()
    [offers] = of("OFFERS", stream)
    lab.call(framework, "DECLINE", offer_ids=[offers["offers"][0]["id"]])

    assert lab.leader.allocator.allocate_once() == 0
    lab.clock.time += 5.1
    assert lab.leader.allocator.allocate_once() == 1


@pytest.mark.parametrize(
    ("more", "offers"),
    [({}, 0), ({"cpus": 2}, 1), ({"rack": "r2"}, 1)],
    ids=["the-same", "other-total", "other-attributes"],
)
async def test_agent_that_changed_is_offered_in_spite_of_filters(
    lab: Lab, more: dict[str, Any], offers: int
) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.leader.allocator.allocate_once()
    [first] = of("OFFERS", stream)
    ids = [offer["id"] for offer in first["offers"]]
    lab.call(framework, "DECLINE", offer_ids=ids, filters={"refuse_seconds": 1000})

    await lab.agent(agent.id, **more)

    assert lab.leader.allocator.allocate_once() == offers


async def test_revive_drops_filters_and_suppression(lab: Lab) -> None:
    await lab.agent()
    framework, stream = lab.framework()
    lab.leader.allocator.allocate_once()
    [offers] = of("OFFERS", stream)
    lab.call(
        framework,
        "DECLINE",
        offer_ids=[offers["offers"][0]["id"]],
        filters={"refuse_seconds": 3600},
    )
    lab.call(framework, "SUPPRESS")

    assert lab.leader.allocator.allocate_once() == 0
    lab.call(framework, "REVIVE")
    assert lab.leader.allocator.allocate_once() == 1


async def test_suppress_of_a_foreign_role_is_ignored(lab: Lab) -> None:
    await lab.agent()
    framework, _ = lab.framework()
    lab.call(framework, "SUPPRESS", roles=["other"])

    assert lab.leader.allocator.allocate_once() == 1


async def test_resources_are_offered_to_one_framework_at_a_time(lab: Lab) -> None:
    await lab.agent()
    lab.framework()
    lab.framework()

    assert lab.leader.allocator.allocate_once() == 1
    assert lab.leader.allocator.allocate_once() == 0


# Tasks


async def test_task_is_launched_updated_acknowledged_and_completed(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")

    [run] = of("RUN_TASK", to_agent)
    assert run["task"]["task_id"] == {"value": "t1"}
    assert agent.used == Resources.parse("cpus:1")

    lab.update(agent, framework, "t1", "TASK_RUNNING")
    assert states(stream) == [("t1", "TASK_RUNNING")]
    lab.acknowledge(agent, framework, "t1")
    assert len(of("ACKNOWLEDGE_UPDATE", to_agent)) == 1
    assert framework.tasks["t1"].state == "TASK_RUNNING"

    lab.update(agent, framework, "t1", "TASK_FINISHED")
    assert not agent.used
    assert framework.tasks["t1"].state == "TASK_FINISHED"
    lab.acknowledge(agent, framework, "t1")
    assert framework.tasks == {}
    assert [task.state for task in framework.completed] == ["TASK_FINISHED"]


async def test_terminal_state_is_never_left(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")

    lab.update(agent, framework, "t1", "TASK_FAILED")
    lab.update(agent, framework, "t1", "TASK_RUNNING")

    assert framework.tasks["t1"].state == "TASK_FAILED"
    assert not agent.used


async def test_offer_that_is_gone_drops_the_task(lab: Lab) -> None:
    await lab.agent()
    framework, stream = lab.framework()
    operation = {
        "type": "LAUNCH",
        "launch": {
            "task_infos": [{"name": "t", "task_id": {"value": "t1"}, "agent_id": {"value": "a"}}]
        },
    }
    events(stream)

    lab.call(framework, "ACCEPT", offer_ids=[{"value": "nosuch"}], operations=[operation])

    [update] = of("UPDATE", stream)
    assert update["status"]["state"] == "TASK_LOST"
    assert update["status"]["reason"] == "REASON_INVALID_OFFERS"
    assert "Offer nosuch is no longer valid" in update["status"]["message"]


async def test_kill_reaches_the_agent(lab: Lab) -> None:
    _, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")

    lab.call(framework, "KILL", task_id={"value": "t1"})

    [kill] = of("KILL_TASK", to_agent)
    assert kill["task_id"] == {"value": "t1"}


async def test_kill_of_the_wrong_agent_is_ignored(lab: Lab) -> None:
    _, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")

    lab.call(framework, "KILL", task_id={"value": "t1"}, agent_id={"value": "other"})

    assert of("KILL_TASK", to_agent) == []


async def test_kill_of_an_unknown_task_is_answered(lab: Lab) -> None:
    await lab.agent()
    framework, stream = lab.aware()
    events(stream)

    lab.call(framework, "KILL", task_id={"value": "nosuch"})

    assert states(stream) == [("nosuch", "TASK_UNKNOWN")]


async def test_kill_for_an_agent_that_is_away_is_sent_when_it_returns(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")
    lab.leader.observer.disconnected(agent, to_agent)
    lab.call(framework, "KILL", task_id={"value": "t1"})

    _, back = await lab.agent(agent.id, tasks=[plain(framework.tasks["t1"])])

    assert [kill["task_id"]["value"] for kill in of("KILL_TASK", back)] == ["t1"]


# Frameworks


async def test_stream_begins_with_subscribed_and_a_heartbeat(lab: Lab) -> None:
    framework, stream = lab.framework()

    first, second = events(stream)

    assert first["type"] == "SUBSCRIBED"
    assert first["subscribed"]["framework_id"] == {"value": framework.id}
    assert first["subscribed"]["heartbeat_interval_seconds"] == 15.0
    assert second == {"type": "HEARTBEAT"}


async def test_newest_subscriber_wins(lab: Lab) -> None:
    await lab.agent()
    framework, old = lab.framework()
    lab.leader.allocator.allocate_once()
    events(old)

    again, new = lab.framework(framework.id)

    assert again is framework
    assert of("ERROR", old) == [{"message": "Framework failed over"}]
    assert old.is_closed
    assert "RESCIND" not in {event["type"] for event in events(new)}
    assert framework.offers == set()
    lab.leader.frameworks.disconnected(framework, old)
    assert framework.stream is new


async def test_framework_keeps_its_tasks_within_the_failover_timeout(lab: Lab) -> None:
    await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")
    lab.leader.frameworks.disconnected(framework, stream)

    lab.clock.time += 59
    lab.leader.frameworks.expire()
    lab.framework(framework.id)
    lab.clock.time += 10
    lab.leader.frameworks.expire()

    assert framework.tasks.keys() == {"t1"}


async def test_framework_that_stays_away_is_removed_and_may_not_return(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")
    lab.leader.frameworks.disconnected(framework, stream)

    lab.clock.time += 60
    lab.leader.frameworks.expire()

    assert [item["framework_id"]["value"] for item in of("SHUTDOWN_FRAMEWORK", to_agent)] == [
        framework.id
    ]
    assert not agent.used
    assert [task.state for task in framework.completed] == ["TASK_KILLED"]
    info = {"user": "", "name": "", "id": {"value": framework.id}}
    refused, error = lab.leader.frameworks.subscribe(from_json(Subscribe, {"framework_info": info}))
    assert refused is None
    assert of("ERROR", error) == [{"message": "Framework has been removed"}]


async def test_id_of_a_removed_framework_stays_over_when_its_record_is_forgotten(lab: Lab) -> None:
    agent, _ = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")
    task, info = plain(framework.tasks["t1"]), plain(framework.info)
    lab.leader.observer.disconnected(agent, agent.stream or stream)
    lab.call(framework, "TEARDOWN")
    for _ in range(60):
        other, _ = lab.framework()
        lab.call(other, "TEARDOWN")
    assert framework.id not in lab.cluster.completed

    _, back = await lab.agent(agent.id, tasks=[task], frameworks=[info])

    assert len(of("SHUTDOWN_FRAMEWORK", back)) == 1
    assert not agent.used


async def test_framework_without_failover_timeout_is_removed_at_once(lab: Lab) -> None:
    framework, stream = lab.framework(failover_timeout=0.0)

    lab.leader.frameworks.disconnected(framework, stream)

    assert framework.id in lab.cluster.completed


async def test_last_update_of_a_removed_framework_is_acknowledged_by_the_master(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")
    lab.call(framework, "TEARDOWN")
    events(to_agent)

    lab.update(agent, framework, "t1", "TASK_KILLED")

    assert len(of("ACKNOWLEDGE_UPDATE", to_agent)) == 1


async def test_unknown_framework_id_is_trusted_after_a_change_of_leader(lab: Lab) -> None:
    framework, _ = lab.framework("old-master-0007")

    assert framework.id == "old-master-0007"


async def test_sums_agree_with_the_tables_through_a_random_life(lab: Lab) -> None:
    rng = Random(11)
    agents = [(await lab.agent(address=f"198.18.0.{n}"))[0] for n in (2, 3)]
    framework, stream = lab.aware()
    launched = 0
    for _ in range(300):
        lab.clock.time += 0.1
        for agent in agents:
            if agent.stream is not None:
                lab.leader.observer.hear(agent.stream.id)
        lab.leader.allocator.allocate_once()
        for offers in of("OFFERS", stream):
            for offer in offers["offers"]:
                if rng.random() < 0.5:
                    lab.call(
                        framework,
                        "DECLINE",
                        offer_ids=[offer["id"]],
                        filters={"refuse_seconds": rng.choice([0, 1])},
                    )
                    continue
                launched += 1
                info = {
                    "name": "t",
                    "task_id": {"value": f"t{launched}"},
                    "agent_id": offer["agent_id"],
                    "resources": [
                        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.3}},
                    ],
                    "command": {"value": "true"},
                }
                lab.call(
                    framework,
                    "ACCEPT",
                    offer_ids=[offer["id"]],
                    operations=[{"type": "LAUNCH", "launch": {"task_infos": [info]}}],
                )
        for id, task in list(framework.tasks.items()):
            if rng.random() < 0.2:
                state = rng.choice(["TASK_RUNNING", "TASK_FINISHED", "TASK_FAILED"])
                agent = lab.cluster.agents[task.agent_id.value]
                lab.update(agent, framework, id, state)
                if rng.random() < 0.7:
                    lab.acknowledge(agent, framework, id)
        for agent in agents:
            holds = [framework.tasks[id] for _, id in agent.tasks]
            live = [Resources.of(item.resources) for item in holds if item.state in LIVE]
            assert agent.used.scalar("cpus") == pytest.approx(
                sum(item.scalar("cpus") for item in live)
            )
            offered = [lab.cluster.offers[id].resources for id in agent.offers]
            assert agent.offered.scalar("cpus") == pytest.approx(
                sum(item.scalar("cpus") for item in offered)
            )
            assert agent.used + agent.offered in agent.total

    assert launched > 20
