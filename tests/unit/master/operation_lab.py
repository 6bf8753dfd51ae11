"""A leader whose agents and frameworks hold executors and carry out operations."""

import json
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

from tests.unit.master.lab import FakeClock

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.framework import Framework
from phalanx.master.leader import Leader
from phalanx.mesos.agent_protocol import (
    AgentSubscribe,
    AgentUpdate,
    ExecutorExited,
    OperationUpdate,
)
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.scheduler import Call, Subscribe

Json = dict[str, Any]
UUID = "AAAAAAAAAAAAAAAAAAAAAA=="
REFINED = ("MULTI_ROLE", "RESERVATION_REFINEMENT", "PARTITION_AWARE")


def events(stream: Stream, kind: str | None = None) -> list[Json]:
    """Return what was sent since the last time; only the bodies of one *kind* if it is given."""
    sent = [json.loads(record) for record in RecordDecoder().feed(stream.take())]
    return sent if kind is None else [item[kind.lower()] for item in sent if item["type"] == kind]


def scalar(name: str, value: float, **more: object) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **more}


def reserved(name: str, value: float, **more: object) -> Json:
    return scalar(name, value, reservations=[{"type": "DYNAMIC", "role": "web"}], **more)


def volume(value: float, id: str = "v") -> Json:
    used = {"container_path": "p", "mode": "RW"}
    return reserved("disk", value, disk={"persistence": {"id": id}, "volume": used})


def named(kind: str, id: str = "op", **body: object) -> Json:
    return {"type": kind, "id": {"value": id}, kind.lower(): body}


def executor(id: str = "e") -> Json:
    resources = [scalar("cpus", 0.1), scalar("mem", 32), scalar("disk", 10)]
    return {"type": "DEFAULT", "executor_id": {"value": id}, "resources": resources}


class Lab:
    """A leader with one agent, and one framework's calls to it."""

    def __init__(self, leader: Leader, clock: FakeClock) -> None:
        self.leader = leader
        self.cluster = leader.cluster
        self.clock = clock
        self.launched = 0

    async def agent(self, number: int = 2) -> tuple[Agent, Stream]:
        sizes = {"cpus": 4, "mem": 4096, "disk": 1000}
        info = {
            "hostname": f"a{number}",
            "resources": [scalar(name, value) for name, value in sizes.items()],
        }
        subscribe = from_json(AgentSubscribe, {"agent_info": info, "version": "1.11.0"})
        address = IPv4Address(f"198.18.0.{number}")
        agent, stream = await self.leader.registration.subscribe(subscribe, address)
        assert agent is not None
        return agent, stream

    def framework(
        self, id: str | None = None, *, roles: Sequence[str] = ("web",), **more: object
    ) -> tuple[Framework, Stream]:
        info: Json = {"user": "root", "name": "f", "failover_timeout": 60.0, "roles": list(roles)}
        info["capabilities"] = [{"type": name} for name in REFINED]
        info |= more
        if id is not None:
            info["id"] = {"value": id}
        subscribe = from_json(Subscribe, {"framework_info": info})
        framework, stream = self.leader.frameworks.subscribe(subscribe)
        assert framework is not None
        return framework, stream

    def call(self, framework: Framework, kind: str, **body: object) -> None:
        call = from_json(Call, {"type": kind, kind.lower(): body})
        self.leader.calls.carry_out(framework, call)

    def offer(self, stream: Stream) -> Json:
        self.leader.allocator.allocate_once()
        [offers] = events(stream, "OFFERS")
        offer: Json = offers["offers"][0]
        return offer

    def accept(self, framework: Framework, offer: Json, *operations: Json) -> None:
        self.call(
            framework,
            "ACCEPT",
            offer_ids=[offer["id"]],
            operations=list(operations),
            filters={"refuse_seconds": 0},
        )

    def task(self, offer: Json, *resources: Json) -> Json:
        self.launched += 1
        return {
            "name": "t",
            "task_id": {"value": f"t{self.launched}"},
            "agent_id": offer["agent_id"],
            "resources": list(resources) or [scalar("cpus", 0.5), scalar("mem", 64)],
            "command": {"value": "true"},
        }

    def group(self, offer: Json, *tasks: Json, id: str = "e") -> Json:
        body = {"executor": executor(id), "task_group": {"tasks": list(tasks)}}
        return {"type": "LAUNCH_GROUP", "launch_group": body}

    def exit(self, agent: Agent, framework: Framework, id: str = "e", status: int = 9) -> None:
        exited = {
            "framework_id": {"value": framework.id},
            "executor_id": {"value": id},
            "status": status,
        }
        self.leader.updates.take_exit(agent, from_json(ExecutorExited, exited))

    def report(
        self, agent: Agent, framework: Framework, apply: Json, state: str, **more: object
    ) -> None:
        status = {"operation_id": apply["operation"].get("id"), "state": state, **more}
        update = {
            "operation_uuid": apply["operation_uuid"],
            "framework_id": {"value": framework.id},
            "status": status,
        }
        self.leader.conversions.take(agent, from_json(OperationUpdate, update))

    def update(self, agent: Agent, framework: Framework, task: str, state: str) -> None:
        status = {"task_id": {"value": task}, "state": state, "uuid": UUID}
        body = {"framework_id": {"value": framework.id}, "status": status, "latest_state": state}
        self.leader.updates.take(agent, from_json(AgentUpdate, body))
