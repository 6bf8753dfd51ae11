"""A cluster with an allocator at work on it, on a clock that the test moves."""

import json
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any

from phalanx.master.allocator.loop import Allocator
from phalanx.master.allocator.rule import Rules, Timing, quantities
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.event import Bus
from phalanx.master.identity import Identities
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import (
    AgentInfo,
    FrameworkInfo,
    MachineID,
    MachineInfo,
    Task,
    Unavailability,
)

Json = dict[str, Any]
SOON = {"start": {"nanoseconds": 1000}, "duration": {"nanoseconds": 5}}


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


@dataclass
class World:
    """A cluster and its allocator, without anything around them."""

    rules: Rules = field(default_factory=lambda: Rules(quantities("cpus:0.01|mem:32")))
    timing: Timing = field(default_factory=Timing)
    clock: Any = field(default_factory=FakeClock)
    whitelist: Path | None = None
    cluster: Cluster = field(default_factory=lambda: Cluster(Bus()))

    def __post_init__(self) -> None:
        self.allocator = Allocator(
            self.cluster,
            Identities("m"),
            self.clock,
            timing=self.timing,
            rules=self.rules,
            whitelist=self.whitelist,
            is_open=lambda: True,
            rng=Random(3),
        )

    def agent(self, name: str, resources: str = "cpus:4;mem:1024", **more: Any) -> Agent:
        info = {"hostname": name, "port": 5051, "id": {"value": name}, **more}
        total = Resources.parse(resources)
        address = IPv4Address("198.18.0.2") + len(self.cluster.agents)
        agent = Agent(name, from_json(AgentInfo, info), address, "1", total, 0.0, 0.0)
        agent.stream = Stream(f"agent-{name}")
        self.cluster.add_agent(agent)
        return agent

    def framework(self, name: str, *roles: str, takes: str = "", **more: Any) -> Framework:
        capabilities = ["MULTI_ROLE", *takes.split()]
        info = {
            "user": "root",
            "name": name,
            "id": {"value": name},
            "roles": list(roles or ("*",)),
            "capabilities": [{"type": capability} for capability in capabilities],
            **more,
        }
        stream = Stream(name)
        framework = Framework(from_json(FrameworkInfo, info), registered=0.0, stream=stream)
        self.cluster.add_framework(framework)
        return framework

    def run(self, *agents: str) -> dict[str, list[Json]]:
        """Allocate; return the new offers by framework."""
        self.allocator.allocate_once(agents or None)
        return {
            id: [offer for event in of(framework, "OFFERS") for offer in event["offers"]]
            for id, framework in self.cluster.frameworks.items()
        }

    def decline(self, framework: Framework, seconds: float | None = None) -> None:
        until = None if seconds is None else self.clock.now() + seconds
        for id in list(framework.offers):
            offer = self.cluster.offers[id]
            self.cluster.remove_offer(offer)
            client = framework.id, offer.role
            self.cluster.filters.refuse(client, offer.agent_id, offer.resources, until)

    def use(self, framework: Framework, task: str, resources: str) -> None:
        """Launch a task on the framework's only offer."""
        [id] = framework.offers
        offer = self.cluster.offers[id]
        self.cluster.remove_offer(offer)
        body = {
            "name": task,
            "task_id": {"value": task},
            "framework_id": {"value": framework.id},
            "agent_id": {"value": offer.agent_id},
            "state": "TASK_STAGING",
        }
        made = from_json(Task, body)
        held = Resources.parse(resources).messages(role=offer.role)
        self.cluster.add_task(Task(**{f: getattr(made, f) for f in body}, resources=held))

    def plan(self, agent: Agent, **more: Any) -> None:
        id = MachineID(hostname=agent.info.hostname)
        agent.unavailability = from_json(Unavailability, SOON)
        info = MachineInfo(id=id, unavailability=agent.unavailability, **more)
        self.cluster.machines[id] = info


def of(framework: Framework, kind: str) -> list[Json]:
    """Return the bodies of the new events of a kind; all others are lost."""
    assert framework.stream is not None
    records = [json.loads(record) for record in RecordDecoder().feed(framework.stream.take())]
    return [record[kind.lower()] for record in records if record["type"] == kind]


def cpus(offer: Json) -> float:
    return float(
        sum(item["scalar"]["value"] for item in offer["resources"] if item["name"] == "cpus")
    )


def agents_of(offers: list[Json]) -> list[str]:
    return sorted(offer["agent_id"]["value"] for offer in offers)
