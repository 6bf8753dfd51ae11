"""The allocator at work: runs on a timer and soon after events, and makes offers."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import structlog

from phalanx.core.error import InvalidError
from phalanx.master.allocator import inverse
from phalanx.master.allocator.allocate import Grant, Spare, steps
from phalanx.master.allocator.metric import Durations, metrics
from phalanx.master.allocator.rule import Rules, Timing
from phalanx.master.allocator.stock import Stock
from phalanx.master.allocator.whitelist import read_whitelist
from phalanx.master.clock import Clock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.offer import Outstanding, offer_message
from phalanx.master.identity import Identities
from phalanx.master.post.framework import rescind, tell
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Offer
from phalanx.mesos.v1.scheduler import Event, Offers

log = structlog.get_logger()

COALESCE_SECONDS = 0.03
SLICE_SECONDS = 0.005  # of work before others get their turn
OFFERS_AT_ONCE = 100  # in one event: what others wait for while it is made


@dataclass(slots=True)
class _Wanted:
    """The runs that were asked for: over which agents, and since when."""

    agents: set[str] = field(default_factory=set)
    is_all: bool = False
    since: float | None = None


class Allocator:
    """Offers what is free, each interval and within 50 ms of a poke."""

    def __init__(
        self,
        cluster: Cluster,
        ids: Identities,
        clock: Clock,
        *,
        timing: Timing,
        rules: Rules,
        whitelist: Path | None,
        is_open: Callable[[], bool],
        rng: Random,
    ) -> None:
        self._cluster = cluster
        self._ids = ids
        self._clock = clock
        self._timing = timing
        self._rules = rules
        self._whitelist = whitelist
        self._is_open = is_open
        self._rng = rng
        self._stock = Stock(cluster, rules)
        self._poked = asyncio.Event()
        self._wanted = _Wanted()
        self._deadlines: deque[tuple[float, str]] = deque()
        self.runs = 0
        self.offers_made = 0
        self.run_seconds = Durations()
        self.latency_seconds = Durations()

    def poke(self, agents: Iterable[str] | None = None) -> None:
        """Ask for a run soon, over some agents or all; a burst of pokes costs one run."""
        if agents is None:
            self._wanted.is_all = True
        else:
            self._wanted.agents.update(agents)
        if self._wanted.since is None:
            self._wanted.since = self._clock.now()
        self._poked.set()

    async def run(self) -> None:
        """Allocate until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._allocate())
            if self._whitelist is not None:
                group.create_task(self._watch(self._whitelist))

    async def _allocate(self) -> None:
        batch = self._clock.now() + self._timing.interval
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience(batch)):  # wait_for can swallow a cancel
                    await self._poked.wait()
            if self._poked.is_set():
                await asyncio.sleep(COALESCE_SECONDS)
            self.expire()
            agents: Iterable[str] | None = None
            is_batch = self._clock.now() >= batch
            if is_batch:
                batch = self._clock.now() + self._timing.interval
            elif self._wanted.since is None:
                continue
            elif not self._wanted.is_all:
                agents = self._wanted.agents
            await self.run_once(agents, is_batch=is_batch)

    async def run_once(self, agents: Iterable[str] | None = None, *, is_batch: bool = True) -> None:
        """Make the offers of one run and let others work every few milliseconds."""
        began = self._clock.now()
        for _ in self._work(agents, is_batch=is_batch):
            if self._clock.now() - began >= SLICE_SECONDS:
                await asyncio.sleep(0)
                began = self._clock.now()

    def _patience(self, batch: float) -> float:
        """Return how long nothing needs to be done unless somebody pokes."""
        until = min(batch, self._deadlines[0][0]) if self._deadlines else batch
        return max(0.0, until - self._clock.now())

    async def _watch(self, path: Path) -> None:
        """Read the whitelist now and then; what can't be read changes nothing."""
        while True:
            try:
                names = await asyncio.to_thread(read_whitelist, path)
            except InvalidError as error:
                log.warning("whitelist_not_read", error=str(error))
            else:
                self.allow(names)
            await asyncio.sleep(self._timing.whitelist_seconds)

    def allow(self, hostnames: frozenset[str] | None) -> None:
        """Make offers of agents with these names alone, None for all agents."""
        if hostnames != self._stock.hostnames:
            self._stock.hostnames = hostnames
            log.info("whitelist_read", names=None if hostnames is None else len(hostnames))
            self.poke()

    def allocate_once(self, agents: Iterable[str] | None = None) -> int:
        """Make the offers of one run without a pause; return how many.

        Over some *agents* it is a run after an event, over all of them one of
        those that the timer starts.
        """
        before = self.offers_made
        for _ in self._work(agents, is_batch=agents is None):
            pass
        return self.offers_made - before

    def expire(self) -> None:
        """Take back the offers that were out for too long."""
        now = self._clock.now()
        late = []
        while self._deadlines and self._deadlines[0][0] <= now:
            offer = self._cluster.offers.get(self._deadlines.popleft()[1])
            if offer is not None:
                late.append(offer)
        if late:
            log.info("offers_timed_out", count=len(late))
            rescind(self._cluster, late)

    def metrics(self) -> dict[str, float]:
        """Return every metric of ours by Mesos' name (reference mesos §3.4)."""
        return metrics(
            self._cluster, self._stock, self.runs, self.run_seconds, self.latency_seconds
        )

    def excluded(self) -> dict[str, Any]:
        """Return the agents that each framework's offer constraints leave out, by role.

        In the shape of Mesos' ``/allocator/offer_constraints_debug``.
        """
        for _ in self._stock.look(None, self._clock.now()):
            pass
        return {
            framework.id: {
                "suppressed_roles": sorted(framework.suppressed),
                "excluded_by_attribute_constraints": {
                    role: self._stock.excluded(framework, role) for role in framework.roles
                },
            }
            for framework in self._cluster.frameworks.values()
        }

    def _work(self, agents: Iterable[str] | None, *, is_batch: bool) -> Iterator[None]:
        """Carry out one run, with a pause wherever others may work."""
        began = self._clock.now()
        if self._wanted.since is not None:
            self.latency_seconds.add(began - self._wanted.since)
        chosen = None if agents is None else tuple(agents)
        self._wanted = _Wanted()
        self._poked.clear()
        if not self._is_open():
            return
        self.runs += 1
        spares: list[Spare] = []
        for found in self._stock.look(chosen, began):
            spares += found
            yield
        if is_batch:
            self._stock.forget()
        if spares:
            yield from self._offer_all(spares, is_batch=is_batch)
        self._ask(chosen)
        self.run_seconds.add(self._clock.now() - began)

    def _offer_all(self, spares: Sequence[Spare], *, is_batch: bool) -> Iterator[None]:
        by_framework: dict[str, list[Grant]] = {}
        market = self._stock.market(spares, is_batch=is_batch)
        yield
        for grants in steps(market, self._rng):
            for grant in grants:
                by_framework.setdefault(grant.framework_id, []).append(grant)
            yield
        for framework_id, grants in by_framework.items():
            for start in range(0, len(grants), OFFERS_AT_ONCE):
                self._offer(framework_id, grants[start : start + OFFERS_AT_ONCE])
                yield

    def _offer(self, framework_id: str, grants: Sequence[Grant]) -> None:
        """Make offers of what is still there of *grants*, all of one framework."""
        framework = self._cluster.frameworks.get(framework_id)
        if framework is None or not framework.is_connected:
            return
        roles = frozenset(framework.roles) - framework.suppressed
        messages: list[Offer] = []
        for grant in grants:
            agent = self._cluster.agents.get(grant.agent_id)
            if agent is None or grant.role not in roles or not _has(agent, grant.resources):
                continue
            offer = Outstanding(
                self._ids.offer(), framework_id, agent.id, grant.role, grant.resources
            )
            self._cluster.add_offer(offer)
            self.offers_made += 1
            self._stock.counts[framework_id, grant.role] += 1
            if grant.is_second:
                self._cluster.filters.begin_anew(agent.id)
            if self._timing.offer_seconds is not None:
                self._deadlines.append((self._clock.now() + self._timing.offer_seconds, offer.id))
            messages.append(offer_message(offer, framework, agent))
        if messages:
            self._send(framework, messages)

    def _send(self, framework: Framework, messages: Sequence[Offer]) -> None:
        tell(framework, Event(type="OFFERS", offers=Offers(offers=tuple(messages))))
        log.debug("offers_sent", framework=framework.id, count=len(messages))

    def _ask(self, chosen: Iterable[str] | None) -> None:
        """Send and take back inverse offers."""
        if self._cluster.inverse_offers:
            inverse.withdraw(self._cluster)
        if not self._cluster.machines and not self._cluster.schedule.windows:
            return
        known = self._cluster.agents
        agents = (
            list(known.values()) if chosen is None else [known[id] for id in chosen if id in known]
        )
        inverse.ask(self._cluster, self._ids, self._clock, agents)


def _has(agent: Agent, resources: Resources) -> bool:
    """Tell whether an agent may be offered and has *resources* to give, now."""
    if not agent.is_offerable:
        return False
    free = agent.free
    if resources is free or resources in free:
        return True
    own = resources.where(lambda kind: not kind.is_shared)
    return own in free and resources in agent.total
