"""The allocator at work: runs on a timer and soon after events, and makes offers."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random

import structlog

from phalanx.master.allocator.allocate import Client, Filter, Grant, Spare, allocate
from phalanx.master.allocator.sorter import added
from phalanx.master.clock import Clock
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.offer import Outstanding, offer_message
from phalanx.master.identity import Identities
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Offer
from phalanx.mesos.v1.scheduler import Event, Offers

log = structlog.get_logger()

COALESCE_SECONDS = 0.03


class Allocator:
    """Offers what is free, each *interval* and within 50 ms of a poke."""

    def __init__(
        self,
        cluster: Cluster,
        ids: Identities,
        clock: Clock,
        *,
        interval: float,
        minimums: tuple[Resources, ...],
        is_open: Callable[[], bool],
        rng: Random,
    ) -> None:
        self._cluster = cluster
        self._ids = ids
        self._clock = clock
        self._interval = interval
        self._minimums = minimums
        self._is_open = is_open
        self._rng = rng
        self._poked = asyncio.Event()
        self.runs = 0

    def poke(self, agents: Iterable[str] | None = None) -> None:
        """Ask for a run soon; a burst of pokes costs one run."""
        self._poked.set()

    async def run(self) -> None:
        """Allocate until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):  # wait_for can swallow a cancel
                    await self._poked.wait()
            if self._poked.is_set():
                await asyncio.sleep(COALESCE_SECONDS)
            self._poked.clear()
            self.allocate_once()

    def allocate_once(self) -> int:
        """Make the offers of one run; return how many."""
        if not self._is_open():
            return 0
        self.runs += 1
        now = self._clock.now()
        clients = self._clients(now)
        spares = [
            Spare(agent.id, agent.free, has_gpus="gpus" in agent.total.scalars)
            for agent in self._cluster.agents.values()
            if agent.is_offerable
        ]
        if not clients or not spares:
            return 0
        self._rng.shuffle(spares)
        grants = allocate(
            spares,
            clients,
            total=self._total(),
            role_held=self._role_held(),
            weights={},
            minimums=self._minimums,
            now=now,
        )
        self._offer(grants)
        return len(grants)

    def _offer(self, grants: tuple[Grant, ...]) -> None:
        messages: defaultdict[str, list[Offer]] = defaultdict(list)
        for grant in grants:
            offer = Outstanding(
                self._ids.offer(), grant.framework_id, grant.agent_id, grant.role, grant.resources
            )
            self._cluster.add_offer(offer)
            framework = self._cluster.frameworks[grant.framework_id]
            agent = self._cluster.agents[grant.agent_id]
            messages[grant.framework_id].append(offer_message(offer, framework, agent))
        for framework_id, offers in messages.items():
            stream = self._cluster.frameworks[framework_id].stream
            if stream is not None:
                stream.send(Event(type="OFFERS", offers=Offers(offers=tuple(offers))))
                log.debug("offers_sent", framework=framework_id, count=len(offers))

    def _clients(self, now: float) -> list[Client]:
        clients = []
        for framework in self._cluster.frameworks.values():
            if not framework.is_connected:
                continue
            for role in framework.roles:
                if role in framework.suppressed:
                    continue
                bit = 1 << self._cluster.filters.slot(framework.id, role)
                filters = {
                    agent_id: tuple(
                        Filter(refused, float("inf"))
                        for refused, mask in self._cluster.filters.view(agent_id, now)
                        if mask & bit
                    )
                    for agent_id in self._cluster.agents
                }
                clients.append(
                    Client(
                        framework.id,
                        role,
                        framework.scalars.get(role, {}),
                        filters,
                        takes_gpus=framework.has("GPU_RESOURCES"),
                    )
                )
        return clients

    def _total(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for agent in self._cluster.agents.values():
            if agent.is_connected:
                for name, amount in agent.total.scalars.items():
                    total[name] = total.get(name, 0) + amount
        return total

    def _role_held(self) -> dict[str, dict[str, int]]:
        held: dict[str, dict[str, int]] = {}
        for framework in self._cluster.frameworks.values():
            for role, scalars in framework.scalars.items():
                held[role] = dict(added(held.get(role, {}), scalars))
        return held
