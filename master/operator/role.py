"""The roles of a cluster as operators see them (reference mesos §3.4, §5.2); pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phalanx.master.cluster.cluster import Cluster
from phalanx.master.roles.consumption import Scalars, counts_of, reserved_by_role
from phalanx.mesos.resources import Resources
from phalanx.mesos.role import ancestors, is_within
from phalanx.mesos.v1.quota import QuotaConfig


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """One role: what it and the roles below it have.

    *allocated* and *offered* are scalars; of ranges and sets there is how many, in
    *allocated_counts* and *offered_counts* (thousandths).
    """

    name: str
    weight: float
    quota: QuotaConfig | None
    frameworks: tuple[str, ...]
    allocated: Resources
    offered: Resources
    allocated_counts: Scalars
    offered_counts: Scalars
    reserved: Scalars
    consumed: Scalars


def roles_of_cluster(cluster: Cluster) -> list[RoleFacts]:
    """Return every role that is known: of frameworks, reservations, weights, quota, and parents."""
    frameworks: defaultdict[str, list[str]] = defaultdict(list)
    for framework in cluster.frameworks.values():
        for role in framework.roles:
            frameworks[role].append(framework.id)
    allocated: defaultdict[str, Resources] = defaultdict(Resources)
    for framework in cluster.frameworks.values():
        for role, held in framework.held.items():
            allocated[role] += Resources(dict(held))
    offered: defaultdict[str, Resources] = defaultdict(Resources)
    for offer in cluster.offers.values():
        offered[offer.role] += Resources(
            {kind: amount for kind, amount in offer.resources.items() if isinstance(amount, int)}
        )
    owned = ((role, own) for agent in cluster.agents.values() for role, own in agent.held.items())
    counts = (
        _counts_by_role(owned),
        _counts_by_role((offer.role, offer.resources) for offer in cluster.offers.values()),
    )
    reserved = reserved_by_role(cluster)
    names = {*frameworks, *allocated, *reserved, *cluster.weights, *cluster.quotas}
    names |= {above for name in names for above in ancestors(name)}
    return [
        _role(name, cluster, frameworks[name], dict(allocated), dict(offered), counts, reserved)
        for name in sorted(names)
    ]


def _role(
    name: str,
    cluster: Cluster,
    frameworks: list[str],
    allocated: dict[str, Resources],
    offered: dict[str, Resources],
    counts: tuple[Mapping[str, Scalars], Mapping[str, Scalars]],
    reserved: Mapping[str, Scalars],
) -> RoleFacts:
    mine = _within(allocated, name)
    offers = _within(offered, name)
    kept = _summed_within(reserved, name)
    consumed = defaultdict(int, kept)
    for key, amount in mine.unreserved.scalars.items():
        consumed[key] += amount
    return RoleFacts(
        name=name,
        weight=cluster.weights.get(name, 1.0),
        quota=cluster.quotas.get(name),
        frameworks=tuple(frameworks),
        allocated=mine,
        offered=offers,
        allocated_counts=_summed_within(counts[0], name),
        offered_counts=_summed_within(counts[1], name),
        reserved=kept,
        consumed=dict(consumed),
    )


def _within(by_role: dict[str, Resources], name: str) -> Resources:
    total = Resources()
    for role, resources in by_role.items():
        if is_within(role, name):
            total += resources
    return total


def _summed_within(by_role: Mapping[str, Scalars], name: str) -> Scalars:
    total: defaultdict[str, int] = defaultdict(int)
    for role, scalars in by_role.items():
        if is_within(role, name):
            for key, amount in scalars.items():
                total[key] += amount
    return dict(total)


def _counts_by_role(parts: Iterable[tuple[str, Resources]]) -> Mapping[str, Scalars]:
    found: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for role, resources in parts:
        for name, amount in counts_of(resources).items():
            found[role][name] += amount
    return {role: dict(counts) for role, counts in found.items()}
