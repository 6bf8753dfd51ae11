"""Dominant resource fairness: who is furthest behind comes first; pure (reference mesos §5.4)."""

from collections.abc import Mapping


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
