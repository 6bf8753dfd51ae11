"""One run of the allocator: which framework is offered which agent's resources; pure.

Agents are taken in random order. On each, the framework that is furthest
behind gets everything of it that it may have: that its role may use, its
capabilities cover, its quota has room for, and neither filter nor constraint
keeps away. What is left goes to the next (reference mesos §5.4).

Two stages: first what trees of roles lack of their guarantees, then the rest
by fair share.

Whoever wanted nothing of an agent's latest offer stands behind all others
there, as long as it is no more, until one of them uses some of it: a framework
that is furthest behind and always declines keeps nobody from being asked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from phalanx.master.allocator.constraint import Features, RoleConstraint
from phalanx.master.allocator.quota import Budget, Quota, within
from phalanx.master.allocator.sorter import Ranking, Standing
from phalanx.master.cluster.filter import Refused
from phalanx.mesos.resources import Resources
from phalanx.mesos.role import DEFAULT, ancestors, top_of

STEP_AGENTS = 64  # decided between two looks at the clock

Quantities = Mapping[str, int]  # thousandths by name


@dataclass(frozen=True, slots=True)
class Spare:
    """What is free on an agent, and who may have none of it.

    *blocked* are the bits of clients whose filters cover all that is free,
    *partial* the other filters; *passed* the bits of clients that wanted
    nothing of as much in the latest offers, *partly_passed* those that wanted
    nothing of less. *is_loose* says that all of it is for everybody.
    """

    agent_id: str
    free: Resources
    blocked: int = 0
    partial: tuple[Refused, ...] = ()
    passed: int = 0
    partly_passed: tuple[Refused, ...] = ()
    has_gpus: bool = False
    is_remote: bool = False
    is_loose: bool = True
    features: Features | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """A framework in one role that wants offers.

    *bit* stands for it in masks; *minimums*, where it declares some, stand in
    for those of the master.
    """

    framework_id: str
    role: str
    bit: int
    held: Quantities = field(default_factory=dict)
    count: int = 0
    minimums: Sequence[Quantities] | None = None
    constraint: RoleConstraint | None = None
    takes_gpus: bool = False
    takes_shared: bool = False
    takes_revocable: bool = False
    takes_refined: bool = False
    takes_remote: bool = False


@dataclass(frozen=True, slots=True)
class Market:
    """All that one run depends on, as it was at one moment.

    *consumed* is by top-level role; *available* is what is loose and free on
    all agents, not only on the *spares*. Only a run of a *is_batch* asks those
    again who passed.
    """

    spares: Sequence[Spare]
    clients: Sequence[Client]
    standing: Standing
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    consumed: Mapping[str, Quantities] = field(default_factory=dict)
    available: Quantities = field(default_factory=dict)
    minimums: Sequence[Quantities] = ()
    filters_gpus: bool = True
    is_batch: bool = True


@dataclass(frozen=True, slots=True)
class Grant:
    """Resources of one agent for one framework in one role.

    *is_second* marks one to a framework that had passed: nobody else wanted it.
    """

    framework_id: str
    role: str
    agent_id: str
    resources: Resources
    is_second: bool = False


def allocate(market: Market, rng: Random) -> tuple[Grant, ...]:
    """Return the grants of one run, at most one for each framework, role and agent."""
    return tuple(grant for step in steps(market, rng) for grant in step)


def steps(market: Market, rng: Random) -> Iterator[Sequence[Grant]]:
    """Yield the grants of one run little by little, so that others may work in between."""
    if not market.clients:
        return
    run = _Run(market, rng)
    if run.lacking:
        yield from run.stage(is_first=True)
    yield from run.stage(is_first=False)


def is_worth(scalars: Quantities, minimums: Sequence[Quantities]) -> bool:
    """Tell whether one of the alternatives is there; without alternatives anything is worth it."""
    return not minimums or any(
        all(scalars.get(name, 0) >= amount for name, amount in minimum.items())
        for minimum in minimums
    )


class _Choice(NamedTuple):
    """Who is granted what, if anybody; the bits of all looked at, of those that had passed."""

    client: Client | None
    resources: Resources
    seen: int
    passed: int


class _Run:
    """The state of one allocation under way."""

    def __init__(self, market: Market, rng: Random) -> None:
        self._market = market
        self._rng = rng
        self._clients = {client.bit: client for client in market.clients}
        self._all = _mask(market.clients)
        self._gpus = _mask(c for c in market.clients if c.takes_gpus)
        self._remote = _mask(c for c in market.clients if c.takes_remote)
        self._choosy = _mask(c for c in market.clients if c.minimums is not None)
        self._ranking = Ranking(market.clients, market.standing, rng)
        self._budget = (
            Budget(market.quotas, market.consumed, market.available) if market.quotas else None
        )
        self._by_top: dict[str, int] = {}
        for client in market.clients:
            top = top_of(client.role)
            self._by_top[top] = self._by_top.get(top, 0) | client.bit
        self.lacking = 0  # bits of clients whose tree lacks some of its guarantee
        if self._budget is not None:
            for top, bits in self._by_top.items():
                if self._budget.is_lacking(top):
                    self.lacking |= bits
        self._left: dict[str, Resources] = {}  # where something was granted already
        self._served: dict[str, int] = {}

    def stage(self, *, is_first: bool) -> Iterator[Sequence[Grant]]:
        """Go through all agents once."""
        spares = list(self._market.spares)
        self._rng.shuffle(spares)
        yield ()
        for start in range(0, len(spares), STEP_AGENTS):
            grants: list[Grant] = []
            for spare in spares[start : start + STEP_AGENTS]:
                self._divide(spare, grants, is_first=is_first)
            yield grants
            if is_first and not self.lacking:
                return

    def _divide(self, spare: Spare, grants: list[Grant], *, is_first: bool) -> None:
        id = spare.agent_id
        left = self._left.get(id, spare.free)
        if not left:
            return
        market = self._market
        wanted = self._all & ~spare.blocked & ~self._served.get(id, 0)
        if is_first:
            wanted &= self.lacking
        if spare.has_gpus and market.filters_gpus:
            wanted &= self._gpus
        if spare.is_remote:
            wanted &= self._remote
        if wanted and not is_worth(left.scalars, market.minimums):
            wanted &= self._choosy
        asked, later = wanted & ~spare.passed, wanted & spare.passed
        for is_second in (False, True) if market.is_batch else (False,):
            if is_second:
                asked = later
            while asked and left:
                found = self._choice(spare, left, asked, is_first=is_first, is_second=is_second)
                later |= found.passed
                client, resources = found.client, found.resources
                if client is None:
                    break
                grants.append(
                    Grant(client.framework_id, client.role, id, resources, is_second=is_second)
                )
                self._charge(client, resources)
                asked &= ~found.seen
                self._served[id] = self._served.get(id, 0) | client.bit
                left = self._left[id] = left - resources if resources is not left else Resources()

    def _choice(
        self, spare: Spare, left: Resources, asked: int, *, is_first: bool, is_second: bool
    ) -> "_Choice":
        """Return the first client in order that may have some of *left*.

        Who gets nothing of *left* gets nothing of less either.
        """
        seen = passed = 0
        parts: dict[tuple[str, bool, bool, bool], Resources] = {}
        for ranked in self._ranking.order(asked):
            client = self._clients[ranked.bit]
            seen |= client.bit
            if (
                client.constraint is not None
                and spare.features is not None
                and not client.constraint.admits(spare.features)
            ):
                continue
            part = left if spare.is_loose else _usable(left, client, parts)
            budget = self._budget
            if budget is not None:
                if (room := budget.room(client.role)) is not None:
                    part = within(part, room)
                if is_first and not budget.helps(client.role, part.loose_scalars):
                    continue
            if not part:
                continue
            if part is not left or client.minimums is not None:
                minimums = self._market.minimums if client.minimums is None else client.minimums
                if not is_worth(part.scalars, minimums):
                    continue
            if _covers(spare.partial, client, part):
                continue
            if not is_second and _covers(spare.partly_passed, client, part):
                passed |= client.bit
                continue
            return _Choice(client, part, seen, passed)
        return _Choice(None, Resources(), seen, passed)

    def _charge(self, client: Client, resources: Resources) -> None:
        self._ranking.charge(client, resources.scalars)
        if self._budget is None:
            return
        self._budget.charge(client.role, resources.loose_scalars)
        top = top_of(client.role)
        if self.lacking & client.bit and not self._budget.is_lacking(top):
            self.lacking &= ~self._by_top[top]


def _covers(refused: Sequence[Refused], client: Client, part: Resources) -> bool:
    return any(mask & client.bit and part in what for what, mask in refused)


def _usable(
    left: Resources, client: Client, known: dict[tuple[str, bool, bool, bool], Resources]
) -> Resources:
    """Return what of *left* a client may be offered: by role and by capability."""
    key = client.role, client.takes_refined, client.takes_revocable, client.takes_shared
    part = known.get(key)
    if part is None:
        roles = {DEFAULT, client.role, *ancestors(client.role)}
        part = known[key] = left.where(
            lambda kind: (
                kind.role in roles
                and (client.takes_refined or len(kind.reservations) <= 1)
                and (client.takes_revocable or not kind.is_revocable)
                and (client.takes_shared or not kind.is_shared)
            )
        )
    return part


def _mask(clients: Iterable[Client]) -> int:
    mask = 0
    for client in clients:
        mask |= client.bit
    return mask
