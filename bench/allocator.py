"""Offers for 200 frameworks in 50 roles on 10,000 agents: a whole cycle, and one agent's change."""

import asyncio
import gc
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

import structlog
from claim import Bound, Figure

from phalanx.master.allocator.allocate import Client, Market, allocate
from phalanx.master.allocator.loop import Allocator
from phalanx.master.allocator.rule import Rules, Timing, quantities
from phalanx.master.allocator.sorter import added, dominant_share
from phalanx.master.allocator.stock import Stock
from phalanx.master.clock import SystemClock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.event import Bus
from phalanx.master.identity import Identities
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import AgentInfo, FrameworkInfo, Scalar
from phalanx.mesos.v1.quota import QuotaConfig

AGENTS = 10_000
FRAMEWORKS = 200
ROLES = 50
QUOTAS = 10
CHANGES = 50
GOAL_CYCLE_SECONDS = 1.0
GOAL_CHANGE_MS = 20.0
GOAL_PAUSE_MS = 20.0
RESOURCES = "cpus:32;mem:131072;disk:1000000;ports:[31000-32000]"
RULES = Rules(minimums=quantities("cpus:0.01|mem:32"))


@dataclass(frozen=True)
class Bench:
    """A cluster without a network, and the allocator that makes offers of it."""

    cluster: Cluster
    allocator: Allocator
    clock: SystemClock

    @classmethod
    def begin(cls, *, agents: int = AGENTS, quotas: int = 0) -> "Bench":
        """Return a cluster of idle agents and subscribed frameworks, some roles with quota."""
        cluster, clock = Cluster(Bus()), SystemClock()
        for number in range(agents):
            cluster.add_agent(_agent(number, clock.now()))
        for number in range(FRAMEWORKS):
            cluster.add_framework(_framework(number))
        for number in range(quotas):
            cpus = agents * 32 / QUOTAS / 4
            cluster.quotas[f"r{number}"] = QuotaConfig(
                role=f"r{number}",
                guarantees={"cpus": Scalar(value=cpus), "mem": Scalar(value=cpus * 4096)},
                limits={"cpus": Scalar(value=cpus * 2)},
            )
        allocator = Allocator(
            cluster,
            Identities("m"),
            clock,
            timing=Timing(),
            rules=RULES,
            whitelist=None,
            is_open=lambda: True,
            rng=Random(1),
        )
        return cls(cluster, allocator, clock)

    def decline_all(self, *, is_filtered: bool) -> None:
        """Give every offer back, and empty the frameworks' streams."""
        until = self.clock.now() + 3600.0 if is_filtered else None
        for offer in list(self.cluster.offers.values()):
            self.cluster.remove_offer(offer)
            client = offer.framework_id, offer.role
            self.cluster.filters.refuse(
                client, offer.agent_id, offer.resources, until, is_pass=is_filtered
            )
        for framework in self.cluster.frameworks.values():
            if framework.stream is not None:
                framework.stream.take()

    def storm(self) -> None:
        """Have every framework refuse every agent for an hour."""
        until = self.clock.now() + 3600.0
        for agent in self.cluster.agents.values():
            for framework in self.cluster.frameworks.values():
                client = framework.id, framework.roles[0]
                self.cluster.filters.refuse(client, agent.id, agent.free, until)

    def cycle_seconds(self) -> float:
        """Return how long a run over all agents takes, offers and their bytes included."""
        gc.collect()
        return _seconds(self.allocator.allocate_once)

    def change_ms(self) -> float:
        """Return how long a run after one agent's change takes, the median of some."""
        rng = Random(2)
        taken = []
        for _ in range(CHANGES):
            agent = rng.choice(list(self.cluster.agents.values()))
            for id in list(agent.offers):
                self.cluster.remove_offer(self.cluster.offers[id])
            taken.append(_seconds(lambda id=agent.id: self.allocator.allocate_once((id,))))
        return statistics.median(taken) * 1000


def measure() -> Sequence[Figure]:
    """Measure plain, with quota, and with two million filters; then against a plain sort."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    plain = Bench.begin()
    figures = [_cycle("whole cycle, all agents idle", plain.cycle_seconds())]
    figures.append(_change("one agent changes", plain.change_ms()))
    plain.decline_all(is_filtered=False)
    figures.append(_cycle("whole cycle again, nothing refused", plain.cycle_seconds()))
    plain.decline_all(is_filtered=False)
    figures.append(_pause(plain))
    quota = Bench.begin(quotas=QUOTAS)
    figures.append(_cycle(f"whole cycle, {QUOTAS} roles with quota", quota.cycle_seconds()))
    figures.append(_change("one agent changes, quota", quota.change_ms()))
    storm = Bench.begin()
    storm.storm()
    figures.append(_cycle("whole cycle, 2 million filters", storm.cycle_seconds()))
    figures.append(_cycle("the next cycle, nothing has changed", storm.cycle_seconds()))
    figures.append(_change("one agent changes, 2 million filters", storm.change_ms()))
    first = next(iter(storm.cluster.frameworks.values()))
    storm.cluster.filters.revive(first.id, first.roles)
    figures.append(_cycle("whole cycle, one of 200 revives", storm.cycle_seconds()))
    figures.append(_peer())
    return figures


def _cycle(name: str, seconds: float) -> Figure:
    return Figure(name, "s", seconds, Bound.OURS_AT_MOST, GOAL_CYCLE_SECONDS)


def _change(name: str, milliseconds: float) -> Figure:
    return Figure(name, "ms", milliseconds, Bound.OURS_AT_MOST, GOAL_CHANGE_MS)


def _pause(bench: Bench) -> Figure:
    """Return how long anything else waits at most while a cycle runs."""

    async def longest() -> float:
        worst = 0.0
        gc.collect()
        gc.freeze()  # a pass over all that the cluster is made of would be a wait of its own
        cycle = asyncio.get_running_loop().create_task(bench.allocator.run_once())
        while not cycle.done():
            began = time.perf_counter()
            await asyncio.sleep(0)
            worst = max(worst, time.perf_counter() - began)
        return worst

    waited = asyncio.run(longest()) * 1000
    gc.unfreeze()
    return Figure(
        "longest wait of others during a cycle", "ms", waited, Bound.OURS_AT_MOST, GOAL_PAUSE_MS
    )


def _peer() -> Figure:
    """Compare deciding alone with sorting all roles and frameworks anew for each agent."""
    bench = Bench.begin(agents=1000)
    stock = Stock(bench.cluster, RULES)
    spares = [spare for found in stock.look(None, 0.0) for spare in found]
    market = stock.market(spares, is_batch=True)
    ours = _seconds(lambda: allocate(market, Random(1)))
    peer = _seconds(lambda: _sorted_anew(market))
    return Figure(
        "deciding alone, 1,000 agents; peer sorts anew for each agent",
        "s",
        ours,
        Bound.RATIO_AT_MOST,
        0.5,
        peer,
    )


def _sorted_anew(market: Market) -> int:
    """Grant each agent to the first of all roles and frameworks, sorted by share."""
    total = market.standing.total
    roles: dict[str, dict[str, int]] = {client.role: {} for client in market.clients}
    held: dict[int, dict[str, int]] = {client.bit: {} for client in market.clients}

    def place(client: Client) -> tuple[float, str, float, str]:
        return (
            dominant_share(roles[client.role], total, weight=1.0),
            client.role,
            dominant_share(held[client.bit], total, weight=1.0),
            client.framework_id,
        )

    for spare in market.spares:
        chosen = sorted(market.clients, key=place)[0]
        roles[chosen.role] = dict(added(roles[chosen.role], spare.free.scalars))
        held[chosen.bit] = dict(added(held[chosen.bit], spare.free.scalars))
    return len(market.spares)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _agent(number: int, now: float) -> Agent:
    info = from_json(
        AgentInfo,
        {
            "hostname": f"node-{number}",
            "port": 5051,
            "id": {"value": f"m-S{number}"},
            "attributes": [
                {"name": "rack", "type": "TEXT", "text": {"value": f"rack-{number % 100}"}}
            ],
        },
    )
    address = IPv4Address("198.18.0.0") + number
    total = Resources.parse(RESOURCES)
    agent = Agent(f"m-S{number}", info, address, "1.11.0", total, 0.0, now)
    agent.stream = Stream(f"agent-{number}")
    return agent


def _framework(number: int) -> Framework:
    role = number % ROLES
    info = from_json(
        FrameworkInfo,
        {
            "user": "root",
            "name": f"f{number}",
            "id": {"value": f"m-{number:04d}"},
            "roles": [f"r{role}" if role < ROLES // 2 else f"r{role}/team"],
            "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}],
        },
    )
    return Framework(info, registered=0.0, stream=Stream(f"framework-{number}"))
