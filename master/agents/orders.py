"""What operators order of agents: drain, deactivate, go (reference mesos §3.1, §4.2)."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from phalanx.core.error import NotFoundError, UnavailableError
from phalanx.master.agents.drain import (
    deactivated,
    drained,
    draining,
    is_drained,
    reactivated,
)
from phalanx.master.agents.registry import GONE, AgentRecord
from phalanx.master.agents.roster import Roster, follow
from phalanx.master.carry import carried_through
from phalanx.master.cluster.agent import Agent
from phalanx.master.event import AgentUpdated
from phalanx.master.post.agent import shutdown, tell
from phalanx.mesos.agent_protocol import AgentEvent, Drain
from phalanx.mesos.v1.mesos import DrainConfig, DurationInfo

log = structlog.get_logger()

DRAIN_SECONDS = 0.25
REMOVE_SECONDS = 1.0


class Orders:
    """Carries orders out: first in the registry, then in memory, then told to the agent."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._cluster = roster.cluster
        self._registry = roster.registry
        self._leaving: set[asyncio.Task[None]] = set()

    @carried_through
    async def mark_gone(self, id: str) -> None:
        """Remove an agent for ever at an operator's word; its tasks are gone with it."""
        async with self._roster.locks.of(id):
            if id not in self._cluster.gone:
                await self._mark_gone(self._record(id, "Agent not found"))

    async def _mark_gone(self, record: AgentRecord) -> None:
        id = record.id
        await self._registry.put(record.gone(self._roster.clock.wall()))
        self._cluster.gone |= {id}
        self._cluster.recovered.pop(id, None)
        agent = self._cluster.agents.get(id)
        if agent is not None:
            shutdown(agent, "Agent has been marked gone")
            reason = "REASON_AGENT_REMOVED_BY_OPERATOR"
            self._roster.drop(agent, reason, "Agent marked gone", by_operator=True)

    @carried_through
    async def drain(
        self, id: str, max_grace: DurationInfo | None = None, *, mark_gone: bool = False
    ) -> None:
        """Let an agent kill its tasks and take no more, even if it is away now.

        Raises NotFoundError for an agent that nobody knows. An agent that
        drains already does so from now on by these words.
        """
        config = DrainConfig(max_grace_period=max_grace, mark_gone=mark_gone)
        async with self._roster.locks.of(id):
            await self._order(draining(self._record(id), config, self._roster.clock.wall()))
            agent = self._cluster.agents.get(id)
            if agent is not None:
                tell(agent, AgentEvent(type="DRAIN", drain=Drain(config=config)))
        log.info("agent_draining", agent=id, mark_gone=mark_gone)
        if agent is not None and agent.is_connected:
            await self._finish_drain(agent)  # at once where nothing runs

    @carried_through
    async def deactivate(self, id: str) -> None:
        """Offer nothing of an agent any more; its tasks stay. Raises NotFoundError."""
        async with self._roster.locks.of(id):
            await self._order(deactivated(self._record(id)))
        log.info("agent_deactivated", agent=id)

    @carried_through
    async def reactivate(self, id: str) -> None:
        """Offer an agent again that was deactivated, or has drained.

        Raises NotFoundError, and InvalidError while it drains.
        """
        async with self._roster.locks.of(id):
            record = self._record(id)
            await self._order(reactivated(record))
            agent = self._cluster.agents.get(id)
            if agent is not None and record.drain is not None:
                tell(agent, AgentEvent(type="DRAIN", drain=Drain()))
        self._roster.poke((id,))
        log.info("agent_reactivated", agent=id)

    async def _order(self, record: AgentRecord) -> None:
        """Write down what was ordered, and follow it where the agent is known."""
        await self._registry.put(record)
        agent = self._cluster.agents.get(record.id)
        if agent is not None:
            follow(agent, record)
            if agent.is_deactivated:
                self._roster.rescind(agent)
            self._cluster.bus.publish(AgentUpdated(agent.id))

    def _record(self, id: str, words: str = "Unknown agent") -> AgentRecord:
        record = self._registry.records.get(id)
        if record is None or record.state == GONE:
            raise NotFoundError(words)
        return record

    async def watch(self) -> None:
        """See four times a second who has drained, until cancelled."""
        while True:
            await asyncio.sleep(DRAIN_SECONDS)
            await self.finish_drains()

    async def finish_drains(self) -> None:
        """Note of every agent on which nothing is left that it has drained."""
        done = [agent for agent in self._cluster.agents.values() if is_drained(agent)]
        await asyncio.gather(*map(self._finish_drain, done))

    async def _finish_drain(self, agent: Agent) -> None:
        """Note that nothing is left of an agent that drains; it goes for ever if that was asked."""
        async with self._roster.locks.of(agent.id):
            is_same = self._cluster.agents.get(agent.id) is agent
            if agent.drain is None or not is_same or not is_drained(agent):
                return
            config, record = agent.drain.config, self._registry.records[agent.id]
            try:
                if config.mark_gone:
                    await self._mark_gone(record)
                else:
                    await self._order(drained(record, config))
            except UnavailableError as error:
                log.warning("registry_write_failed", agent=agent.id, error=str(error))
                return  # the next round tries again
        log.info("agent_drained", agent=agent.id, gone=config.mark_gone)

    def shut_down(self, agents: Sequence[Agent], why: str) -> None:
        """End agents that must not come back as things are, their machine being down."""
        for agent in agents:
            if self._cluster.agents.get(agent.id) is agent:
                shutdown(agent, why)
                self._roster.drop(agent, "REASON_AGENT_REMOVED", why)
                self._forget_soon(agent.id)

    def _forget_soon(self, id: str) -> None:
        """Take an agent that is dropped already out of the registry, as soon as that works."""

        async def forget() -> None:
            while True:
                async with self._roster.locks.of(id):
                    if id in self._cluster.agents:
                        return  # it came back meanwhile
                    with suppress(UnavailableError):
                        return await self._registry.remove(id)
                await asyncio.sleep(REMOVE_SECONDS)

        leaving = asyncio.ensure_future(forget())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
