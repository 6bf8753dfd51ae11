"""The cluster at one moment, for answers that take longer to write than the loop may wait.

Taking a snapshot copies references only: tasks, resources and infos are never
changed in place. It is written out in slices while the cluster goes on.
"""

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from operator import attrgetter
from typing import Any, NamedTuple

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.offer import Outstanding, OutstandingInverse
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.mesos import (
    AgentCapability,
    AgentInfo,
    DrainInfo,
    ExecutorInfo,
    FrameworkInfo,
    Task,
)
from phalanx.mesos.v1.scheduler import OfferConstraints
from phalanx.net.model.objects import Liveness


class AgentFacts(NamedTuple):
    """What answers tell of an agent; equal facts are written alike."""

    id: str
    info: AgentInfo
    address: IPv4Address
    version: str
    total: Resources
    held: Mapping[str, Resources]
    used: Resources
    offered: Resources
    registered: float
    reregistered: float | None
    stream: Stream | None
    liveness: Liveness
    is_deactivated: bool
    capabilities: tuple[AgentCapability, ...]
    drain: DrainInfo | None
    drain_started: float | None
    offers: tuple[Outstanding, ...]

    @property
    def is_active(self) -> bool:
        """Tell whether the agent's resources may be offered."""
        is_here = self.stream is not None and self.liveness is Liveness.ALIVE
        return is_here and not self.is_deactivated


Row = tuple[Any, ...]  # AgentFacts, less its offers
ID, LIVENESS, STREAM, DEACTIVATED = map(
    AgentFacts._fields.index, ("id", "liveness", "stream", "is_deactivated")
)

# There are many agents, and every microsecond of each counts.
_row: Callable[[Agent], Row] = attrgetter(
    "id",
    "info",
    "address",
    "version",
    "total",
    "held",
    "used",
    "offered",
    "registered",
    "reregistered",
    "stream",
    "liveness",
    "is_deactivated",
    "capabilities",
    "drain",
    "drain_started",
)


class ExecutorFacts(NamedTuple):
    """An executor and the agent that it runs on."""

    info: ExecutorInfo
    agent_id: str


class FrameworkFacts(NamedTuple):
    """What answers tell of a framework; *used* leaves ranges out, which its tasks tell."""

    id: str
    info: FrameworkInfo
    roles: tuple[str, ...]
    registered: float
    reregistered: float | None
    unregistered: float | None
    is_active: bool
    is_connected: bool
    is_recovered: bool
    constraints: OfferConstraints | None
    used: Mapping[str, Resources]
    offers: tuple[Outstanding, ...]
    inverse_offers: tuple[OutstandingInverse, ...]
    tasks: tuple[Task, ...]
    unreachable: tuple[Task, ...]
    completed: tuple[Task, ...]
    executors: tuple[ExecutorFacts, ...]


class RecoveredFacts(NamedTuple):
    """An agent that a new leader waits for."""

    id: str
    info: AgentInfo
    address: IPv4Address


class Snapshot(NamedTuple):
    """Everything that ``/state`` and GET_STATE tell, of one moment.

    What is made of it is made later, in slices: *rows* is what was taken of
    every agent, the unreachable ones too, and *offers* every offer.
    """

    rows: tuple[Row, ...]
    offers: Mapping[str, Outstanding]
    recovered: tuple[RecoveredFacts, ...]
    frameworks: tuple[FrameworkFacts, ...]
    completed: tuple[FrameworkFacts, ...]
    # By id: an offer names its agent's host.
    hosts: Mapping[str, Agent]

    def agents(self) -> Iterator[AgentFacts]:
        """Yield the registered agents."""
        offers: dict[str, tuple[Outstanding, ...]] = {}
        for offer in self.offers.values():
            offers[offer.agent_id] = (*offers.get(offer.agent_id, ()), offer)
        for row in self.rows:
            if row[LIVENESS] is not Liveness.UNREACHABLE:
                yield AgentFacts._make((*row, offers.get(row[ID], ())))

    def standing(self) -> tuple[int, int, int]:
        """Return how many agents are active, registered but not active, and unreachable."""
        active = unreachable = 0
        for row in self.rows:
            if row[LIVENESS] is Liveness.UNREACHABLE:
                unreachable += 1
            elif row[LIVENESS] is Liveness.ALIVE and row[STREAM] is not None:
                active += not row[DEACTIVATED]
        return active, len(self.rows) - active - unreachable, unreachable


def snapshot_of(cluster: Cluster) -> Snapshot:
    """Return the cluster as it is now."""
    agents = cluster.agents.values()
    executors: dict[str, list[ExecutorFacts]] = {}
    for agent in agents:
        if agent.executors:
            for (framework_id, _), info in agent.executors.items():
                executors.setdefault(framework_id, []).append(ExecutorFacts(info, agent.id))
    return Snapshot(
        rows=tuple(map(_row, agents)),
        offers=dict(cluster.offers),
        recovered=tuple(
            RecoveredFacts(item.id, item.info, item.address) for item in cluster.recovered.values()
        ),
        frameworks=tuple(
            framework_facts(item, cluster, tuple(executors.get(item.id, ())))
            for item in cluster.frameworks.values()
        ),
        completed=tuple(framework_facts(item, cluster, ()) for item in cluster.completed.values()),
        hosts=dict(cluster.agents),
    )


def agent_facts(agent: Agent, cluster: Cluster) -> AgentFacts:
    """Return an agent as it is now."""
    offers: tuple[Outstanding, ...] = ()
    if agent.offers:
        offers = tuple([cluster.offers[id] for id in agent.offers])
    return AgentFacts._make((*_row(agent), offers))


def framework_facts(
    framework: Framework, cluster: Cluster, executors: tuple[ExecutorFacts, ...] | None = None
) -> FrameworkFacts:
    """Return a framework as it is now; its *executors* are looked for unless they are given."""
    if executors is None:
        executors = tuple(
            ExecutorFacts(info, agent.id)
            for agent in cluster.agents.values()
            for (framework_id, _), info in agent.executors.items()
            if framework_id == framework.id
        )
    return FrameworkFacts(
        framework.id,
        framework.info,
        framework.roles,
        framework.registered,
        framework.reregistered,
        framework.unregistered,
        framework.is_connected,
        framework.is_connected,
        framework.is_recovered,
        framework.constraints,
        {role: Resources(dict(held)) for role, held in framework.held.items()},
        tuple([cluster.offers[id] for id in sorted(framework.offers)]),
        tuple([cluster.inverse_offers[id] for id in sorted(framework.inverse_offers)]),
        tuple(framework.tasks.values()),
        tuple(framework.unreachable.values()),
        tuple(framework.completed),
        executors,
    )


def reachable(cluster: Cluster) -> list[Agent]:
    """Return the agents that are registered: all but the unreachable."""
    return [
        agent for agent in cluster.agents.values() if agent.liveness is not Liveness.UNREACHABLE
    ]
