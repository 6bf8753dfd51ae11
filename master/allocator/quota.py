"""Quota: what a tree of roles gets at least, and what it gets at most (reference mesos §5.3).

A guarantee or a limit is set on a top-level role and is for the whole tree
below it. Consumed is what is reserved to the tree, allocated or not, and what
its frameworks hold of unreserved resources, offers included.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from phalanx.mesos.amount import Amount
from phalanx.mesos.kind import Kind
from phalanx.mesos.resources import Resources
from phalanx.mesos.role import top_of


@dataclass(frozen=True, slots=True)
class Quota:
    """Thousandths of scalars that a tree of roles gets at least, and at most."""

    guarantees: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)


class Budget:
    """How much each tree of roles may still get in one allocation, and how much is free for all.

    *consumed* is by top-level role; *available* what is unreserved and free on
    every agent that offers are made of.
    """

    def __init__(
        self,
        quotas: Mapping[str, Quota],
        consumed: Mapping[str, Mapping[str, int]],
        available: Mapping[str, int],
    ) -> None:
        self._quotas = quotas
        self._consumed = {top: dict(consumed.get(top, {})) for top in quotas}
        self._available = dict(available)
        self._required: dict[str, int] = {}
        for top, quota in quotas.items():
            for name in quota.guarantees:
                lacking = self.lacking(top, name)
                if lacking:
                    self._required[name] = self._required.get(name, 0) + lacking

    def lacking(self, top: str, name: str) -> int:
        """Return how much a tree lacks of its guarantee of one resource."""
        quota = self._quotas.get(top)
        if quota is None:
            return 0
        return max(0, quota.guarantees.get(name, 0) - self._consumed[top].get(name, 0))

    def is_lacking(self, top: str) -> bool:
        """Tell whether a tree lacks anything of its guarantees."""
        quota = self._quotas.get(top)
        return quota is not None and any(self.lacking(top, name) for name in quota.guarantees)

    def helps(self, role: str, scalars: Mapping[str, int]) -> bool:
        """Tell whether some of *scalars* is what the role's tree lacks."""
        top = top_of(role)
        return any(amount and self.lacking(top, name) for name, amount in scalars.items())

    def room(self, role: str) -> Mapping[str, int] | None:
        """Return how much a role may get of each scalar that is bounded, None for no bounds.

        A tree may always have what it lacks of its guarantee; beyond that, as
        much as its limit allows and no other tree's guarantee needs.
        """
        top = top_of(role)
        room: dict[str, int] = {}
        for name, required in self._required.items():
            lacking = self.lacking(top, name)
            if required > lacking:
                free = self._available.get(name, 0) - (required - lacking)
                room[name] = max(0, lacking, free)
        quota = self._quotas.get(top)
        if quota is not None:
            for name, limit in quota.limits.items():
                left = max(0, limit - self._consumed[top].get(name, 0))
                room[name] = min(left, room.get(name, left))
        return room or None

    def charge(self, role: str, scalars: Mapping[str, int]) -> None:
        """Count unreserved *scalars* that were granted to a role."""
        top = top_of(role)
        consumed = self._consumed.get(top)
        for name, amount in scalars.items():
            self._available[name] = self._available.get(name, 0) - amount
            if consumed is None:
                continue
            met = min(amount, self.lacking(top, name))
            if met:
                self._required[name] -= met
                if not self._required[name]:
                    del self._required[name]
            consumed[name] = consumed.get(name, 0) + amount


def within(resources: Resources, room: Mapping[str, int]) -> Resources:
    """Return *resources* with no more loose scalars than there is room for.

    What is reserved, revocable, shared or no scalar stays whole; a mount or a
    block fits as a whole or not at all.
    """
    if all(resources.loose_scalars.get(name, 0) <= most for name, most in room.items()):
        return resources
    left = dict(room)
    amounts: dict[Kind, Amount] = {}
    for kind, amount in resources.items():
        most = left.get(kind.name)
        if most is None or not isinstance(amount, int) or not kind.is_loose:
            amounts[kind] = amount
            continue
        taken = min(amount, most)
        if kind.is_whole and taken < amount:
            continue
        if taken:
            amounts[kind] = taken
            left[kind.name] = most - taken
    return Resources(amounts)
