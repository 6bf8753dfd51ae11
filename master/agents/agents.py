"""Agents: how they register, fall silent, come back and go (reference mesos §4.2, §4.3)."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

import msgspec
import structlog

from phalanx.core.error import InvalidError, NotFoundError, UnavailableError
from phalanx.master.agents.admission import check_version, refusal
from phalanx.master.agents.domain import domain_problem
from phalanx.master.agents.holdings import Holdings
from phalanx.master.agents.limit import Limit, Rate
from phalanx.master.agents.liveness import deafness_of, liveness_after
from phalanx.master.agents.locks import Locks
from phalanx.master.agents.reconcile import Tasks
from phalanx.master.agents.registry import (
    GONE,
    UNREACHABLE,
    AgentRecord,
    AgentRegistry,
    outlived,
)
from phalanx.master.allocator.poke import Poke
from phalanx.master.carry import carried_through
from phalanx.master.clock import Clock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster, Recovered
from phalanx.master.event import AgentAdded, AgentUpdated
from phalanx.master.identity import Identities
from phalanx.master.post.agent import shutdown, shutdown_event, shutdown_framework, tell
from phalanx.master.post.framework import rescind, send_failure
from phalanx.master.scheduler.framework_info import id_problem
from phalanx.master.scheduler.frameworks import Frameworks
from phalanx.mesos.agent_protocol import (
    HEARTBEAT_SECONDS,
    AgentEvent,
    AgentSubscribe,
    AgentSubscribed,
    Drain,
)
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import encode
from phalanx.mesos.v1.mesos import (
    AgentID,
    AgentInfo,
    DomainInfo,
    DrainConfig,
    DrainInfo,
    DurationInfo,
)
from phalanx.net.model.objects import Liveness

log = structlog.get_logger()

HEARTBEAT = encode(AgentEvent(type="HEARTBEAT"))
WATCH_SECONDS = 0.25
REMOVE_SECONDS = 1.0

DRAINING = "DRAINING"
DRAINED = "DRAINED"

Lease = Callable[[IPv4Address], Awaitable[None]]
Move = Callable[[IPv4Address, IPv4Address], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Terms:
    """When agents are given up, how fast, and who may register at all.

    A new leader that misses more than *missing_share* of the agents it knows
    of ends itself instead of giving them up.
    """

    suspect_seconds: float
    unreachable_seconds: float
    removal_rate: Rate | None = None
    missing_share: float = 1.0
    domain: DomainInfo | None = None
    is_domain_required: bool = False


class Agents:
    """The registrations and the liveness of agents, and what operators do with them.

    Whatever is durable of one agent is changed under the lock of its id, so
    that it never becomes unreachable while it registers; agents don't wait for
    each other, so that a thousand that register at once share the store's writes.
    """

    def __init__(
        self,
        cluster: Cluster,
        registry: AgentRegistry,
        frameworks: Frameworks,
        tasks: Tasks,
        holdings: Holdings,
        ids: Identities,
        clock: Clock,
        terms: Terms,
        *,
        lease: Lease,
        move: Move,
        poke: Poke,
        new_stream_id: Callable[[], str],
    ) -> None:
        self._cluster = cluster
        self._registry = registry
        self._frameworks = frameworks
        self._tasks = tasks
        self._holdings = holdings
        self._ids = ids
        self._clock = clock
        self._terms = terms
        self._lease = lease
        self._move = move
        self._strays: dict[str, tuple[IPv4Address, float]] = {}  # where an id came from, and when
        self._poke = poke
        self._new_stream_id = new_stream_id
        self._limit = Limit(terms.removal_rate)
        self._locks = Locks()
        self._by_stream: dict[str, Agent] = {}
        self._at: dict[tuple[IPv4Address, int], set[str]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()  # registrations, removals, … by name

    def recover(self) -> None:
        """Take in what the registry knows: agents to wait for, and those already unreachable."""
        gone = set()
        for record in self._registry.records.values():
            if record.state == GONE:
                gone.add(record.id)
                continue
            self._place(record.id, record.node, record.info.port)
            if record.state == UNREACHABLE:
                self._cluster.add_agent(self._absent(record))
            else:
                self._cluster.recovered[record.id] = Recovered(record.id, record.info, record.node)
        self._cluster.gone |= gone

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
        check_version(subscribe.version)
        domain = self._terms.domain
        problem = domain_problem(info, domain, is_required=self._terms.is_domain_required)
        if problem is not None:
            raise InvalidError(problem)
        total = Resources.of(subscribe.total_resources or info.resources)
        for executor in subscribe.executors:
            Resources.of(executor.resources)  # raises before anything is changed
        stream = Stream(self._new_stream_id())
        async with self._locks.of(f"{address}:{info.port}"):
            id = info.id.value if info.id is not None else self._ids.agent()
            async with self._locks.of(id):
                self._check_silence(id, address)
                why = self._refusal(info, address)
                if why is not None:
                    log.warning("agent_refused", agent=id, reason=why)
                    stream.send(encode(shutdown_event(why)))
                    stream.close()
                    return None, stream
                await self._remove_others_at(address, info.port, id)
                info = msgspec.structs.replace(info, id=AgentID(value=id))
                await self._take_along(id, address)
                record = await self._admit(id, info, address, subscribe.version)
                await self._lease(address)
                is_awaited = id in self._cluster.recovered
                agent, is_new = self._enter(record, total)
                agent.capabilities = subscribe.capabilities
                self._place(id, address, info.port)
        self._connect(agent, stream)
        self._take_over(agent, subscribe, is_news=is_new and not is_awaited, is_new=is_new)
        self._direct_drain(agent, subscribe.drain)
        self._poke((agent.id,))
        self.counts["reregistrations" if subscribe.agent_info.id else "registrations"] += 1
        log.info("agent_subscribed", agent=id, address=str(address), tasks=len(subscribe.tasks))
        return agent, stream

    def _check_silence(self, id: str, address: IPv4Address) -> None:
        """Raise UnavailableError while an agent that comes from elsewhere may have moved or not.

        If it is heard again where it was, whoever comes is a copy of it; else it is suspect soon.
        """
        known = self._cluster.agents.get(id)
        if known is None or known.address == address or known.liveness is not Liveness.ALIVE:
            self._strays.pop(id, None)
            return
        now = self._clock.now()
        came_from, since = self._strays.get(id, (None, now))
        if came_from != address or now - since > self._terms.unreachable_seconds:
            since = now
        self._strays[id] = (address, since)
        if known.heard <= since:
            raise UnavailableError(f"agent {id} was heard at {known.address} a moment ago")
        del self._strays[id]

    async def _take_along(self, id: str, address: IPv4Address) -> None:
        """Let the subnets of an agent's containers follow it to another address."""
        record = self._registry.records.get(id)
        if record is None or record.node == address:
            return
        others = [each for each in self._registry.records.values() if each.id != id]
        neighbours = (self._cluster.agents.get(each.id) for each in others if each.node == address)
        if any(each.node == record.node and each.state != GONE for each in others) or any(
            each is not None and each.liveness is Liveness.ALIVE for each in neighbours
        ):
            return  # they are of a node with several agents: whose, nobody can tell
        await self._move(record.node, address)

    def _refusal(self, info: AgentInfo, address: IPv4Address) -> str | None:
        id = info.id.value if info.id is not None else None
        return refusal(
            id,
            info,
            address,
            gone=self._cluster.gone,
            machines=self._cluster.machines.values(),
            known=self._cluster.agents.get(id or ""),
        )

    async def _admit(
        self, id: str, info: AgentInfo, address: IPv4Address, version: str
    ) -> AgentRecord:
        """Write down that the agent is admitted; what was ordered of it before stays."""
        record = AgentRecord(id, info, str(address), version)
        old = self._registry.records.get(id)
        if old is not None:
            record = msgspec.structs.replace(
                record,
                drain=old.drain,
                drain_started=old.drain_started,
                is_deactivated=old.is_deactivated,
            )
        await self._registry.put(record)
        return record

    def _enter(self, record: AgentRecord, total: Resources) -> tuple[Agent, bool]:
        """Return the agent, made or brought up to date, and whether it was away."""
        wall = self._clock.wall()
        agent = self._cluster.agents.get(record.id)
        if agent is None:
            is_back = record.id in self._cluster.recovered
            now = self._clock.now()
            agent = Agent(record.id, record.info, record.node, record.version, total, wall, now)
            agent.reregistered = wall if is_back else None
            _order(agent, record)
            self._cluster.add_agent(agent)
            return agent, True
        self._cut(agent)
        rescind(self._cluster, self._cluster.offers_of(agent))
        if total != agent.total or record.info.attributes != agent.info.attributes:
            self._cluster.clear_filters(agent)
        agent.info, agent.address = record.info, record.node
        agent.version, agent.total = record.version, total
        agent.reregistered = wall
        _order(agent, record)
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

    def _take_over(
        self, agent: Agent, subscribe: AgentSubscribe, *, is_news: bool, is_new: bool
    ) -> None:
        """Bring our books in line with what the agent holds, and tell it what it missed."""
        change = AgentAdded(agent.id) if is_new else AgentUpdated(agent.id)
        self._cluster.bus.publish(change)
        for framework in subscribe.frameworks:
            if framework.id is not None:
                self._frameworks.recover(framework)
        # After a change of leader frameworks reconcile by themselves.
        over = self._tasks.reconcile(agent, subscribe.tasks, is_news=is_news)
        over += self._holdings.executors(agent, subscribe.executors)
        over += self._holdings.frameworks(agent, subscribe.frameworks)
        for framework_id in {each.value: each for each in over}.values():
            shutdown_framework(agent, framework_id)
        self._holdings.operations(agent, subscribe.operations)
        for kill in list(agent.kills.values()):
            tell(agent, AgentEvent(type="KILL_TASK", kill_task=kill))

    def _direct_drain(self, agent: Agent, known: DrainConfig | None) -> None:
        """Tell the agent to drain, or not to, where it believes something else."""
        wanted = None if agent.drain is None else agent.drain.config
        if wanted is not None and agent.drain is not None and agent.drain.state == DRAINING:
            tell(agent, AgentEvent(type="DRAIN", drain=Drain(config=wanted)))
        elif wanted is None and known is not None:
            tell(agent, AgentEvent(type="DRAIN", drain=Drain()))

    def _place(self, id: str, address: IPv4Address, port: int) -> None:
        self._at.setdefault((address, port), set()).add(id)

    @carried_through
    async def _remove_others_at(self, address: IPv4Address, port: int, id: str) -> None:
        """Remove older agents of the same address and port: one process stands there now."""
        place = self._at.get((address, port), set())
        for other in place - {id}:
            agent, old = self._cluster.agents.get(other), self._cluster.recovered.get(other)
            known = agent or old
            if known is None or known.address != address or known.info.port != port:
                place.discard(other)
                continue
            await self._registry.remove(other)
            place.discard(other)
            self._cluster.recovered.pop(other, None)
            if agent is not None and self._cluster.agents.get(other) is agent:
                self._drop(
                    agent, "REASON_AGENT_REMOVED", "a new agent registered at the same address"
                )

    def disconnected(self, agent: Agent, stream: Stream) -> None:
        """Note that *stream* broke: no offers of the agent until it subscribes again."""
        if agent.stream is not stream:
            return
        self._cut(agent)
        rescind(self._cluster, self._cluster.offers_of(agent))
        if agent.liveness is Liveness.SUSPECT:
            self._forsake(agent)
        self._cluster.bus.publish(AgentUpdated(agent.id))
        log.info("agent_disconnected", agent=agent.id)

    def _forsake(self, agent: Agent) -> None:
        """Let go of what does not outlive the connection of its agent (reference mesos §4.3).

        It is more than a moment's break: an agent that goes on is back before it is suspect.
        """
        self._tasks.forsake(agent)
        self._holdings.forsake(agent)
        self._poke((agent.id,))

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
        """Judge every agent by its silence, and those that drain by what is left on them."""
        now = self._clock.now()
        silent: list[Agent] = []
        drained: list[Agent] = []
        for agent in self._cluster.agents.values():
            if agent.liveness is Liveness.UNREACHABLE:
                continue
            verdict = liveness_after(
                now - agent.heard,
                suspect=self._terms.suspect_seconds,
                unreachable=self._terms.unreachable_seconds,
            )
            if verdict is Liveness.UNREACHABLE:
                silent.append(agent)
            elif verdict is Liveness.SUSPECT and agent.liveness is Liveness.ALIVE:
                agent.liveness = Liveness.SUSPECT
                rescind(self._cluster, self._cluster.offers_of(agent))
                log.warning("agent_suspect", agent=agent.id, silence=round(now - agent.heard, 1))
                if agent.stream is None:
                    self._forsake(agent)
                self._cluster.bus.publish(AgentUpdated(agent.id))
            if agent.drain is not None and agent.drain.state == DRAINING and _is_empty(agent):
                drained.append(agent)
        await asyncio.gather(
            *(self._give_up(agent) for agent in self._admitted(silent)),
            *(self._finish_drain(agent) for agent in drained),
        )

    async def watch(self) -> None:
        """Judge every agent four times a second until cancelled."""
        while True:
            slept = self._clock.now()
            await asyncio.sleep(WATCH_SECONDS)
            self.excuse(deafness_of(self._clock.now() - slept, planned=WATCH_SECONDS))
            await self.watch_once()

    def excuse(self, seconds: float) -> None:
        """Leave so many seconds, in which we did not listen, out of every agent's silence."""
        if seconds <= 0:
            return
        log.warning("watch_late", seconds=round(seconds, 1))
        now = self._clock.now()
        for agent in self._cluster.agents.values():
            agent.heard = min(agent.heard + seconds, now)
        # Nobody was heard by this: whether a stray has moved is told by what comes from now on.
        self._strays = {id: (address, now) for id, (address, _) in self._strays.items()}

    def _admitted(self, silent: Iterable[Agent]) -> list[Agent]:
        """Return those whom the removal rate lets become unreachable now."""
        now, admitted = self._clock.now(), []
        for agent in sorted(silent, key=lambda each: each.heard):
            if self._limit.admits(now):
                self._limit.note(now)
                admitted.append(agent)
        return admitted

    async def _give_up(self, agent: Agent) -> None:
        """Make a silent agent unreachable, first in the registry."""
        heard = agent.heard
        self.counts["unreachable_scheduled"] += 1
        async with self._locks.of(agent.id):
            if self._cluster.agents.get(agent.id) is not agent or agent.heard != heard:
                self.counts["unreachable_canceled"] += 1
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
                self.counts["unreachable_canceled"] += 1
                with suppress(UnavailableError):  # at worst a later leader learns it from the agent
                    await self._registry.put(record)
                return
            self.counts["unreachable_completed"] += 1
            rescind(self._cluster, self._cluster.offers_of(agent))
            self._tasks.strand(agent, since)
            self._holdings.strand(agent)
            agent.liveness = Liveness.UNREACHABLE
            agent.unreachable_since = since
            agent.kills.clear()
            self._cut(agent)
            send_failure(self._cluster, agent.id)
            self._cluster.bus.publish(AgentUpdated(agent.id))
            log.warning("agent_unreachable", agent=agent.id)
            self._poke((agent.id,))

    async def give_up_recovered(self) -> None:
        """Make recovered agents that never came back unreachable, as fast as the rate allows.

        Raises UnavailableError when too many of them are missing: then it is
        more likely that something is wrong with us than with them.
        """
        missing = list(self._cluster.recovered)
        admitted = len(missing) + len(self._cluster.agents)
        if missing and len(missing) > self._terms.missing_share * admitted:
            raise UnavailableError(
                f"Post-recovery agent removal limit exceeded: {len(missing)} of {admitted} agents"
                " that the registry knows did not re-register"
            )
        now = self._clock.now()
        waiting = []
        for id in missing:
            if not self._limit.admits(now):
                break
            self._limit.note(now)
            waiting.append(self._give_up_recovered(id))
        await asyncio.gather(*waiting)

    async def _give_up_recovered(self, id: str) -> None:
        async with self._locks.of(id):
            if id not in self._cluster.recovered:
                return
            record = self._registry.records[id].unreachable(self._clock.wall())
            try:
                await self._registry.put(record)
            except UnavailableError as error:
                log.warning("registry_write_failed", agent=id, error=str(error))
            if id not in self._cluster.recovered:
                return
            self._cluster.add_agent(self._absent(record))
            self._cluster.bus.publish(AgentUpdated(id))
            self.counts["recovery_removals"] += 1
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
            async with self._locks.of(record.id):
                if self._registry.records.get(record.id) is not record:
                    continue
                await self._registry.remove(record.id)
                self._cluster.gone -= {record.id}
                agent = self._cluster.agents.get(record.id)
                if agent is not None and agent.liveness is Liveness.UNREACHABLE:
                    self._cluster.remove_agent(agent)
                log.info("agent_forgotten", agent=record.id, state=record.state)

    # What operators do

    @carried_through
    async def mark_gone(self, id: str) -> None:
        """Remove an agent for ever at an operator's word; its tasks are gone with it."""
        async with self._locks.of(id):
            if id not in self._cluster.gone:
                await self._mark_gone(self._record(id, "Agent not found"))

    async def _mark_gone(self, record: AgentRecord) -> None:
        id, why = record.id, "Agent has been marked gone"
        await self._registry.put(record.gone(self._clock.wall()))
        self._cluster.gone |= {id}
        self._cluster.recovered.pop(id, None)
        agent = self._cluster.agents.get(id)
        if agent is not None:
            shutdown(agent, why)
            self._drop(agent, "REASON_AGENT_REMOVED_BY_OPERATOR", "Agent marked gone", gone=id)

    @carried_through
    async def drain(
        self, id: str, max_grace: DurationInfo | None = None, *, mark_gone: bool = False
    ) -> None:
        """Let an agent kill its tasks and take no more, even if it is away now.

        Raises NotFoundError for an agent that nobody knows. An agent that
        drains already does so from now on by these words.
        """
        config = DrainConfig(max_grace_period=max_grace, mark_gone=mark_gone)
        async with self._locks.of(id):
            record = msgspec.structs.replace(
                self._record(id),
                drain=DrainInfo(state=DRAINING, config=config),
                drain_started=self._clock.wall(),
                is_deactivated=True,
            )
            await self._order(record)
            agent = self._cluster.agents.get(id)
            if agent is not None:
                tell(agent, AgentEvent(type="DRAIN", drain=Drain(config=config)))
        log.info("agent_draining", agent=id, mark_gone=mark_gone)
        if agent is not None and agent.is_connected:
            await self._finish_drain(agent)  # at once where nothing runs

    @carried_through
    async def deactivate(self, id: str) -> None:
        """Offer nothing of an agent any more; its tasks stay. Raises NotFoundError."""
        async with self._locks.of(id):
            await self._order(msgspec.structs.replace(self._record(id), is_deactivated=True))
        log.info("agent_deactivated", agent=id)

    @carried_through
    async def reactivate(self, id: str) -> None:
        """Offer an agent again that was deactivated, or has drained.

        Raises NotFoundError, and InvalidError while it drains.
        """
        async with self._locks.of(id):
            record = self._record(id)
            if record.drain is not None and record.drain.state == DRAINING:
                raise InvalidError("Agent is still in the DRAINING state")
            has_drained = record.drain is not None
            await self._order(
                msgspec.structs.replace(
                    record, drain=None, drain_started=None, is_deactivated=False
                )
            )
            agent = self._cluster.agents.get(id)
            if agent is not None and has_drained:
                tell(agent, AgentEvent(type="DRAIN", drain=Drain()))
        self._poke((id,))
        log.info("agent_reactivated", agent=id)

    async def _order(self, record: AgentRecord) -> None:
        """Write down what an operator ordered, and follow it where the agent is known."""
        await self._registry.put(record)
        agent = self._cluster.agents.get(record.id)
        if agent is not None:
            _order(agent, record)
            if agent.is_deactivated:
                rescind(self._cluster, self._cluster.offers_of(agent))
            self._cluster.bus.publish(AgentUpdated(agent.id))

    def _record(self, id: str, words: str = "Unknown agent") -> AgentRecord:
        record = self._registry.records.get(id)
        if record is None or record.state == GONE:
            raise NotFoundError(words)
        return record

    async def _finish_drain(self, agent: Agent) -> None:
        """Note that nothing is left of an agent that drains; it goes for ever if that was asked."""
        async with self._locks.of(agent.id):
            drain = agent.drain
            is_same = self._cluster.agents.get(agent.id) is agent
            if drain is None or drain.state != DRAINING or not is_same or not _is_empty(agent):
                return
            record = self._registry.records[agent.id]
            try:
                if drain.config.mark_gone:
                    await self._mark_gone(record)
                else:
                    after = DrainInfo(state=DRAINED, config=drain.config)
                    await self._order(msgspec.structs.replace(record, drain=after))
            except UnavailableError as error:
                log.warning("registry_write_failed", agent=agent.id, error=str(error))
                return  # the next round tries again
        log.info("agent_drained", agent=agent.id, gone=drain.config.mark_gone)

    def shut_down(self, agents: Sequence[Agent], why: str) -> None:
        """End agents that must not come back as things are, their machine being down."""
        for agent in agents:
            if self._cluster.agents.get(agent.id) is agent:
                shutdown(agent, why)
                self._drop(agent, "REASON_AGENT_REMOVED", why)
                self._forget_soon(agent.id)

    async def unregister(self, agent: Agent) -> None:
        """Let an agent go that ends for good, by its own word."""
        async with self._locks.of(agent.id):
            await self._registry.remove(agent.id)
            if self._cluster.agents.get(agent.id) is agent:
                self._drop(agent, "REASON_AGENT_REMOVED", "the agent unregistered")

    def _forget_soon(self, id: str) -> None:
        """Take an agent that is dropped already out of the registry, as soon as that works."""

        async def forget() -> None:
            while True:
                async with self._locks.of(id):
                    if id in self._cluster.agents:
                        return  # it came back meanwhile
                    with suppress(UnavailableError):
                        return await self._registry.remove(id)
                await asyncio.sleep(REMOVE_SECONDS)

        leaving = asyncio.ensure_future(forget())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    def _drop(self, agent: Agent, reason: str, why: str, *, gone: str | None = None) -> None:
        rescind(self._cluster, self._cluster.offers_of(agent))
        self._tasks.bury(agent, reason, why, by_operator=gone is not None)
        self._holdings.bury(agent, by_operator=gone is not None)
        self.counts["removals"] += 1
        self.counts[f"removals_{reason}"] += 1
        if agent.stream is not None:
            self._by_stream.pop(agent.stream.id, None)
            agent.stream.close()  # after what is in it: a SHUTDOWN must arrive
            agent.stream = None
        self._cluster.remove_agent(agent)
        send_failure(self._cluster, agent.id)
        log.info("agent_removed", agent=agent.id, reason=why)
        self._poke((agent.id,))

    def _absent(self, record: AgentRecord) -> Agent:
        """Return an unreachable agent of which only the registry tells."""
        agent = Agent(
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
        _order(agent, record)
        return agent


def _order(agent: Agent, record: AgentRecord) -> None:
    """Let the agent be what operators ordered."""
    agent.drain = record.drain
    agent.drain_started = record.drain_started
    agent.is_deactivated = record.is_deactivated


def _is_empty(agent: Agent) -> bool:
    """Tell whether nothing is left on a connected agent that drains."""
    return agent.is_connected and not (agent.tasks or agent.executors or agent.operations)
