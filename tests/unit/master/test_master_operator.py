"""What operators read: v1 and legacy answers have the shapes of a real Mesos master."""

import json
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from phalanx.core.store.memory import MemoryStore
from phalanx.master.clock import SystemClock
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.leader import Leader
from phalanx.master.operator import v1
from phalanx.master.operator.legacy.framework import frameworks_json
from phalanx.master.operator.legacy.page import (
    roles_json,
    state_json,
    state_summary_json,
    tasks_json,
)
from phalanx.master.operator.legacy.slave import slaves_json
from phalanx.master.operator.metrics import follower_metrics
from phalanx.master.operator.role import roles_of_cluster
from phalanx.master.operator.snapshot import snapshot_of
from phalanx.master.recovery import recover
from phalanx.mesos.agent_protocol import AgentSubscribe, AgentUpdate
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import Scalar
from phalanx.mesos.v1.quota import QuotaConfig
from phalanx.mesos.v1.scheduler import Call, Subscribe

Json = dict[str, Any]

# Keys that a real master answers (reference mesos §3.4), less those of a build.
STATE = set(
    [
        "version",
        "build_date",
        "build_time",
        "build_user",
        "git_tag",
        "start_time",
        "elected_time",
        "id",
        "pid",
        "hostname",
        "capabilities",
        "activated_slaves",
        "deactivated_slaves",
        "unreachable_slaves",
        "leader",
        "leader_info",
        "flags",
        "slaves",
        "recovered_slaves",
        "frameworks",
        "completed_frameworks",
        "orphan_tasks",
        "unregistered_frameworks",
    ]
)
SLAVE = set(
    [
        "id",
        "hostname",
        "port",
        "attributes",
        "pid",
        "registered_time",
        "resources",
        "used_resources",
        "offered_resources",
        "reserved_resources",
        "unreserved_resources",
        "active",
        "deactivated",
        "version",
        "capabilities",
    ]
)
FRAMEWORK = set(
    [
        "id",
        "name",
        "used_resources",
        "offered_resources",
        "capabilities",
        "hostname",
        "webui_url",
        "active",
        "connected",
        "recovered",
        "user",
        "failover_timeout",
        "checkpoint",
        "registered_time",
        "unregistered_time",
        "resources",
        "role",
        "tasks",
        "unreachable_tasks",
        "completed_tasks",
        "offers",
        "executors",
        "offer_constraints",
    ]
)
V1_AGENT = set(
    [
        "agent_info",
        "active",
        "deactivated",
        "version",
        "pid",
        "registered_time",
        "total_resources",
        "allocated_resources",
        "capabilities",
    ]
)
V1_FRAMEWORK = set(
    [
        "framework_info",
        "active",
        "connected",
        "recovered",
        "registered_time",
        "reregistered_time",
        "allocated_resources",
        "offer_constraints",
    ]
)


def scalar(name: str, value: float) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}}


def ports(begin: int, end: int) -> Json:
    return {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": begin, "end": end}]}}


TASK: Json = {
    "name": "web",
    "task_id": {"value": "web.1"},
    "resources": [scalar("cpus", 0.5), scalar("mem", 64), ports(31000, 31000)],
    "command": {"value": "sleep 1"},
    "labels": {"labels": [{"key": "k", "value": "v"}]},
    "discovery": {"visibility": "CLUSTER", "labels": {"labels": [{"key": "d"}]}},
}
STATUS: Json = {
    "task_id": {"value": "web.1"},
    "state": "TASK_RUNNING",
    "uuid": "AAAAAAAAAAAAAAAAAAAAAA==",
    "timestamp": 5.5,
    "healthy": True,
    "message": "not in legacy",
    "container_status": {
        "executor_pid": 1,
        "container_id": {"value": "c1"},
        "network_infos": [
            {
                "name": "dcos",
                "ip_addresses": [{"ip_address": "9.0.0.2"}],
                "labels": {"labels": [{"key": "n", "value": "1"}]},
            }
        ],
    },
}


@pytest.fixture
async def leader() -> Leader:
    """Return a leader with one agent, one framework and one running task."""
    config = MasterConfig(work_dir=Path("/nowhere"), cluster="lab")
    info = master_info("m1", config.ip, 5050, "m1")
    ids = iter(range(10_000))
    made = await recover(
        config, info, MemoryStore(), SystemClock(), new_id=lambda: f"s{next(ids)}", rng=Random(1)
    )
    made.gate.is_open = True
    made.gate.has_offers = True
    agent_info = {
        "hostname": "a1",
        "resources": [scalar("cpus", 4), scalar("mem", 1024), ports(31000, 31009)],
        "attributes": [
            {"name": "rack", "type": "TEXT", "text": {"value": "r1"}},
            {"name": "level", "type": "SCALAR", "scalar": {"value": 10}},
        ],
    }
    agent, _ = await made.registration.subscribe(
        from_json(AgentSubscribe, {"agent_info": agent_info, "version": "1"}),
        IPv4Address("198.18.0.2"),
    )
    assert agent is not None
    framework, stream = made.frameworks.subscribe(
        from_json(Subscribe, {"framework_info": {"user": "root", "name": "marathon"}})
    )
    assert framework is not None
    stream.take()
    made.allocator.allocate_once()
    [offered] = [json.loads(record) for record in RecordDecoder().feed(stream.take())]
    offer = offered["offers"]["offers"][0]
    launch = {"task_infos": [TASK | {"agent_id": offer["agent_id"]}]}
    accept = {
        "offer_ids": [offer["id"]],
        "operations": [{"type": "LAUNCH", "launch": launch}],
        "filters": {"refuse_seconds": 0},
    }
    made.calls.carry_out(framework, from_json(Call, {"type": "ACCEPT", "accept": accept}))
    update = {
        "framework_id": {"value": framework.id},
        "status": STATUS,
        "latest_state": "TASK_RUNNING",
    }
    made.updates.take(agent, from_json(AgentUpdate, update))
    return made


def plain(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


def whole(pieces: Iterable[bytes]) -> Any:
    return json.loads(b"".join(pieces))


def state_of(leader: Leader) -> Json:
    body: Json = whole(
        state_json(
            snapshot_of(leader.cluster),
            leader.info,
            leader.reads.tasks.read(),
            leader.reads.slaves.read(),
            start_time=1.0,
            elected_time=2.0,
            flags=leader.config.flags(),
        )
    )
    return body


async def test_state_has_the_keys_of_a_real_master(leader: Leader) -> None:
    state = state_of(leader)

    assert state.keys() == STATE | {"cluster"}
    assert state["slaves"][0].keys() == SLAVE
    assert state["frameworks"][0].keys() == FRAMEWORK
    assert state["leader"] == state["pid"] == "master@127.0.0.1:5050"
    assert state["activated_slaves"] == 1.0
    assert all(isinstance(value, str) for value in state["flags"].values())


async def test_resources_are_summed_up_as_old_tools_expect(leader: Leader) -> None:
    [slave] = state_of(leader)["slaves"]

    assert slave["resources"] == {
        "cpus": 4.0,
        "gpus": 0.0,
        "mem": 1024.0,
        "disk": 0.0,
        "ports": "[31000-31009]",
    }
    assert slave["used_resources"] == {
        "cpus": 0.5,
        "gpus": 0.0,
        "mem": 64.0,
        "disk": 0.0,
        "ports": "[31000-31000]",
    }
    assert slave["offered_resources"] == {"cpus": 0.0, "gpus": 0.0, "mem": 0.0, "disk": 0.0}
    assert slave["pid"] == "slave(1)@198.18.0.2:5051"
    assert slave["attributes"] == {"rack": "r1", "level": 10.0}


async def test_legacy_task_has_plain_label_arrays_where_mesos_has_them(leader: Leader) -> None:
    [framework] = state_of(leader)["frameworks"]
    [task] = framework["tasks"]

    assert task["executor_id"] == ""
    assert task["labels"] == [{"key": "k", "value": "v"}]
    assert task["discovery"]["labels"] == {"labels": [{"key": "d"}]}
    assert task["role"] == "*"
    assert task["statuses"] == [
        {
            "state": "TASK_RUNNING",
            "timestamp": 5.5,
            "container_status": {
                "container_id": {"value": "c1"},
                "network_infos": [
                    {
                        "name": "dcos",
                        "ip_addresses": [{"protocol": "IPv4", "ip_address": "9.0.0.2"}],
                        "labels": [{"key": "n", "value": "1"}],
                    }
                ],
            },
            "healthy": True,
        }
    ]


async def test_slaves_show_resources_in_full(leader: Leader) -> None:
    [slave] = whole(slaves_json(snapshot_of(leader.cluster)))["slaves"]

    assert slave.keys() == SLAVE | {
        "reserved_resources_full",
        "unreserved_resources_full",
        "used_resources_full",
        "offered_resources_full",
    }
    assert {
        "name": "cpus",
        "type": "SCALAR",
        "scalar": {"value": 0.5},
        "role": "*",
        "allocation_info": {"role": "*"},
    } in slave["used_resources_full"]


async def test_state_summary_counts_exactly_ten_states(leader: Leader) -> None:
    body = whole(state_summary_json(snapshot_of(leader.cluster), "m1", "lab"))

    [slave], [framework] = body["slaves"], body["frameworks"]
    counted = {key: value for key, value in slave.items() if key.startswith("TASK_")}
    assert len(counted) == 10
    assert counted["TASK_RUNNING"] == 1
    assert framework["TASK_RUNNING"] == 1
    assert slave["framework_ids"] == [framework["id"]]
    assert framework["slave_ids"] == [slave["id"]]


async def test_tasks_are_paged_and_filtered(leader: Leader) -> None:
    def ids(**query: str) -> list[str]:
        body = whole(tasks_json(snapshot_of(leader.cluster), query))
        return [task["id"] for task in body["tasks"]]

    assert ids() == ["web.1"]
    assert ids(task_id="web.2") == []
    assert ids(limit="0") == []
    assert ids(offset="1") == []
    assert ids(framework_id="nosuch") == []
    assert ids(limit="many", order="asc") == ["web.1"]


async def test_roles_show_what_is_allocated(leader: Leader) -> None:
    [role] = plain(roles_json(roles_of_cluster(leader.cluster)))["roles"]

    assert role["name"] == "*"
    assert role["allocated"] == role["resources"] == {"cpus": 0.5, "mem": 64.0, "ports": 1.0}
    assert role["quota"]["consumed"] == {"cpus": 0.5, "mem": 64.0}


async def test_offers_are_no_consumption_and_give_way_to_a_limit(leader: Leader) -> None:
    leader.frameworks.subscribe(
        from_json(
            Subscribe,
            {
                "framework_info": {
                    "user": "u",
                    "name": "n",
                    "roles": ["eng"],
                    "capabilities": [{"type": "MULTI_ROLE"}],
                }
            },
        )
    )
    leader.allocator.allocate_once()
    [_, role] = plain(roles_json(roles_of_cluster(leader.cluster)))["roles"]
    assert role["offered"] == role["resources"] == {"cpus": 3.5, "mem": 960.0, "ports": 9.0}
    assert role["quota"]["consumed"] == {}

    limit = QuotaConfig(role="eng", limits={"cpus": Scalar(value=1.0)})
    await leader.roles.update_quota([limit], is_forced=False)

    assert not leader.cluster.offers


async def test_v1_answers_have_the_keys_of_a_real_master(leader: Leader) -> None:
    state = whole(v1.state_json(snapshot_of(leader.cluster)))

    assert state.keys() == {"get_tasks", "get_executors", "get_frameworks", "get_agents"}
    [agent] = state["get_agents"]["agents"]
    [framework] = state["get_frameworks"]["frameworks"]
    assert agent.keys() == V1_AGENT
    assert framework.keys() == V1_FRAMEWORK
    assert state["get_executors"] == {"executors": []}
    [task] = state["get_tasks"]["tasks"]
    assert task["status_update_state"] == "TASK_RUNNING"
    assert task["status_update_uuid"] == STATUS["uuid"]
    assert state["get_tasks"].keys() == {"tasks", "unreachable_tasks", "completed_tasks"}


async def test_outstanding_offers_are_shown_with_their_role(leader: Leader) -> None:
    leader.allocator.allocate_once()

    [framework] = whole(v1.frameworks_json(snapshot_of(leader.cluster)))["frameworks"]
    [old] = whole(frameworks_json(snapshot_of(leader.cluster), leader.reads.tasks.read()))[
        "frameworks"
    ]

    assert framework["offers"][0]["allocation_info"] == {"role": "*"}
    assert old["offers"][0]["resources"]["cpus"] == 3.5
    assert old["offered_resources"]["cpus"] == 3.5


async def test_metrics_are_numbers_under_mesos_names(leader: Leader) -> None:
    found = leader.metrics(uptime=3.0)

    assert found["master/elected"] == 1.0
    assert found["master/tasks_running"] == 1.0
    assert found["master/cpus_percent"] == 0.125
    assert found["master/slaves_active"] == 1.0
    assert found["master/valid_status_updates"] == 1.0
    assert found["master/tasks_finished"] == 0.0
    assert follower_metrics(uptime=1.0)["master/elected"] == 0.0


async def test_watcher_sees_the_state_and_then_every_change(leader: Leader) -> None:
    stream = leader.watchers.subscribe()

    def read() -> list[Json]:
        return [json.loads(record) for record in RecordDecoder().feed(stream.take())]

    assert read() == [{"type": "HEARTBEAT"}]
    first = whole(v1.subscribed_json(snapshot_of(leader.cluster), 15.0))
    assert first["type"] == "SUBSCRIBED"
    assert first["subscribed"]["heartbeat_interval_seconds"] == 15.0
    assert first["subscribed"]["get_state"]["get_tasks"]["tasks"][0]["name"] == "web"

    [agent] = leader.cluster.agents.values()
    [framework] = leader.cluster.frameworks.values()
    update = {
        "framework_id": {"value": framework.id},
        "status": STATUS | {"state": "TASK_FINISHED"},
        "latest_state": "TASK_FINISHED",
    }
    leader.updates.take(agent, from_json(AgentUpdate, update))
    leader.frameworks.remove(framework, "test")
    await leader.orders.mark_gone(agent.id)

    told = read()
    assert [event["type"] for event in told] == [
        *("TASK_UPDATED", "TASK_UPDATED", "FRAMEWORK_REMOVED")
    ]
    assert told[0]["task_updated"]["state"] == "TASK_FINISHED"
    # Not acknowledged, so it ends with its framework; what it came to stays.
    assert told[1]["task_updated"]["status"]["state"] == "TASK_KILLED"
    assert told[1]["task_updated"]["state"] == "TASK_FINISHED"


async def test_an_agent_cannot_speak_for_another(leader: Leader) -> None:
    [framework] = leader.cluster.frameworks.values()
    other, _ = await leader.registration.subscribe(
        from_json(AgentSubscribe, {"agent_info": {"hostname": "a2"}, "version": "1"}),
        IPv4Address("198.18.0.3"),
    )
    assert other is not None
    [task] = framework.tasks.values()
    forged = {
        "framework_id": {"value": framework.id},
        "status": STATUS | {"state": "TASK_FAILED", "agent_id": {"value": task.agent_id.value}},
        "latest_state": "TASK_FAILED",
    }
    assert framework.stream is not None
    framework.stream.take()

    leader.updates.take(other, from_json(AgentUpdate, forged))

    assert framework.stream.take() == b""
    assert framework.tasks[task.task_id.value] is task


async def test_watcher_sees_a_framework_with_its_connection(leader: Leader) -> None:
    watcher = leader.watchers.subscribe()
    info = {"user": "u", "name": "n", "failover_timeout": 60.0}

    first, stream = leader.frameworks.subscribe(from_json(Subscribe, {"framework_info": info}))
    assert first is not None
    leader.frameworks.disconnected(first, stream)
    again = {"framework_info": info | {"id": {"value": first.id}}}
    leader.frameworks.subscribe(from_json(Subscribe, again))

    records = RecordDecoder().feed(watcher.take())
    told = [event for record in records if (event := json.loads(record))["type"] != "HEARTBEAT"]
    assert [event["type"] for event in told] == ["FRAMEWORK_ADDED", "FRAMEWORK_UPDATED"]
    for event in told:
        framework = event[event["type"].lower()]["framework"]
        assert (framework["active"], framework["connected"]) == (True, True)
        assert framework["unregistered_time"] == {"nanoseconds": 0}
        assert "offer_constraints" not in framework


async def test_tasks_that_end_with_their_framework_are_told_and_counted(leader: Leader) -> None:
    watcher = leader.watchers.subscribe()
    [agent] = leader.cluster.agents.values()
    [framework] = leader.cluster.frameworks.values()
    [task] = framework.tasks.values()
    watcher.take()

    leader.frameworks.remove(framework, "test")

    told = [json.loads(record) for record in RecordDecoder().feed(watcher.take())]
    assert [event["type"] for event in told] == ["TASK_UPDATED", "FRAMEWORK_REMOVED"]
    updated = told[0]["task_updated"]
    assert updated["state"] == updated["status"]["state"] == "TASK_KILLED"
    assert updated["status"]["message"] == f"Framework {framework.id} removed"
    assert not agent.used
    assert not agent.tasks
    assert [ended.task_id for ended in framework.completed] == [task.task_id]
    counted = leader.counts.named
    assert counted["master/task_killed/source_master/reason_framework_removed"] == 1
    assert counted["tasks:TASK_KILLED"] == 1


async def test_oldest_watcher_is_closed_beyond_the_limit(leader: Leader) -> None:
    limit = leader.config.max_operator_event_stream_subscribers
    streams = [leader.watchers.subscribe() for _ in range(limit + 1)]

    assert streams[0].is_closed
    assert not streams[1].is_closed
