"""A leading master: all its parts, and the loops that it runs."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import structlog

from phalanx.core.collector import calm_collector, collect_now_and_then
from phalanx.core.error import UnavailableError
from phalanx.master.agents.observer import Observer
from phalanx.master.agents.orders import Orders
from phalanx.master.agents.registration import Registration
from phalanx.master.agents.registry import AgentRegistry
from phalanx.master.agents.roster import Roster
from phalanx.master.agents.updates import Updates
from phalanx.master.allocator.loop import Allocator
from phalanx.master.clock import Clock
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.config import MasterConfig
from phalanx.master.event import Bus, MastersChanged
from phalanx.master.maintenance.maintenance import Maintenance
from phalanx.master.masters import Masters
from phalanx.master.network.registry import NetworkRegistry
from phalanx.master.operator.counts import Counts
from phalanx.master.operator.events import Watchers
from phalanx.master.operator.metrics import all_metrics
from phalanx.master.operator.operations import Operations
from phalanx.master.operator.reads import Reads
from phalanx.master.roles.roles import Roles
from phalanx.master.scheduler.calls import Calls
from phalanx.master.scheduler.frameworks import Frameworks
from phalanx.master.scheduler.operations import Conversions
from phalanx.master.view.publisher import Publisher
from phalanx.mesos.v1.mesos import MasterInfo

log = structlog.get_logger()

GATE_SECONDS = 0.1
EXPIRY_SECONDS = 0.25
MASTERS_SECONDS = 2.0
SETTLE_SECONDS = 1.0


class Gate:
    """What a new leader holds back: the feed, and with quotas the offers.

    The feed *is_open* once every recovered agent is back or given up: a View
    without them would take their tasks off the air. Offers are those of agents
    that are back and need no others, so that a framework does not wait for an
    agent that died with the old leader; only where quotas are set they wait
    for most agents, as in Mesos: else a quota would be met twice.
    """

    def __init__(self) -> None:
        self.is_open = False
        self.has_offers = False


@dataclass(frozen=True)
class Leader:
    """The parts of a leading master."""

    info: MasterInfo
    config: MasterConfig
    clock: Clock
    elected: float
    cluster: Cluster
    registry: AgentRegistry
    networks: NetworkRegistry
    frameworks: Frameworks
    calls: Calls
    conversions: Conversions
    roster: Roster
    registration: Registration
    observer: Observer
    orders: Orders
    updates: Updates
    allocator: Allocator
    publisher: Publisher
    watchers: Watchers
    roles: Roles
    maintenance: Maintenance
    operations: Operations
    counts: Counts
    masters: Masters
    bus: Bus
    gate: Gate = field(default_factory=Gate)
    reads: Reads = field(default_factory=Reads)

    @property
    def underlay(self) -> frozenset[IPv4Address]:
        """Return every node's address that is known."""
        agents = self.cluster.agents.values()
        recovered = self.cluster.recovered.values()
        return frozenset(
            {
                self.config.address,
                *self.masters.known,
                *(a.address for a in agents),
                *(r.address for r in recovered),
            }
        )

    def metrics(self, *, uptime: float) -> dict[str, float]:
        """Return every metric by its name; *uptime* is the process', in seconds."""
        return all_metrics(
            self.cluster,
            self.counts,
            uptime=uptime,
            subscribers=len(self.watchers),
            agents=self.roster.counts,
            updates=self.updates.counts,
            allocator=self.allocator.metrics(),
        )

    async def run(self) -> None:
        """Lead until cancelled."""
        calm_collector()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.observer.watch())
            group.create_task(self.orders.watch())
            group.create_task(self.allocator.run())
            group.create_task(self.publisher.run())
            group.create_task(self._expire())
            group.create_task(self._meet())
            group.create_task(self._settle())
            group.create_task(self._open())
            group.create_task(self._offer(len(self.cluster.recovered)))
            group.create_task(self._prune())
            group.create_task(collect_now_and_then())

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            self.frameworks.expire()

    async def _meet(self) -> None:
        """Look now and then for masters that have joined."""
        while True:
            await asyncio.sleep(MASTERS_SECONDS)
            try:
                if await self.masters.load():
                    self.bus.publish(MastersChanged())
            except UnavailableError as error:
                log.warning("masters_not_read", error=str(error))

    async def _settle(self) -> None:
        """Take back soon what a change left in the registry that could not be made whole."""
        while True:
            await asyncio.sleep(SETTLE_SECONDS)
            with suppress(UnavailableError):  # the next change says so
                await self.networks.settle()

    async def _open(self) -> None:
        """Open the feed once no recovered agent is waited for any more."""
        deadline = self.clock.now() + self.config.reregister_seconds
        while self.cluster.recovered:
            if self.clock.now() >= deadline:
                await self.observer.give_up_recovered()
            if self.cluster.recovered:
                await asyncio.sleep(GATE_SECONDS)
        self.gate.is_open = True
        self.publisher.open()
        log.info("feed_opened", agents=len(self.cluster.agents))

    async def _offer(self, awaited: int) -> None:
        """Let offers go out, at once or when enough of the *awaited* agents are back for quotas."""
        deadline = self.clock.now() + self.config.allocator_recovery_seconds
        most_missing = awaited * (1 - self.config.allocator_agent_recovery_factor)
        while self.cluster.quotas and len(self.cluster.recovered) > most_missing:
            if self.clock.now() >= deadline:
                log.warning("quota_not_awaited_longer", missing=len(self.cluster.recovered))
                break
            await asyncio.sleep(GATE_SECONDS)
        self.gate.has_offers = True
        self.allocator.poke()
        log.info("offers_opened", agents=len(self.cluster.agents))

    async def _prune(self) -> None:
        """Forget old agents now and then, and take back what their nodes were leased."""
        housed = set(self.housed())
        while True:
            await asyncio.sleep(self.config.prune_seconds)
            housed |= {record.node for record in self.registry.records.values()}
            try:
                await self.observer.prune(
                    most_seconds=self.config.prune_age_seconds,
                    most_count=self.config.registry_max_agent_count,
                )
                await self.free_nodes(housed)
            except UnavailableError as error:
                log.warning("registry_not_pruned", error=str(error))

    def housed(self) -> Iterator[IPv4Address]:
        """Yield nodes that have or had an agent, as far as a new leader can know.

        Who is leased a subnet had one: its record went, and the leader before
        us did not come to its leases. Unless there are records that nobody can read.
        """
        yield from (record.node for record in self.registry.records.values())
        if self.registry.is_whole:
            yield from (lease.node for lease in self.networks.subnets.values())

    async def free_nodes(self, housed: Iterable[IPv4Address]) -> None:
        """Take back the subnets of the nodes of *housed* that have no agent any more.

        An agent that is unreachable may be back, one that is gone may not.
        """
        leased = {lease.node for lease in self.networks.subnets.values()}
        for node in sorted(leased.intersection(housed) - self.registry.nodes):
            if node in self.registry.nodes:
                continue  # an agent came while we wrote
            await self.networks.free_node(node)
            log.info("subnets_freed", node=str(node))
