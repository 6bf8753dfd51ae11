"""Frameworks, agents and tasks through a leader's parts, on a clock that the test moves."""

import asyncio
import json
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from phalanx.core.error import UnavailableError
from phalanx.core.store.memory import MemoryStore
from phalanx.master.agents.liveness import deafness_of
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.framework import Framework
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.leader import Leader
from phalanx.master.recovery import recover
from phalanx.mesos.agent_protocol import AgentSubscribe, AgentUpdate
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import Message, encode, from_json
from phalanx.mesos.v1.scheduler import Call, Subscribe
from phalanx.net.model.objects import Liveness

UUID = "AAAAAAAAAAAAAAAAAAAAAA=="
ADDRESS = "198.18.0.2"
Json = dict[str, Any]


class FakeClock:
    """Two clocks that stand still until they are moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_700_000_000.0 + self.time


class BreakableStore(MemoryStore):
    """A store that can't be written while it *is_broken*, and waits for its *gate*."""

    is_broken = False
    gate: asyncio.Event | None = None

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        if self.is_broken:
            raise UnavailableError("store: database or disk is full")
        written = await super().put(key, value, version=version)
        await self._wait()
        return written

    async def remove(self, key: str) -> None:
        await super().remove(key)
        await self._wait()

    async def _wait(self) -> None:
        if self.gate is not None:
            await self.gate.wait()


def events(stream: Stream) -> list[Json]:
    """Return what was sent since the last time."""
    return [json.loads(record) for record in RecordDecoder().feed(stream.take())]


async def settled() -> None:
    """Let everything run that has no reason to wait."""
    for _ in range(20):
        await asyncio.sleep(0)


def plain(message: Message) -> Json:
    return cast("Json", json.loads(encode(message)))


def of(kind: str, stream: Stream) -> list[Json]:
    return [event[kind.lower()] for event in events(stream) if event["type"] == kind]


def states(stream: Stream) -> list[tuple[str, str]]:
    return [
        (update["status"]["task_id"]["value"], update["status"]["state"])
        for update in of("UPDATE", stream)
    ]


class Lab:
    """A leader, and what frameworks and agents say to it."""

    def __init__(self, store: MemoryStore, clock: FakeClock, leader: Leader) -> None:
        self.store = store
        self.clock = clock
        self.leader = leader
        self.cluster = leader.cluster

    @classmethod
    async def begin(cls, store: MemoryStore, clock: FakeClock, number: int = 1) -> "Lab":
        config = MasterConfig(work_dir=Path("/nowhere"))
        info = master_info(f"m{number}", config.ip, 5050, "m")
        ids = iter(range(1_000_000))
        leader = await recover(
            config, info, store, clock, new_id=lambda: f"s{next(ids)}", rng=Random(7)
        )
        leader.gate.is_open = not leader.cluster.recovered
        leader.gate.has_offers = True
        return cls(store, clock, leader)

    async def agent(
        self,
        id: str | None = None,
        *,
        address: str = ADDRESS,
        tasks: Sequence[Json] = (),
        frameworks: Sequence[Json] = (),
        cpus: int = 4,
        rack: str = "r1",
        port: int = 5051,
    ) -> tuple[Agent, Stream]:
        info: Json = {
            "hostname": "a1",
            "port": port,
            "attributes": [{"name": "rack", "type": "TEXT", "text": {"value": rack}}],
            "resources": [
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
                {"name": "mem", "type": "SCALAR", "scalar": {"value": 1024}},
            ],
        }
        if id is not None:
            info["id"] = {"value": id}
        subscribe = from_json(
            AgentSubscribe,
            {
                "agent_info": info,
                "version": "1.11.0",
                "tasks": list(tasks),
                "frameworks": list(frameworks),
            },
        )
        agent, stream = await self.leader.agents.subscribe(subscribe, IPv4Address(address))
        assert agent is not None
        return agent, stream

    def framework(self, id: str | None = None, **more: object) -> tuple[Framework, Stream]:
        info: Json = {"user": "root", "name": "marathon", "failover_timeout": 60.0, **more}
        if id is not None:
            info["id"] = {"value": id}
        subscribe = from_json(Subscribe, {"framework_info": info})
        framework, stream = self.leader.frameworks.subscribe(subscribe)
        assert framework is not None
        return framework, stream

    def aware(self) -> tuple[Framework, Stream]:
        return self.framework(capabilities=[{"type": "PARTITION_AWARE"}])

    def call(self, framework: Framework, kind: str, **body: object) -> None:
        call = from_json(Call, {"type": kind, kind.lower(): body})
        self.leader.calls.carry_out(framework, call)

    def launch(self, framework: Framework, stream: Stream, *ids: str, cpus: float = 1.0) -> None:
        """Take the next offer and launch tasks on it."""
        self.leader.allocator.allocate_once()
        [offers] = of("OFFERS", stream)
        offer = offers["offers"][0]
        infos = [
            {
                "name": id,
                "task_id": {"value": id},
                "agent_id": offer["agent_id"],
                "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}}],
                "command": {"value": "sleep 1"},
            }
            for id in ids
        ]
        operation = {"type": "LAUNCH", "launch": {"task_infos": infos}}
        self.call(
            framework,
            "ACCEPT",
            offer_ids=[offer["id"]],
            operations=[operation],
            filters={"refuse_seconds": 0},
        )

    def update(self, agent: Agent, framework: Framework, task: str, state: str) -> None:
        status = {
            "task_id": {"value": task},
            "state": state,
            "uuid": UUID,
            "agent_id": {"value": agent.id},
            "source": "SOURCE_EXECUTOR",
        }
        body = {
            "framework_id": {"value": framework.id},
            "status": status,
            "latest_state": state,
        }
        self.leader.updates.take(agent, from_json(AgentUpdate, body))

    def acknowledge(self, agent: Agent, framework: Framework, task: str) -> None:
        self.call(
            framework,
            "ACKNOWLEDGE",
            agent_id={"value": agent.id},
            task_id={"value": task},
            uuid=UUID,
        )

    async def silence(self, seconds: float) -> None:
        self.clock.time += seconds
        await self.leader.agents.watch_once()


@pytest.fixture
async def lab() -> Lab:
    return await Lab.begin(BreakableStore(), FakeClock())


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
    lab.leader.agents.disconnected(agent, to_agent)
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
    lab.leader.agents.disconnected(agent, agent.stream or stream)
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


# Liveness


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
    lab.leader.agents.excuse(30.0)  # it slept, and what they said waits to be read

    found = []
    for seconds in (1.4, 0.2, 0.9):
        await lab.silence(seconds)
        found.append((spoke.liveness.value, late.liveness.value))

    assert found == [("alive", "alive"), ("suspect", "alive"), ("suspect", "suspect")]


async def test_leader_that_was_stopped_suspects_nobody_at_once(lab: Lab) -> None:
    agent, _ = await lab.agent()
    watching = asyncio.ensure_future(lab.leader.agents.watch())
    await asyncio.sleep(0)
    lab.clock.time += 30.0
    heard = agent.heard

    while agent.heard == heard:  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0.01)
    await lab.silence(1.0)
    watching.cancel()

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

    lab.leader.agents.hear(to_agent.id)
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
        lab.leader.agents.hear(to_agent.id)


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


# Registration


async def test_agent_is_admitted_into_the_registry_before_it_is_told(lab: Lab) -> None:
    assert isinstance(lab.store, BreakableStore)
    lab.store.is_broken = True

    with pytest.raises(UnavailableError, match="full"):
        await lab.agent()

    assert lab.cluster.agents == {}


async def test_broken_stream_keeps_tasks_but_stops_offers(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")

    lab.leader.agents.disconnected(agent, to_agent)

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
    lab.leader.agents.disconnected(agent, to_agent)
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

    lab.leader.agents.disconnected(agent, to_agent)

    assert states(stream) == [("t1", "TASK_LOST")]


async def test_a_task_that_was_told_lost_and_comes_back_is_killed(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.framework()
    lab.launch(framework, stream, "t1")
    lab.update(agent, framework, "t1", "TASK_RUNNING")
    task = plain(framework.tasks["t1"])
    lab.leader.agents.disconnected(agent, to_agent)
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
    lab.leader.agents.disconnected(agent, old)
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


async def test_agent_marked_gone_may_not_return(lab: Lab) -> None:
    agent, to_agent = await lab.agent()
    framework, stream = lab.aware()
    lab.launch(framework, stream, "t1")
    events(stream)
    events(to_agent)

    await lab.leader.agents.mark_gone(agent.id)

    assert states(stream) == [("t1", "TASK_GONE_BY_OPERATOR")]
    assert len(of("SHUTDOWN", to_agent)) == 1
    subscribe = from_json(
        AgentSubscribe,
        {"agent_info": {"hostname": "a1", "id": {"value": agent.id}}, "version": "1"},
    )
    refused, reply = await lab.leader.agents.subscribe(subscribe, IPv4Address(ADDRESS))
    assert refused is None
    assert of("SHUTDOWN", reply) == [{"message": "Agent has been marked gone"}]


# A new leader


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


async def test_agent_that_never_returns_is_given_up(lab: Lab) -> None:
    agent, _ = await lab.agent()
    after = await Lab.begin(lab.store, lab.clock, number=2)

    await after.leader.agents.give_up_recovered()

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


async def test_sums_agree_with_the_tables_through_a_random_life(lab: Lab) -> None:
    rng = Random(11)
    agents = [(await lab.agent(address=f"198.18.0.{n}"))[0] for n in (2, 3)]
    framework, stream = lab.aware()
    launched = 0
    for _ in range(300):
        lab.clock.time += 0.1
        for agent in agents:
            if agent.stream is not None:
                lab.leader.agents.hear(agent.stream.id)
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


LIVE = ("TASK_STAGING", "TASK_RUNNING")
