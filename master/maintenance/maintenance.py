"""Maintenance at work: schedules and modes, first in the registry, then at the agents."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from phalanx.core.store.store import Store
from phalanx.master.carry import carried_through
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.event import AgentAdded, AgentUpdated, Change
from phalanx.master.maintenance.schedule import (
    DOWN,
    Machines,
    check_schedule,
    is_machine,
    machines_of,
    normal,
    started,
    stopped,
    unavailability_of,
    without,
)
from phalanx.master.post.framework import rescind, tell
from phalanx.master.row import understood
from phalanx.mesos.v1.maintenance import ClusterStatus, DrainingMachine, Schedule
from phalanx.mesos.v1.mesos import MachineID, MachineInfo, OfferID
from phalanx.mesos.v1.scheduler import Event, RescindInverseOffer

log = structlog.get_logger()

KEY = "maintenance/schedule"

# Ends the agents of machines that are down now.
ShutDown = Callable[[Sequence[Agent], str], None]


class Row(msgspec.Struct, frozen=True):
    """What is durable of maintenance: the schedule, and the machines that are down."""

    schedule: Schedule
    down: tuple[MachineID, ...] = ()


class Maintenance:
    """The maintenance of machines; every change raises UnavailableError as the store does."""

    def __init__(
        self, cluster: Cluster, store: Store, *, poke: Callable[[], None], shut_down: ShutDown
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._poke = poke
        self._shut_down = shut_down
        self._lock = asyncio.Lock()
        cluster.bus.subscribe(self._note)

    async def load(self) -> None:
        """Read the registry."""
        row = understood(KEY, await self._store.get(KEY), Row)
        if row is None:
            return
        down = {normal(id): MachineInfo(id=id, mode=DOWN) for id in row.down}
        self._cluster.schedule = row.schedule
        self._cluster.machines = machines_of(row.schedule, down)

    @carried_through
    async def update(self, schedule: Schedule) -> None:
        """Replace the schedule; raise InvalidError when it can't be one."""
        async with self._lock:
            check_schedule(schedule, self._cluster.machines)
            await self._keep(schedule, machines_of(schedule, self._cluster.machines))
        log.info("maintenance_scheduled", windows=len(schedule.windows))

    @carried_through
    async def start(self, ids: Sequence[MachineID]) -> None:
        """Take machines down: their agents end, and none registers; raise InvalidError."""
        async with self._lock:
            await self._keep(self._cluster.schedule, started(ids, self._cluster.machines))
        ended = [
            agent
            for agent in self._cluster.agents.values()
            if any(is_machine(id, agent.info.hostname, agent.address) for id in ids)
        ]
        log.info("maintenance_started", machines=len(ids), agents=len(ended))
        self._shut_down(ended, "Operator initiated 'Machine DOWN'")

    @carried_through
    async def stop(self, ids: Sequence[MachineID]) -> None:
        """Bring machines up again and take them out of the schedule; raise InvalidError."""
        async with self._lock:
            after = stopped(ids, self._cluster.machines)
            await self._keep(without(self._cluster.schedule, ids), after)
        log.info("maintenance_stopped", machines=len(ids))

    @property
    def status(self) -> ClusterStatus:
        """Return which machines are draining, with what frameworks said to it, and which down."""
        machines = self._cluster.machines.values()
        return ClusterStatus(
            draining_machines=tuple(
                self._draining(machine) for machine in machines if machine.mode != DOWN
            ),
            down_machines=tuple(machine.id for machine in machines if machine.mode == DOWN),
        )

    def _draining(self, machine: MachineInfo) -> DrainingMachine:
        statuses = tuple(
            status
            for agent in self._cluster.agents.values()
            if is_machine(machine.id, agent.info.hostname, agent.address)
            for status in agent.inverse_statuses.values()
        )
        return DrainingMachine(id=machine.id, statuses=statuses)

    async def _keep(self, schedule: Schedule, machines: Machines) -> None:
        down = tuple(machine.id for machine in machines.values() if machine.mode == DOWN)
        await self._store.put(KEY, msgspec.json.encode(Row(schedule, down)))
        self._cluster.schedule = schedule
        self._cluster.machines = dict(machines)
        for agent in self._cluster.agents.values():
            self._place(agent)
        self._poke()

    def _note(self, change: Change) -> None:
        """Plan for an agent that has just come."""
        if isinstance(change, AgentAdded | AgentUpdated) and self._cluster.machines:
            agent = self._cluster.agents.get(change.agent_id)
            if agent is not None:
                self._place(agent)

    def _place(self, agent: Agent) -> None:
        """Set when the agent is unavailable; what was asked because of another time is void.

        So are its offers, which said another time, and its filters: a
        framework may want it now that it stays, or no more.
        """
        planned = unavailability_of(self._cluster.machines, agent.info.hostname, agent.address)
        if planned == agent.unavailability:
            return
        agent.unavailability = planned
        agent.inverse_statuses.clear()
        self._cluster.clear_filters(agent)
        rescind(self._cluster, self._cluster.offers_of(agent))
        for id in list(agent.inverse_offers):
            offer = self._cluster.inverse_offers[id]
            self._cluster.remove_inverse_offer(offer)
            rescinded = RescindInverseOffer(inverse_offer_id=OfferID(value=id))
            tell(
                self._cluster.frameworks[offer.framework_id],
                Event(type="RESCIND_INVERSE_OFFER", rescind_inverse_offer=rescinded),
            )
