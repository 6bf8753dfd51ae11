"""The roles of a cluster as operators see them (reference mesos §3.4, §5.2); pure."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from phalanx.master.cluster.cluster import Cluster
from phalanx.master.roles.consumption import Scalars, reserved_by_role
from phalanx.mesos.resources import Resources
from phalanx.mesos.role import ancestors, is_within
from phalanx.mesos.v1.quota import QuotaConfig


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """One role: what it and the roles below it have."""

    name: str
    weight: float
    quota: QuotaConfig | None
    frameworks: tuple[str, ...]
    allocated: Resources
    offered: Resources
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
    reserved = reserved_by_role(cluster)
    names = {*frameworks, *allocated, *reserved, *cluster.weights, *cluster.quotas}
    names |= {above for name in names for above in ancestors(name)}
    return [
        _role(name, cluster, frameworks[name], dict(allocated), dict(offered), reserved)
        for name in sorted(names)
    ]


def _role(
    name: str,
    cluster: Cluster,
    frameworks: list[str],
    allocated: dict[str, Resources],
    offered: dict[str, Resources],
    reserved: Mapping[str, Scalars],
) -> RoleFacts:
    mine = _within(allocated, name)
    offers = _within(offered, name)
    kept: defaultdict[str, int] = defaultdict(int)
    for role, scalars in reserved.items():
        if is_within(role, name):
            for key, amount in scalars.items():
                kept[key] += amount
    consumed = defaultdict(int, kept)
    for resources in (mine.unreserved, offers.unreserved):
        for key, amount in resources.scalars.items():
            consumed[key] += amount
    return RoleFacts(
        name=name,
        weight=cluster.weights.get(name, 1.0),
        quota=cluster.quotas.get(name),
        frameworks=tuple(frameworks),
        allocated=mine,
        offered=offers,
        reserved=dict(kept),
        consumed=dict(consumed),
    )


def _within(by_role: dict[str, Resources], name: str) -> Resources:
    total = Resources()
    for role, resources in by_role.items():
        if is_within(role, name):
            total += resources
    return total
