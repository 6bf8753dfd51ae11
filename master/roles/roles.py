"""Weights and quota of roles: first in the registry, then in the cluster."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import structlog

from phalanx.core.error import InvalidError
from phalanx.core.store.store import Store
from phalanx.master.carry import carried_through
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.offer import Outstanding
from phalanx.master.post.framework import rescind
from phalanx.master.roles.consumption import Scalars, capacity, consumed_by_top_role
from phalanx.master.roles.quota import exceeds, guaranteed, requested, updated
from phalanx.master.roles.weight import checked_weights
from phalanx.master.row import understood
from phalanx.mesos.role import top_of
from phalanx.mesos.v1.mesos import WeightInfo
from phalanx.mesos.v1.quota import QuotaConfig, QuotaRequest

log = structlog.get_logger()

WEIGHTS = "roles/weights"
QUOTAS = "roles/quotas"


class Roles:
    """What operators set of roles; every change raises UnavailableError as the store does."""

    def __init__(self, cluster: Cluster, store: Store, *, poke: Callable[[], None]) -> None:
        self._cluster = cluster
        self._store = store
        self._poke = poke
        self._lock = asyncio.Lock()

    async def load(self, weights: Mapping[str, float]) -> None:
        """Read the registry; *weights*, of the settings, only count while it has none."""
        kept = understood(WEIGHTS, await self._store.get(WEIGHTS), dict[str, float])
        self._cluster.weights = dict(weights) if kept is None else kept
        configs = understood(QUOTAS, await self._store.get(QUOTAS), tuple[QuotaConfig, ...])
        self._cluster.quotas = {config.role: config for config in configs or ()}

    @carried_through
    async def set_weights(self, infos: Sequence[WeightInfo]) -> None:
        """Change the weights of some roles; raise InvalidError for what can't be one.

        Where a role in use is among them every offer is taken back, since the
        shares of all have changed.
        """
        changed = checked_weights(infos)
        async with self._lock:
            after = {**self._cluster.weights, **changed}
            await self._store.put(WEIGHTS, msgspec.json.encode(after))
            self._cluster.weights = after
        log.info("weights_set", **{f"role_{role}": weight for role, weight in changed.items()})
        if any(
            role in changed for item in self._cluster.frameworks.values() for role in item.roles
        ):
            rescind(self._cluster, list(self._cluster.offers.values()))
        self._poke()

    @carried_through
    async def update_quota(self, configs: Sequence[QuotaConfig], *, is_forced: bool) -> None:
        """Change the quota of some roles, all or none; raise InvalidError.

        Nothing that is merely offered forbids a limit: it is taken back.
        """
        async with self._lock:
            after = updated(
                self._cluster.quotas,
                configs,
                consumed=consumed_by_top_role(self._cluster, with_offers=False),
                capacity=capacity(self._cluster),
                is_forced=is_forced,
            )
            await self._keep(after, [config.role for config in configs])

    @carried_through
    async def set_quota(self, request: QuotaRequest) -> None:
        """Give a role that has none a quota; raise InvalidError or ConflictError."""
        async with self._lock:
            after = requested(self._cluster.quotas, request, capacity=capacity(self._cluster))
            await self._keep(after, [request.role or ""])

    @carried_through
    async def remove_quota(self, role: str) -> None:
        """Take a role's quota away; raise InvalidError when it has none."""
        async with self._lock:
            if role not in self._cluster.quotas:
                raise InvalidError(f"Role '{role}' has no quota set")
            after = {key: item for key, item in self._cluster.quotas.items() if key != role}
            await self._keep(after, [role])

    async def _keep(self, after: dict[str, QuotaConfig], roles: Iterable[str]) -> None:
        await self._store.put(QUOTAS, msgspec.json.encode(tuple(after.values())))
        self._cluster.quotas = after
        log.info("quota_set", roles=sorted(roles))
        rescind(self._cluster, self._in_the_way())
        self._poke()

    def _in_the_way(self) -> list[Outstanding]:
        """Return the offers to take back: of roles over their limits, and where guarantees lack.

        An offer of a role that has more than it is guaranteed is in the way
        of those that have less, as long as what is free does not suffice.
        """
        quotas = self._cluster.quotas
        consumed = {role: dict(held) for role, held in consumed_by_top_role(self._cluster).items()}
        free = _free(self._cluster)
        missing = _missing(quotas, consumed)
        found = []
        for offer in self._cluster.offers.values():
            role = top_of(offer.role)
            held = consumed.setdefault(role, {})
            quota = quotas.get(role)
            scalars = offer.resources.unreserved.scalars
            is_over = quota is not None and any(
                held.get(name, 0) > round(limit.value * 1000)
                for name, limit in quota.limits.items()
                if name in scalars
            )
            helps = exceeds(missing, free) and any(
                missing.get(name, 0) > free.get(name, 0) for name in scalars
            )
            if not is_over and not (helps and not (quota is not None and quota.guarantees)):
                continue
            found.append(offer)
            for name, amount in scalars.items():
                held[name] = held.get(name, 0) - amount
                free[name] = free.get(name, 0) + amount
        return found


def _missing(quotas: Mapping[str, QuotaConfig], consumed: Mapping[str, Scalars]) -> Scalars:
    """Return what all roles together lack of their guarantees."""
    missing: dict[str, int] = {}
    for role, config in quotas.items():
        held = consumed.get(role, {})
        for name, amount in guaranteed((config,)).items():
            missing[name] = missing.get(name, 0) + max(0, amount - held.get(name, 0))
    return missing


def _free(cluster: Cluster) -> dict[str, int]:
    free: dict[str, int] = {}
    for agent in cluster.agents.values():
        if agent.is_offerable:
            for name, amount in agent.free.unreserved.scalars.items():
                free[name] = free.get(name, 0) + amount
    return free
