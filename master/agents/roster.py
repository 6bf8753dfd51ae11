"""What registration, observer and orders share: the agents, their streams, how one goes."""

from collections import Counter
from dataclasses import dataclass, field

import structlog

from phalanx.core.error import UnavailableError
from phalanx.master.agents.holdings import Holdings
from phalanx.master.agents.locks import Locks
from phalanx.master.agents.reconcile import Tasks
from phalanx.master.agents.registry import AgentRecord, AgentRegistry
from phalanx.master.allocator.poke import Poke
from phalanx.master.clock import Clock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.post.framework import rescind, send_failure
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.net.model.objects import Liveness

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Roster:
    """The agents of the cluster with what belongs to them: records, streams, tasks, holdings.

    Whatever is durable of one agent is changed under the lock of its id, so
    that it never becomes unreachable while it registers; agents don't wait for
    each other, so that a thousand that register at once share the store's writes.
    """

    cluster: Cluster
    registry: AgentRegistry
    tasks: Tasks
    holdings: Holdings
    clock: Clock
    poke: Poke
    locks: Locks = field(default_factory=Locks)
    counts: Counter[str] = field(default_factory=Counter)  # registrations, removals, … by name
    _by_stream: dict[str, Agent] = field(default_factory=dict)

    def attach(self, agent: Agent, stream: Stream) -> None:
        """Let *stream* be the agent's."""
        agent.stream = stream
        self._by_stream[stream.id] = agent

    def of_stream(self, id: str) -> Agent:
        """Return the agent of a stream; raise UnavailableError when it is none's (any more)."""
        agent = self._by_stream.get(id)
        if agent is None:
            raise UnavailableError(f"stream {id!r} is not subscribed")
        return agent

    def cut(self, agent: Agent) -> None:
        """Drop the agent's stream if it has one, and take its offers back."""
        if agent.stream is not None:
            self._by_stream.pop(agent.stream.id, None)
            stream, agent.stream = agent.stream, None
            stream.drop()
        self.rescind(agent)

    def rescind(self, agent: Agent) -> None:
        """Take back every offer of the agent."""
        rescind(self.cluster, self.cluster.offers_of(agent))

    def drop(self, agent: Agent, reason: str, why: str, *, by_operator: bool = False) -> None:
        """Let an agent go that never comes back: its tasks end, its stream closes."""
        self.rescind(agent)
        self.tasks.bury(agent, reason, why, by_operator=by_operator)
        self.holdings.bury(agent, by_operator=by_operator)
        self.counts["removals"] += 1
        self.counts[f"removals_{reason}"] += 1
        if agent.stream is not None:
            self._by_stream.pop(agent.stream.id, None)
            agent.stream.close()  # after what is in it: a SHUTDOWN must arrive
            agent.stream = None
        self.cluster.remove_agent(agent)
        send_failure(self.cluster, agent.id)
        log.info("agent_removed", agent=agent.id, reason=why)
        self.poke((agent.id,))

    def add_absent(self, record: AgentRecord) -> None:
        """Add an unreachable agent of which only the registry tells."""
        agent = Agent(
            record.id,
            record.info,
            record.node,
            record.version,
            Resources.of(record.info.resources),
            record.since,
            heard=self.clock.now(),
            unreachable_since=record.since,
            liveness=Liveness.UNREACHABLE,
        )
        follow(agent, record)
        self.cluster.add_agent(agent)


def follow(agent: Agent, record: AgentRecord) -> None:
    """Let the agent be what operators ordered."""
    agent.drain = record.drain
    agent.drain_started = record.drain_started
    agent.is_deactivated = record.is_deactivated
