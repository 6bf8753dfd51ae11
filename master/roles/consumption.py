"""What roles consume of the cluster; pure (reference mesos §5.3)."""

from collections import defaultdict
from collections.abc import Mapping

from phalanx.master.cluster.cluster import Cluster
from phalanx.mesos.resources import Resources
from phalanx.mesos.role import top_of

Scalars = Mapping[str, int]  # thousandths by name


def reserved_by_role(cluster: Cluster) -> Mapping[str, Scalars]:
    """Return what is reserved to each role itself, on every registered agent."""
    found: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for agent in cluster.agents.values():
        for role, resources in agent.total.by_role().items():
            for name, amount in (*resources.scalars.items(), *counts_of(resources).items()):
                found[role][name] += amount
    return {role: dict(scalars) for role, scalars in found.items()}


def counts_of(resources: Resources) -> Scalars:
    """Return how much there is of ranges and sets: a port, or an item, is 1000 thousandths."""
    counts: defaultdict[str, int] = defaultdict(int)
    for kind, amount in resources.items():
        if isinstance(amount, tuple):
            counts[kind.name] += 1000 * sum(end - begin + 1 for begin, end in amount)
        elif not isinstance(amount, int):
            counts[kind.name] += 1000 * len(amount)
    return dict(counts)


def consumed_by_top_role(cluster: Cluster, *, with_offers: bool = True) -> Mapping[str, Scalars]:
    """Return the consumed quota of each top-level role.

    That is everything reserved in its tree, and what it holds of unreserved
    resources; *with_offers* counts what is offered as held, as the allocator must.
    """
    found: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))

    def count(role: str, scalars: Scalars, sign: int = 1) -> None:
        for name, amount in scalars.items():
            found[top_of(role)][name] += sign * amount

    for role, scalars in reserved_by_role(cluster).items():
        count(role, scalars)
    for framework in cluster.frameworks.values():
        for role, held in framework.scalars.items():
            count(role, held)
    if not with_offers:
        for offer in cluster.offers.values():
            count(offer.role, offer.resources.scalars, -1)
    for agent in cluster.agents.values():  # what is held of reservations was counted twice
        for resources in (agent.used, agent.offered) if with_offers else (agent.used,):
            for role, reserved in resources.by_role().items():
                count(role, reserved.scalars, -1)
    return {
        role: {name: amount for name, amount in scalars.items() if amount > 0}
        for role, scalars in found.items()
    }


def capacity(cluster: Cluster) -> Scalars:
    """Return the scalars of every registered agent, revocable ones left out."""
    total: defaultdict[str, int] = defaultdict(int)
    for agent in cluster.agents.values():
        if agent.is_connected:
            resources = agent.total - agent.total.revocable
            for name, amount in resources.scalars.items():
                total[name] += amount
    return dict(total)


def shown(scalars: Scalars) -> str:
    """Return quantities as Mesos words them: ``cpus:6; mem:1024``."""
    parts = (f"{name}:{scalars[name] / 1000:.15g}" for name in sorted(scalars) if scalars[name])
    return "; ".join(parts) or "{}"


def as_numbers(scalars: Scalars) -> dict[str, float]:
    """Return quantities as numbers, those of nothing left out."""
    return {name: amount / 1000 for name, amount in sorted(scalars.items()) if amount}
