"""The allocator's metrics by Mesos' names (reference mesos §3.4)."""

from collections import deque
from collections.abc import Mapping

from phalanx.master.allocator.sorter import dominant_share
from phalanx.master.allocator.stock import Stock
from phalanx.master.cluster.cluster import Cluster
from phalanx.mesos.role import is_within

KEPT = 1000
PERCENTILES = {
    "p50": 0.5,
    "p90": 0.9,
    "p95": 0.95,
    "p99": 0.99,
    "p999": 0.999,
    "p9999": 0.9999,
}


class Durations:
    """The latest durations of something, in seconds."""

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=KEPT)
        self.count = 0

    def add(self, seconds: float) -> None:
        """Take one in."""
        self._kept.append(seconds)
        self.count += 1

    def figures(self, name: str) -> dict[str, float]:
        """Return the last one, count, least, greatest and percentiles in milliseconds."""
        if not self._kept:
            return {}
        ordered = sorted(seconds * 1000 for seconds in self._kept)
        found = {
            name: self._kept[-1] * 1000,
            f"{name}/count": float(self.count),
            f"{name}/min": ordered[0],
            f"{name}/max": ordered[-1],
        }
        for suffix, part in PERCENTILES.items():
            found[f"{name}/{suffix}"] = ordered[min(len(ordered) - 1, int(part * len(ordered)))]
        return found


def metrics(
    cluster: Cluster, stock: Stock, runs: int, run_seconds: Durations, latency: Durations
) -> dict[str, float]:
    """Return every metric of the allocator."""
    prefix = "allocator/mesos"
    found: dict[str, float] = {
        f"{prefix}/allocation_runs": float(runs),
        f"{prefix}/event_queue_dispatches": 0.0,
        "allocator/event_queue_dispatches": 0.0,
        **run_seconds.figures(f"{prefix}/allocation_run_ms"),
        **latency.figures(f"{prefix}/allocation_run_latency_ms"),
    }
    standing = stock.standing()
    taken: dict[str, int] = {}
    for scalars in standing.held.values():
        for name, amount in scalars.items():
            taken[name] = taken.get(name, 0) + amount
    for name in {"cpus", "mem", "disk", *stock.total}:
        found[f"{prefix}/resources/{name}/total"] = stock.total[name] / 1000
        found[f"{prefix}/resources/{name}/offered_or_allocated"] = taken.get(name, 0) / 1000
    for role, count in cluster.filters.active().items():
        found[f"{prefix}/offer_filters/roles/{role}/active"] = float(count)
    subscribed = {role for framework in cluster.frameworks.values() for role in framework.roles}
    for role in subscribed | standing.held.keys():
        held = _tree(standing.held, role)
        share = dominant_share(held, standing.total, weight=standing.weights.get(role, 1.0))
        found[f"{prefix}/roles/{role}/shares/dominant"] = share
    for role, consumed in stock.consumption().items():
        for name, amount in consumed.items():
            if amount:
                at = f"{prefix}/quota/roles/{role}/resources/{name}/consumed"
                found[at] = amount / 1000
    for role, quota in stock.quotas().items():
        held = _tree(standing.held, role)
        for name in quota.guarantees.keys() | quota.limits.keys():
            at = f"{prefix}/quota/roles/{role}/resources/{name}"
            found[f"{at}/guarantee"] = quota.guarantees.get(name, 0) / 1000
            if name in quota.limits:
                found[f"{at}/limit"] = quota.limits[name] / 1000
            found[f"{at}/offered_or_allocated"] = held.get(name, 0) / 1000
    return found


def _tree(held: Mapping[str, Mapping[str, int]], role: str) -> dict[str, int]:
    """Return what a role and all below it hold."""
    sums: dict[str, int] = {}
    for other, scalars in held.items():
        if is_within(other, role):
            for name, amount in scalars.items():
                sums[name] = sums.get(name, 0) + amount
    return sums
