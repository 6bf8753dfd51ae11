"""What the allocator knows of the cluster, kept up to date agent by agent.

Looking at an agent that did not change costs a few comparisons, so a run over
one agent of ten thousand does not pay for the others: the sums over all of
them are carried along.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from phalanx.core.error import InvalidError
from phalanx.master.allocator.allocate import Client, Market, Quantities, Spare
from phalanx.master.allocator.constraint import Features, RoleConstraint, compiled
from phalanx.master.allocator.quota import Quota
from phalanx.master.allocator.rule import Rules
from phalanx.master.allocator.sorter import Standing
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.filter import Refused
from phalanx.master.cluster.framework import Framework
from phalanx.mesos.resources import Resources
from phalanx.mesos.role import top_of
from phalanx.mesos.v1.mesos import AgentInfo, MachineInfo, Scalar
from phalanx.mesos.v1.scheduler import OfferConstraints
from phalanx.net.model.objects import Liveness

STEP_AGENTS = 256  # looked at between two looks at the clock


@dataclass(slots=True, eq=False)
class _Entry:
    """An agent as it was looked at last, and its part in the sums."""

    total: Resources
    used: Resources
    offered: Resources
    info: AgentInfo
    is_known: bool
    is_open: bool
    view: tuple[Refused, ...]
    passed: tuple[Refused, ...]
    features: Features
    spare: Spare | None
    owned: Quantities
    available: Quantities
    reserved: Mapping[str, Quantities]


class Stock:
    """Everything an allocation depends on, read from the cluster."""

    def __init__(self, cluster: Cluster, rules: Rules) -> None:
        self._cluster = cluster
        self._rules = rules
        self._entries: dict[str, _Entry] = {}
        self._compiled: dict[
            str, tuple[OfferConstraints | None, Mapping[str, RoleConstraint] | None]
        ] = {}
        self.hostnames: frozenset[str] | None = None  # that offers are made of, None for all
        self.total: Counter[str] = Counter()
        self.available: Counter[str] = Counter()
        self.reserved: dict[str, Counter[str]] = {}
        self.counts: Counter[tuple[str, str]] = Counter()  # grants by framework and role

    # Agents

    def look(self, agents: Iterable[str] | None, now: float) -> Iterator[list[Spare]]:
        """Yield what is free on some agents, by their ids, or on all of them, step by step."""
        if agents is None:
            for id in self._entries.keys() - self._cluster.agents.keys():
                self._enter(id, None)
            agents = list(self._cluster.agents)
        found: list[Spare] = []
        down = self._down()
        for number, id in enumerate(agents, 1):
            spare = self._refresh(id, now, down)
            if spare is not None:
                found.append(spare)
            if number % STEP_AGENTS == 0:
                yield found
                found = []
        yield found

    def _down(self) -> frozenset[str]:
        """Return host names and addresses of machines that are down for maintenance."""
        down: set[str] = set()
        machines: Iterable[MachineInfo] = self._cluster.machines.values()
        for machine in machines:
            if machine.mode == "DOWN":
                down.add((machine.id.hostname or "").lower() or machine.id.ip or "")
        return frozenset(down)

    def _refresh(self, id: str, now: float, down: frozenset[str]) -> Spare | None:
        agent = self._cluster.agents.get(id)
        if agent is None:
            if id in self._entries:
                self._enter(id, None)
            return None
        filters = self._cluster.filters
        view = filters.view(id, now)
        passed = filters.passed(id)
        is_known = agent.liveness is not Liveness.UNREACHABLE
        is_open = agent.is_offerable
        if is_open and (self.hostnames is not None or down):
            is_open = self._is_open(agent, down)
        old = self._entries.get(id)
        if old is not None:
            is_same = (
                old.total is agent.total
                and old.used is agent.used
                and old.offered is agent.offered
                and old.info is agent.info
                and old.is_known is is_known
                and old.is_open is is_open
            )
            if is_same and old.view is view and old.passed is passed:
                return old.spare
        features = (
            old.features if old is not None and old.info is agent.info else Features.of(agent.info)
        )
        entry = _Entry(
            agent.total,
            agent.used,
            agent.offered,
            agent.info,
            is_known,
            is_open,
            view,
            passed,
            features,
            None,
            agent.total.scalars if is_known else {},
            {},
            _reserved(agent.total) if is_known else {},
        )
        if is_open:
            entry.available = agent.free.loose_scalars
            entry.spare = self._spare(agent, entry)
        self._enter(id, entry)
        return entry.spare

    def _is_open(self, agent: Agent, down: frozenset[str]) -> bool:
        hostname = agent.info.hostname.lower()
        if hostname in down or str(agent.address) in down:
            return False
        return self.hostnames is None or agent.info.hostname in self.hostnames

    def _spare(self, agent: Agent, entry: _Entry) -> Spare | None:
        free = agent.free
        if not agent.total.is_loose:
            free = _with_shared(free, agent)
        if not free:
            return None
        blocked, partial = _split(free, entry.view)
        passed, partly_passed = _split(free, entry.passed)
        region = entry.features.region
        return Spare(
            agent.id,
            free,
            blocked,
            partial,
            passed,
            partly_passed,
            has_gpus="gpus" in agent.total.scalars,
            is_remote=region is not None
            and self._rules.region is not None
            and region != self._rules.region,
            is_loose=free.is_loose,
            features=entry.features,
        )

    def _enter(self, id: str, new: _Entry | None) -> None:
        """Put *new* in the place of what was known of an agent, in the sums too."""
        old = self._entries.pop(id, None)
        if old is not None:
            self._count(old, -1)
        if new is not None:
            self._entries[id] = new
            self._count(new, 1)

    def _count(self, entry: _Entry, sign: int) -> None:
        for name, amount in entry.owned.items():
            self.total[name] += sign * amount
        for name, amount in entry.available.items():
            self.available[name] += sign * amount
        for top, scalars in entry.reserved.items():
            sums = self.reserved.setdefault(top, Counter())
            for name, amount in scalars.items():
                sums[name] += sign * amount

    # Frameworks and roles

    def market(self, spares: Sequence[Spare], *, is_batch: bool) -> Market:
        """Return all that an allocation of *spares* depends on."""
        return Market(
            spares=spares,
            clients=self._clients(),
            standing=self.standing(),
            quotas=self.quotas(),
            consumed=self.consumed(),
            available=dict(self.available),
            minimums=self._rules.minimums,
            filters_gpus=self._rules.filters_gpus,
            is_batch=is_batch,
        )

    def standing(self) -> Standing:
        """Return what the order of roles depends on."""
        held: dict[str, Counter[str]] = {}
        for framework in self._cluster.frameworks.values():
            for role, scalars in framework.scalars.items():
                sums = held.setdefault(role, Counter())
                for name, amount in scalars.items():
                    sums[name] += amount
        counts: Counter[str] = Counter()
        for (_, role), count in self.counts.items():
            counts[role] += count
        total = {n: a for n, a in self.total.items() if a > 0 and n not in self._rules.unfair}
        return Standing(
            total,
            held,
            counts,
            dict(self._cluster.weights),
            self._rules.role_sorter,
            self._rules.framework_sorter,
        )

    def quotas(self) -> dict[str, Quota]:
        """Return the quota of every role that has one, in thousandths."""
        return {
            role: Quota(_thousandths(config.guarantees), _thousandths(config.limits))
            for role, config in self._cluster.quotas.items()
        }

    def consumed(self) -> dict[str, Counter[str]]:
        """Return what counts against the quota of each tree of roles that has one."""
        return self._consumed(self._cluster.quotas) if self._cluster.quotas else {}

    def consumption(self) -> dict[str, Counter[str]]:
        """Return what would count against a quota of each top-level role that has anything."""
        roles = {role for its in self._cluster.frameworks.values() for role in its.unreserved}
        return self._consumed({top_of(role) for role in roles} | self.reserved.keys())

    def _consumed(self, tops: Iterable[str]) -> dict[str, Counter[str]]:
        found = {top: Counter(self.reserved.get(top, ())) for top in tops}
        for framework in self._cluster.frameworks.values():
            for role, scalars in framework.unreserved.items():
                sums = found.get(top_of(role))
                if sums is not None:
                    for name, amount in scalars.items():
                        sums[name] += amount
        return found

    def excluded(self, framework: Framework, role: str) -> list[str]:
        """Return the ids of the agents that a framework's constraints leave out in a role."""
        constraints = self._constraints(framework)
        if constraints is None:
            return list(self._entries)
        constraint = constraints.get(role)
        if constraint is None:
            return []
        return [id for id, its in self._entries.items() if not constraint.admits(its.features)]

    def forget(self) -> None:
        """Drop what is known of frameworks that are over."""
        known = self._cluster.frameworks
        for id in [id for id in self._compiled if id not in known]:
            del self._compiled[id]
        for key in [key for key in self.counts if key[0] not in known]:
            del self.counts[key]

    def _clients(self) -> list[Client]:
        clients = []
        for framework in self._cluster.frameworks.values():
            if not framework.is_connected:
                continue
            wanted = [role for role in framework.roles if role not in framework.suppressed]
            if not wanted:
                continue
            constraints = self._constraints(framework)
            if constraints is None:
                continue
            capabilities = {capability.type for capability in framework.info.capabilities}
            for role in wanted:
                clients.append(
                    Client(
                        framework.id,
                        role,
                        1 << self._cluster.filters.slot(framework.id, role),
                        dict(framework.scalars.get(role, {})),
                        self.counts[framework.id, role],
                        _minimums(framework, role),
                        constraints.get(role),
                        takes_gpus="GPU_RESOURCES" in capabilities,
                        takes_shared="SHARED_RESOURCES" in capabilities,
                        takes_revocable="REVOCABLE_RESOURCES" in capabilities,
                        takes_refined="RESERVATION_REFINEMENT" in capabilities,
                        takes_remote="REGION_AWARE" in capabilities,
                    )
                )
        return clients

    def _constraints(self, framework: Framework) -> Mapping[str, RoleConstraint] | None:
        """Return a framework's constraints by role; None if they can't be: it gets nothing."""
        known = self._compiled.get(framework.id)
        if known is None or known[0] is not framework.constraints:
            try:
                ready: Mapping[str, RoleConstraint] | None = compiled(
                    framework.constraints, self._rules.regex
                )
            except InvalidError:
                ready = None
            known = self._compiled[framework.id] = framework.constraints, ready
        return known[1]


def _split(free: Resources, refused: Iterable[Refused]) -> tuple[int, tuple[Refused, ...]]:
    """Return the bits of those that refused all that is *free*, and the refusals of less."""
    whole = 0
    parts = []
    for what, mask in refused:
        if free in what:
            whole |= mask
        else:
            parts.append((what, mask))
    return whole, tuple(parts)


def _minimums(framework: Framework, role: str) -> tuple[Quantities, ...] | None:
    filters = framework.info.offer_filters.get(role)
    if filters is None or filters.min_allocatable_resources is None:
        return None
    return tuple(
        _thousandths(alternative.quantities)
        for alternative in filters.min_allocatable_resources.quantities
    )


def _thousandths(scalars: Mapping[str, Scalar]) -> dict[str, int]:
    return {name: round(scalar.value * 1000) for name, scalar in scalars.items()}


def _reserved(total: Resources) -> Mapping[str, Quantities]:
    """Return what is reserved to each tree of roles."""
    if total.is_loose:
        return {}
    sums: dict[str, Counter[str]] = {}
    for role, resources in total.by_role().items():
        sums.setdefault(top_of(role), Counter()).update(resources.scalars)
    return sums


def _with_shared(free: Resources, agent: Agent) -> Resources:
    """Return what is free, and shared volumes in use: they may be had many times.

    One that is in use is no offer by itself.
    """
    shared = agent.total.shared
    if not shared:
        return free
    own = free - shared
    return own + shared if own else free
