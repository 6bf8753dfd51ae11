"""A leader of its own parts, on a clock that the test moves, and what is said to it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any, cast

from phalanx.core.error import UnavailableError
from phalanx.core.store.memory import MemoryStore
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.framework import Framework
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.leader import Leader
from phalanx.master.recovery import recover
from phalanx.mesos.agent_protocol import AgentSubscribe, AgentUpdate
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import Message, encode, from_json
from phalanx.mesos.v1.scheduler import Call, Subscribe

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
    async def begin(
        cls, store: MemoryStore, clock: FakeClock, number: int = 1, **settings: Any
    ) -> "Lab":
        config = replace(MasterConfig(work_dir=Path("/nowhere")), **settings)
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
        agent, stream = await self.leader.registration.subscribe(subscribe, IPv4Address(address))
        assert agent is not None
        return agent, stream

    async def refused(self, *, id: str, address: str = ADDRESS, hostname: str = "a1") -> str | None:
        """Return why an agent is refused."""
        body = {"agent_info": {"hostname": hostname, "id": {"value": id}}, "version": "1.11.0"}
        agent, stream = await self.leader.registration.subscribe(
            from_json(AgentSubscribe, body), IPv4Address(address)
        )
        if agent is not None:
            return None
        [shutdown] = of("SHUTDOWN", stream)
        return str(shutdown["message"])

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
        await self.leader.observer.watch_once()
        await self.leader.orders.finish_drains()
