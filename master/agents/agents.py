"""Agents: how they register, fall silent, come back and go (reference mesos §4.2, §4.3)."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import IPv4Address

import structlog

from phalanx.core.error import InvalidError, NotFoundError, UnavailableError
from phalanx.master.agents.liveness import liveness_after
from phalanx.master.agents.post import shutdown_framework, tell
from phalanx.master.agents.reconcile import Tasks
from phalanx.master.agents.registry import GONE, UNREACHABLE, AgentRecord, AgentRegistry
from phalanx.master.allocator.poke import Poke
from phalanx.master.carry import carried_through
from phalanx.master.clock import Clock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster, Recovered
from phalanx.master.event import AgentAdded, AgentUpdated
from phalanx.master.identity import Identities
from phalanx.master.scheduler.framework_info import id_problem
from phalanx.master.scheduler.frameworks import Frameworks
from phalanx.master.scheduler.post import rescind, send_failure
from phalanx.mesos.agent_protocol import (
    HEARTBEAT_SECONDS,
    AgentEvent,
    AgentShutdown,
    AgentSubscribe,
    AgentSubscribed,
)
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.mesos import AgentID, AgentInfo
from phalanx.net.model.objects import Liveness

log = structlog.get_logger()

HEARTBEAT = AgentEvent(type="HEARTBEAT")
WATCH_SECONDS = 0.25

Lease = Callable[[IPv4Address], Awaitable[None]]


class Agents:
    """The registrations and the liveness of agents.

    Everything durable goes through one lock, so that an agent never becomes
    unreachable while it registers.
    """

    def __init__(
        self,
        cluster: Cluster,
        registry: AgentRegistry,
        frameworks: Frameworks,
        tasks: Tasks,
        ids: Identities,
        clock: Clock,
        *,
        lease: Lease,
        suspect_seconds: float,
        unreachable_seconds: float,
        poke: Poke,
        new_stream_id: Callable[[], str],
    ) -> None:
        self._cluster = cluster
        self._registry = registry
        self._frameworks = frameworks
        self._tasks = tasks
        self._ids = ids
        self._clock = clock
        self._lease = lease
        self._suspect = suspect_seconds
        self._unreachable = unreachable_seconds
        self._poke = poke
        self._new_stream_id = new_stream_id
        self._lock = asyncio.Lock()
        self._by_stream: dict[str, Agent] = {}

    def recover(self) -> None:
        """Take in what the registry knows: agents to wait for, and those already unreachable."""
        for record in self._registry.records.values():
            if record.state == GONE:
                self._cluster.gone |= {record.id}
            elif record.state == UNREACHABLE:
                self._cluster.add_agent(self._absent(record))
            else:
                self._cluster.recovered[record.id] = Recovered(record.id, record.info, record.node)

    async def subscribe(
        self, subscribe: AgentSubscribe, address: IPv4Address
    ) -> tuple[Agent | None, Stream]:
        """Register an agent that reaches us from *address*; return it and its new stream.

        Without an agent the stream holds a SHUTDOWN. Raises InvalidError for
        what can't be an agent and UnavailableError while the registry can't
        be written; the agent tries again.
        """
        info = subscribe.agent_info
        if info.id is not None and (problem := id_problem(info.id.value)):
            raise InvalidError(f"agent_info.id: {problem}")
        total = Resources.of(info.resources)
        stream = Stream(self._new_stream_id())
        async with self._lock:
            id = info.id.value if info.id is not None else self._ids.agent()
            if id in self._cluster.gone:
                why = AgentShutdown(message="Agent has been marked gone")
                stream.send(AgentEvent(type="SHUTDOWN", shutdown=why))
                stream.close()
                return None, stream
            await self._remove_others_at(address, info.port, id)
            info = _with_id(info, id)
            await self._registry.put(AgentRecord(id, info, str(address), subscribe.version))
            await self._lease(address)
            is_awaited = id in self._cluster.recovered
            agent, is_new = self._enter(id, info, address, subscribe.version, total)
        self._connect(agent, stream)
        change = AgentAdded(agent.id) if is_new else AgentUpdated(agent.id)
        self._cluster.bus.publish(change)
        for framework in subscribe.frameworks:
            if framework.id is not None:
                self._frameworks.recover(framework)
        # After a change of leader frameworks reconcile by themselves.
        over = self._tasks.reconcile(agent, subscribe.tasks, is_news=is_new and not is_awaited)
        for framework_id in over:
            shutdown_framework(agent, framework_id)
        for kill in list(agent.kills.values()):
            tell(agent, AgentEvent(type="KILL_TASK", kill_task=kill))
        self._poke((agent.id,))
        log.info("agent_subscribed", agent=id, address=str(address), tasks=len(subscribe.tasks))
        return agent, stream

    def _enter(
        self, id: str, info: AgentInfo, address: IPv4Address, version: str, total: Resources
    ) -> tuple[Agent, bool]:
        """Return the agent's record, made or brought up to date, and whether it was away."""
        wall = self._clock.wall()
        agent = self._cluster.agents.get(id)
        if agent is None:
            is_back = id in self._cluster.recovered
            agent = Agent(id, info, address, version, total, wall, self._clock.now())
            agent.reregistered = wall if is_back else None
            self._cluster.add_agent(agent)
            return agent, True
        self._cut(agent)
        rescind(self._cluster, self._cluster.offers_of(agent))
        if total != agent.total or info.attributes != agent.info.attributes:
            self._cluster.clear_filters(agent)
        agent.info, agent.address, agent.version, agent.total = info, address, version, total
        agent.reregistered = wall
        return agent, agent.liveness is Liveness.UNREACHABLE

    def _connect(self, agent: Agent, stream: Stream) -> None:
        agent.stream = stream
        self._by_stream[stream.id] = agent
        agent.heard = self._clock.now()
        agent.liveness = Liveness.ALIVE
        agent.unreachable_since = None
        subscribed = AgentSubscribed(
            agent_id=AgentID(value=agent.id), heartbeat_seconds=HEARTBEAT_SECONDS
        )
        tell(agent, AgentEvent(type="SUBSCRIBED", subscribed=subscribed))

    @carried_through
    async def _remove_others_at(self, address: IPv4Address, port: int, id: str) -> None:
        """Remove older agents of the same address and port: one process stands there now."""
        others = [
            agent
            for agent in self._cluster.agents.values()
            if agent.id != id and agent.address == address and agent.info.port == port
        ]
        for agent in others:
            await self._registry.remove(agent.id)
            if self._cluster.agents.get(agent.id) is agent:
                self._drop(
                    agent, "REASON_AGENT_REMOVED", "a new agent registered at the same address"
                )
        for old in list(self._cluster.recovered.values()):
            if old.id != id and old.address == address and old.info.port == port:
                await self._registry.remove(old.id)
                self._cluster.recovered.pop(old.id, None)

    def disconnected(self, agent: Agent, stream: Stream) -> None:
        """Note that *stream* broke: no offers of the agent until it subscribes again."""
        if agent.stream is not stream:
            return
        self._cut(agent)
        rescind(self._cluster, self._cluster.offers_of(agent))
        self._cluster.bus.publish(AgentUpdated(agent.id))
        log.info("agent_disconnected", agent=agent.id)

    def hear(self, stream_id: str) -> Agent:
        """Return the agent of a stream and note its sign of life; it undoes a suspicion.

        Raises UnavailableError when the stream is none of ours (any more).
        """
        agent = self._by_stream.get(stream_id)
        if agent is None:
            raise UnavailableError(f"stream {stream_id!r} is not subscribed")
        agent.heard = self._clock.now()
        if agent.liveness is not Liveness.ALIVE:
            agent.liveness = Liveness.ALIVE
            log.info("agent_alive", agent=agent.id)
            self._cluster.bus.publish(AgentUpdated(agent.id))
            self._poke((agent.id,))
        return agent

    def _cut(self, agent: Agent) -> None:
        """Drop the agent's stream if it has one."""
        if agent.stream is not None:
            self._by_stream.pop(agent.stream.id, None)
            stream, agent.stream = agent.stream, None
            stream.drop()

    async def watch_once(self) -> None:
        """Judge every agent by its silence."""
        now = self._clock.now()
        for agent in list(self._cluster.agents.values()):
            if agent.liveness is Liveness.UNREACHABLE:
                continue
            verdict = liveness_after(
                now - agent.heard, suspect=self._suspect, unreachable=self._unreachable
            )
            if verdict is Liveness.UNREACHABLE:
                await self._give_up(agent)
            elif verdict is Liveness.SUSPECT and agent.liveness is Liveness.ALIVE:
                agent.liveness = Liveness.SUSPECT
                rescind(self._cluster, self._cluster.offers_of(agent))
                log.warning("agent_suspect", agent=agent.id, silence=round(now - agent.heard, 1))
                self._cluster.bus.publish(AgentUpdated(agent.id))

    async def watch(self) -> None:
        """Judge every agent four times a second until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self.watch_once()

    async def _give_up(self, agent: Agent) -> None:
        """Make a silent agent unreachable, first in the registry."""
        heard = agent.heard
        async with self._lock:
            if self._cluster.agents.get(agent.id) is not agent or agent.heard != heard:
                return  # it was removed, or registered, while we waited
            record = self._registry.records[agent.id]
            since = self._clock.wall()
            try:
                await self._registry.put(_unreachable(record, since))
            except UnavailableError as error:
                log.warning("registry_write_failed", agent=agent.id, error=str(error))
                return  # the next round tries again
            if agent.heard != heard:  # a late sign of life; registering will admit it anew
                log.info("agent_unreachable_canceled", agent=agent.id)
                with suppress(UnavailableError):  # at worst a later leader learns it from the agent
                    await self._registry.put(record)
                return
            rescind(self._cluster, self._cluster.offers_of(agent))
            self._tasks.strand(agent, since)
            agent.liveness = Liveness.UNREACHABLE
            agent.unreachable_since = since
            agent.kills.clear()
            self._cut(agent)
            send_failure(self._cluster, agent.id)
            self._cluster.bus.publish(AgentUpdated(agent.id))
            log.warning("agent_unreachable", agent=agent.id)
            self._poke()

    async def give_up_recovered(self) -> None:
        """Make every recovered agent that never came back unreachable."""
        for id in list(self._cluster.recovered):
            async with self._lock:
                if id not in self._cluster.recovered:
                    continue
                record = _unreachable(self._registry.records[id], self._clock.wall())
                try:
                    await self._registry.put(record)
                except UnavailableError as error:
                    log.warning("registry_write_failed", agent=id, error=str(error))
                self._cluster.add_agent(self._absent(record))
                self._cluster.bus.publish(AgentUpdated(id))
                send_failure(self._cluster, id)
                log.warning("agent_unreachable", agent=id, reason="not back in time")

    @carried_through
    async def mark_gone(self, id: str) -> None:
        """Remove an agent for ever at an operator's word; its tasks are gone with it."""
        async with self._lock:
            if id in self._cluster.gone:
                return
            record = self._registry.records.get(id)
            if record is None:
                raise NotFoundError("Agent not found")
            gone = AgentRecord(
                id, record.info, record.address, record.version, GONE, self._clock.wall()
            )
            await self._registry.put(gone)
            self._cluster.gone |= {id}
            self._cluster.recovered.pop(id, None)
            agent = self._cluster.agents.get(id)
            if agent is not None:
                why = AgentShutdown(message="Agent has been marked gone")
                tell(agent, AgentEvent(type="SHUTDOWN", shutdown=why))
                self._drop(agent, "REASON_AGENT_REMOVED_BY_OPERATOR", "Agent marked gone", gone=id)

    def _drop(self, agent: Agent, reason: str, why: str, *, gone: str | None = None) -> None:
        rescind(self._cluster, self._cluster.offers_of(agent))
        self._tasks.bury(agent, reason, why, by_operator=gone is not None)
        if agent.stream is not None:
            self._by_stream.pop(agent.stream.id, None)
            agent.stream.close()  # after what is in it: a SHUTDOWN must arrive
            agent.stream = None
        self._cluster.remove_agent(agent)
        send_failure(self._cluster, agent.id)
        log.info("agent_removed", agent=agent.id, reason=why)
        self._poke()

    def _absent(self, record: AgentRecord) -> Agent:
        """Return an unreachable agent of which only the registry tells."""
        return Agent(
            record.id,
            record.info,
            record.node,
            record.version,
            Resources.of(record.info.resources),
            record.since,
            heard=self._clock.now(),
            unreachable_since=record.since,
            liveness=Liveness.UNREACHABLE,
        )


def _with_id(info: AgentInfo, id: str) -> AgentInfo:
    return AgentInfo(
        hostname=info.hostname,
        port=info.port,
        resources=info.resources,
        attributes=info.attributes,
        id=AgentID(value=id),
    )


def _unreachable(record: AgentRecord, since: float) -> AgentRecord:
    return AgentRecord(record.id, record.info, record.address, record.version, UNREACHABLE, since)
