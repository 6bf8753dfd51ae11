"""How agents register, come back and unregister (reference mesos §4.2)."""

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address

import msgspec
import structlog

from phalanx.master.agents.admission import checked_total, node_left, refusal
from phalanx.master.agents.drain import correction
from phalanx.master.agents.registry import GONE, UNREACHABLE, AgentRecord
from phalanx.master.agents.roster import Roster, follow
from phalanx.master.agents.stray import Strays
from phalanx.master.carry import carried_through
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Recovered
from phalanx.master.event import AgentAdded, AgentUpdated
from phalanx.master.identity import Identities
from phalanx.master.post.agent import shutdown_event, shutdown_framework, tell
from phalanx.master.scheduler.frameworks import Frameworks
from phalanx.mesos.agent_protocol import (
    HEARTBEAT_SECONDS,
    AgentEvent,
    AgentSubscribe,
    AgentSubscribed,
)
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import encode
from phalanx.mesos.v1.mesos import AgentID, AgentInfo, DomainInfo
from phalanx.net.model.objects import Liveness

log = structlog.get_logger()

Lease = Callable[[IPv4Address], Awaitable[None]]
Move = Callable[[IPv4Address, IPv4Address], Awaitable[None]]


class Registration:
    """Takes agents in: checked, admitted into the registry, leased subnets, their tasks taken over.

    Agents of another *domain* may be refused; without one of their own they
    are where *is_domain_required*.
    """

    def __init__(
        self,
        roster: Roster,
        frameworks: Frameworks,
        ids: Identities,
        strays: Strays,
        *,
        domain: DomainInfo | None,
        is_domain_required: bool,
        lease: Lease,
        move: Move,
        new_stream_id: Callable[[], str],
    ) -> None:
        self._roster = roster
        self._cluster = roster.cluster
        self._registry = roster.registry
        self._frameworks = frameworks
        self._ids = ids
        self._strays = strays
        self._domain = domain
        self._is_domain_required = is_domain_required
        self._lease = lease
        self._move = move
        self._new_stream_id = new_stream_id
        self._at: dict[tuple[IPv4Address, int], set[str]] = {}

    def recover(self) -> None:
        """Take in what the registry knows: agents to wait for, and those already unreachable."""
        gone = set()
        for record in self._registry.records.values():
            if record.state == GONE:
                gone.add(record.id)
                continue
            self._place(record.id, record.node, record.info.port)
            if record.state == UNREACHABLE:
                self._roster.add_absent(record)
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
        info, roster = subscribe.agent_info, self._roster
        required = self._is_domain_required
        total = checked_total(subscribe, self._domain, is_domain_required=required)
        stream = Stream(self._new_stream_id())
        async with roster.locks.of(f"{address}:{info.port}"):
            id = info.id.value if info.id is not None else self._ids.agent()
            async with roster.locks.of(id):
                known = self._cluster.agents.get(id)
                self._strays.check(id, known, address, roster.clock.now())
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
        drain = correction(agent.drain, subscribe.drain)
        if drain is not None:
            tell(agent, AgentEvent(type="DRAIN", drain=drain))
        roster.poke((agent.id,))
        roster.counts["reregistrations" if subscribe.agent_info.id else "registrations"] += 1
        log.info("agent_subscribed", agent=id, address=str(address), tasks=len(subscribe.tasks))
        return agent, stream

    async def unregister(self, agent: Agent) -> None:
        """Let an agent go that ends for good, by its own word."""
        async with self._roster.locks.of(agent.id):
            await self._registry.remove(agent.id)
            if self._cluster.agents.get(agent.id) is agent:
                self._roster.drop(agent, "REASON_AGENT_REMOVED", "the agent unregistered")

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
                why = "a new agent registered at the same address"
                self._roster.drop(agent, "REASON_AGENT_REMOVED", why)

    async def _take_along(self, id: str, address: IPv4Address) -> None:
        """Let the subnets of an agent's containers follow it to another address."""
        node = node_left(id, address, records=self._registry.records, agents=self._cluster.agents)
        if node is not None:
            await self._move(node, address)

    async def _admit(
        self, id: str, info: AgentInfo, address: IPv4Address, version: str
    ) -> AgentRecord:
        """Write down that the agent is admitted; what was ordered of it before stays."""
        record = AgentRecord(id, info, str(address), version)
        old = self._registry.records.get(id)
        if old is not None:
            record = record.with_orders_of(old)
        await self._registry.put(record)
        return record

    def _enter(self, record: AgentRecord, total: Resources) -> tuple[Agent, bool]:
        """Return the agent, made or brought up to date, and whether it was away."""
        wall = self._roster.clock.wall()
        agent = self._cluster.agents.get(record.id)
        if agent is None:
            is_back = record.id in self._cluster.recovered
            now = self._roster.clock.now()
            agent = Agent(record.id, record.info, record.node, record.version, total, wall, now)
            agent.reregistered = wall if is_back else None
            follow(agent, record)
            self._cluster.add_agent(agent)
            return agent, True
        self._roster.cut(agent)
        if total != agent.total or record.info.attributes != agent.info.attributes:
            self._cluster.clear_filters(agent)
        agent.info, agent.address = record.info, record.node
        agent.version, agent.total = record.version, total
        agent.reregistered = wall
        follow(agent, record)
        return agent, agent.liveness is Liveness.UNREACHABLE

    def _connect(self, agent: Agent, stream: Stream) -> None:
        self._roster.attach(agent, stream)
        agent.heard = self._roster.clock.now()
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
        tasks, holdings = self._roster.tasks, self._roster.holdings
        # After a change of leader frameworks reconcile by themselves.
        over = tasks.reconcile(agent, subscribe.tasks, is_news=is_news)
        over += holdings.executors(agent, subscribe.executors)
        over += holdings.frameworks(agent, subscribe.frameworks)
        for framework_id in {each.value: each for each in over}.values():
            shutdown_framework(agent, framework_id)
        holdings.operations(agent, subscribe.operations)
        for kill in list(agent.kills.values()):
            tell(agent, AgentEvent(type="KILL_TASK", kill_task=kill))

    def _place(self, id: str, address: IPv4Address, port: int) -> None:
        self._at.setdefault((address, port), set()).add(id)
