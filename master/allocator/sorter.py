"""Who is furthest behind its fair share comes first (reference mesos §5.4).

Roles are a tree. Among siblings the one with the smallest share comes first,
where a share is the greatest part of any resource of the cluster that the
whole subtree holds, over the weight. A role that has children and frameworks
of its own competes with its children as a virtual leaf. In a role, frameworks
are ordered in the same way, all of weight 1.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeVar

from phalanx.mesos.role import ancestors

DRF = "drf"
RANDOM = "random"
VIRTUAL_LEAF = "."

T = TypeVar("T")


def dominant_share(held: Mapping[str, int], total: Mapping[str, int], *, weight: float) -> float:
    """Return the greatest part of any resource of the cluster that is held, over the weight."""
    shares = (held.get(name, 0) / amount for name, amount in total.items() if amount)
    return max(shares, default=0.0) / weight


def added(held: Mapping[str, int], more: Mapping[str, int]) -> Mapping[str, int]:
    """Return the sum of two amounts of scalars."""
    total = dict(held)
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount
    return total


class Ranked(Protocol):
    """What is ranked: a framework in one role. *bit* is its own, *count* its grants so far."""

    @property
    def framework_id(self) -> str:
        """Return the framework's id."""
        ...

    @property
    def role(self) -> str:
        """Return the role."""
        ...

    @property
    def bit(self) -> int:
        """Return the power of two that stands for it."""
        ...

    @property
    def held(self) -> Mapping[str, int]:
        """Return what it holds in thousandths."""
        ...

    @property
    def count(self) -> int:
        """Return how many grants it got so far."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """What the order of roles depends on beside their frameworks.

    *held* and *counts* are of each role without its children, suppressed
    frameworks included; *total* holds only what counts for fairness.
    """

    total: Mapping[str, int]
    held: Mapping[str, Mapping[str, int]]
    counts: Mapping[str, int]
    weights: Mapping[str, float]
    role_sorter: str = DRF
    framework_sorter: str = DRF


C = TypeVar("C", bound=Ranked)
_Key = tuple[float, int, str]


class _Place:
    """A role, a virtual leaf or a framework at its place among its siblings."""

    __slots__ = ("children", "client", "count", "held", "key", "mask", "parent", "path", "weight")

    def __init__(self, path: str, parent: "_Place | None", weight: float) -> None:
        self.path = path
        self.parent = parent
        self.weight = weight
        self.held: dict[str, int] = {}
        self.count = 0
        self.mask = 0
        self.children: list[tuple[_Key, _Place]] = []
        self.client: Ranked | None = None
        self.key: _Key = (0.0, 0, path)


class Ranking:
    """The order of frameworks during one allocation; each grant is charged to it at once."""

    def __init__(self, clients: Iterable[Ranked], standing: Standing, rng: Random) -> None:
        self._standing = standing
        self._rng = rng
        self._factors = tuple((n, 1 / amount) for n, amount in standing.total.items() if amount)
        self._root = _Place("", None, 1.0)
        self._roles: dict[str, _Place] = {}
        self._clients: dict[int, _Place] = {}
        self._build(list(clients))

    def _build(self, clients: Sequence[Ranked]) -> None:
        roles = {client.role for client in clients}
        inner = {above for role in roles for above in ancestors(role)}
        for role in roles | inner:
            self._place(role)
        leaves = {}
        for role in roles:
            place = self._roles[role]
            if role in inner:
                place = _Place(f"{role}/{VIRTUAL_LEAF}", place, 1.0)
                self._charge(place, role, place.held)
            leaves[role] = place
        for role in self._standing.held.keys() | self._standing.counts.keys():
            for path in (role, *ancestors(role)):
                if (at := self._roles.get(path)) is not None:
                    self._charge(at, role, at.held)
        for client in clients:
            place = _Place(client.framework_id, leaves[client.role], 1.0)
            place.client = client
            place.held.update(client.held)
            place.count = client.count
            self._clients[client.bit] = place
            above: _Place | None = place
            while above is not None:
                above.mask |= client.bit
                above = above.parent
        virtual = [leaf for role, leaf in leaves.items() if leaf is not self._roles[role]]
        for place in (*self._roles.values(), *virtual, *self._clients.values()):
            place.key = self._key(place)
            assert place.parent is not None  # only the root has none
            place.parent.children.append((place.key, place))
        for place in (self._root, *self._roles.values(), *virtual):
            place.children.sort(key=_first)

    def _place(self, role: str) -> _Place:
        known = self._roles.get(role)
        if known is None:
            above = ancestors(role)
            parent = self._place(above[0]) if above else self._root
            known = _Place(role, parent, self._standing.weights.get(role, 1.0))
            self._roles[role] = known
        return known

    def _charge(self, place: _Place, role: str, held: dict[str, int]) -> None:
        for name, amount in self._standing.held.get(role, {}).items():
            held[name] = held.get(name, 0) + amount
        place.count += self._standing.counts.get(role, 0)

    def _key(self, place: _Place) -> _Key:
        share = 0.0
        held = place.held
        for name, factor in self._factors:
            part = held.get(name, 0) * factor
            if part > share:
                share = part
        return share / place.weight, place.count, place.path

    def order(self, among: int) -> Iterator[Ranked]:
        """Yield the clients whose bits are in *among*, who is furthest behind first.

        Whoever charges a grant begins anew.
        """
        return self._walk(self._root, among)

    def _walk(self, place: _Place, among: int) -> Iterator[Ranked]:
        for _, child in self._sorted(place):
            if child.mask & among:
                if child.client is not None:
                    yield child.client
                else:
                    yield from self._walk(child, among)

    def _sorted(self, place: _Place) -> Sequence[tuple[_Key, _Place]]:
        children = place.children
        if not children:
            return ()
        is_frameworks = children[0][1].client is not None
        standing = self._standing
        sorter = standing.framework_sorter if is_frameworks else standing.role_sorter
        if sorter == DRF or len(children) == 1:
            return children
        return shuffled(children, _weight, self._rng)

    def charge(self, client: Ranked, scalars: Mapping[str, int]) -> None:
        """Count a grant to *client*, its role and every role above."""
        place = self._clients[client.bit]
        while place.parent is not None:
            held = place.held
            for name, amount in scalars.items():
                held[name] = held.get(name, 0) + amount
            place.count += 1
            siblings = place.parent.children
            del siblings[bisect_left(siblings, place.key, key=_first)]
            place.key = self._key(place)
            insort(siblings, (place.key, place), key=_first)
            place = place.parent

    def share(self, role: str) -> float:
        """Return a role's share over its weight, 0.0 for one without active frameworks."""
        place = self._roles.get(role)
        return 0.0 if place is None else place.key[0]


def shuffled(items: Sequence[T], weight: Callable[[T], float], rng: Random) -> Sequence[T]:
    """Return *items* in a random order in which a greater weight tends to come first."""
    return sorted(items, key=lambda item: -math.log(1.0 - rng.random()) / weight(item))


def _first(item: tuple[_Key, _Place]) -> _Key:
    return item[0]


def _weight(item: tuple[_Key, _Place]) -> float:
    return item[1].weight
