"""What becomes of agents that fall silent, or are heard again (reference mesos §4.3)."""

import asyncio
from contextlib import suppress

import structlog

from phalanx.core.error import UnavailableError
from phalanx.master.agents.limit import Limit, Rate
from phalanx.master.agents.liveness import Patience, deafness_of, loss_problem, verdicts
from phalanx.master.agents.registry import outlived
from phalanx.master.agents.roster import Roster
from phalanx.master.agents.stray import Strays
from phalanx.master.cluster.agent import Agent
from phalanx.master.event import AgentUpdated
from phalanx.master.post.framework import send_failure
from phalanx.mesos.stream import Stream
from phalanx.net.model.objects import Liveness

log = structlog.get_logger()

WATCH_SECONDS = 0.25


class Observer:
    """Hears agents, and gives up those that stay silent, no faster than the *removal_rate*.

    A new leader that misses more than *missing_share* of the agents it knows
    of ends itself instead of giving them up.
    """

    def __init__(
        self,
        roster: Roster,
        strays: Strays,
        patience: Patience,
        *,
        removal_rate: Rate | None,
        missing_share: float,
    ) -> None:
        self._roster = roster
        self._cluster = roster.cluster
        self._registry = roster.registry
        self._clock = roster.clock
        self._counts = roster.counts
        self._strays = strays
        self._patience = patience
        self._limit = Limit(removal_rate)
        self._missing_share = missing_share

    def hear(self, stream_id: str) -> Agent:
        """Return the agent of a stream and note its sign of life; it undoes a suspicion.

        Raises UnavailableError when the stream is none of ours (any more).
        """
        agent = self._roster.of_stream(stream_id)
        agent.heard = self._clock.now()
        if agent.liveness is not Liveness.ALIVE:
            agent.liveness = Liveness.ALIVE
            log.info("agent_alive", agent=agent.id)
            self._cluster.bus.publish(AgentUpdated(agent.id))
            self._roster.poke((agent.id,))
        return agent

    def disconnected(self, agent: Agent, stream: Stream) -> None:
        """Note that *stream* broke: no offers of the agent until it subscribes again."""
        if agent.stream is not stream:
            return
        self._roster.cut(agent)
        if agent.liveness is Liveness.SUSPECT:
            self._forsake(agent)
        self._cluster.bus.publish(AgentUpdated(agent.id))
        log.info("agent_disconnected", agent=agent.id)

    def excuse(self, seconds: float) -> None:
        """Leave so many seconds, in which we did not listen, out of every agent's silence."""
        if seconds <= 0:
            return
        log.warning("watch_late", seconds=round(seconds, 1))
        now = self._clock.now()
        for agent in self._cluster.agents.values():
            agent.heard = min(agent.heard + seconds, now)
        # Nobody was heard by this: whether a stray has moved is told by what comes from now on.
        self._strays.begin_anew(now)

    async def watch(self) -> None:
        """Judge every agent four times a second until cancelled."""
        while True:
            slept = self._clock.now()
            await asyncio.sleep(WATCH_SECONDS)
            self.excuse(deafness_of(self._clock.now() - slept, planned=WATCH_SECONDS))
            await self.watch_once()

    async def watch_once(self) -> None:
        """Judge every agent by its silence: suspect some, give some up."""
        now = self._clock.now()
        found = verdicts(self._cluster.agents.values(), now, self._patience)
        for agent in found.suspect:
            self._suspect(agent, now - agent.heard)
        await asyncio.gather(*map(self._give_up, self._limit.let_pass(found.silent, now)))

    def _suspect(self, agent: Agent, silence: float) -> None:
        agent.liveness = Liveness.SUSPECT
        self._roster.rescind(agent)
        log.warning("agent_suspect", agent=agent.id, silence=round(silence, 1))
        if agent.stream is None:
            self._forsake(agent)
        self._cluster.bus.publish(AgentUpdated(agent.id))

    def _forsake(self, agent: Agent) -> None:
        """Let go of what does not outlive the connection of its agent (reference mesos §4.3).

        It is more than a moment's break: an agent that goes on is back before it is suspect.
        """
        self._roster.tasks.forsake(agent)
        self._roster.holdings.forsake(agent)
        self._roster.poke((agent.id,))

    async def _give_up(self, agent: Agent) -> None:
        """Make a silent agent unreachable, first in the registry."""
        heard = agent.heard
        self._counts["unreachable_scheduled"] += 1
        async with self._roster.locks.of(agent.id):
            if self._cluster.agents.get(agent.id) is not agent or agent.heard != heard:
                self._counts["unreachable_canceled"] += 1
                return  # it was removed, or registered, while we waited
            record = self._registry.records[agent.id]
            since = self._clock.wall()
            try:
                await self._registry.put(record.unreachable(since))
            except UnavailableError as error:
                log.warning("registry_write_failed", agent=agent.id, error=str(error))
                return  # the next round tries again
            if self._cluster.agents.get(agent.id) is not agent:
                return
            if agent.heard != heard:  # a late sign of life; registering will admit it anew
                log.info("agent_unreachable_canceled", agent=agent.id)
                self._counts["unreachable_canceled"] += 1
                with suppress(UnavailableError):  # at worst a later leader learns it from the agent
                    await self._registry.put(record)
                return
            self._counts["unreachable_completed"] += 1
            self._roster.rescind(agent)
            self._roster.tasks.strand(agent, since)
            self._roster.holdings.strand(agent)
            agent.liveness = Liveness.UNREACHABLE
            agent.unreachable_since = since
            agent.kills.clear()
            self._roster.cut(agent)
            send_failure(self._cluster, agent.id)
            self._cluster.bus.publish(AgentUpdated(agent.id))
            log.warning("agent_unreachable", agent=agent.id)
            self._roster.poke((agent.id,))

    async def give_up_recovered(self) -> None:
        """Make recovered agents that never came back unreachable, as fast as the rate allows.

        Raises UnavailableError when too many of them are missing.
        """
        missing = list(self._cluster.recovered)
        admitted = len(missing) + len(self._cluster.agents)
        problem = loss_problem(len(missing), admitted, most_share=self._missing_share)
        if problem is not None:
            raise UnavailableError(problem)
        passed = self._limit.let_pass(missing, self._clock.now())
        await asyncio.gather(*map(self._give_up_recovered, passed))

    async def _give_up_recovered(self, id: str) -> None:
        async with self._roster.locks.of(id):
            if id not in self._cluster.recovered:
                return
            record = self._registry.records[id].unreachable(self._clock.wall())
            try:
                await self._registry.put(record)
            except UnavailableError as error:
                log.warning("registry_write_failed", agent=id, error=str(error))
            if id not in self._cluster.recovered:
                return
            self._roster.add_absent(record)
            self._cluster.bus.publish(AgentUpdated(id))
            self._counts["recovery_removals"] += 1
            send_failure(self._cluster, id)
            log.warning("agent_unreachable", agent=id, reason="not back in time")

    async def prune(self, *, most_seconds: float, most_count: int) -> None:
        """Forget unreachable and gone agents that are too old or too many."""
        for record in outlived(
            list(self._registry.records.values()),
            now=self._clock.wall(),
            most_seconds=most_seconds,
            most_count=most_count,
        ):
            async with self._roster.locks.of(record.id):
                if self._registry.records.get(record.id) is not record:
                    continue
                await self._registry.remove(record.id)
                self._cluster.gone -= {record.id}
                agent = self._cluster.agents.get(record.id)
                if agent is not None and agent.liveness is Liveness.UNREACHABLE:
                    self._cluster.remove_agent(agent)
                log.info("agent_forgotten", agent=record.id, state=record.state)
