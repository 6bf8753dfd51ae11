"""``/metrics/snapshot``: one number a name, as Mesos names them."""

from collections import Counter
from collections.abc import Mapping

from phalanx.master.cluster.cluster import Cluster
from phalanx.master.operator.tally import summed
from phalanx.master.operator.v1 import reachable
from phalanx.mesos.v1.mesos import TERMINAL, TaskState

LIVE = tuple(state for state in TaskState if state not in TERMINAL)


def metrics(
    cluster: Cluster, counts: Mapping[str, int], *, uptime: float, runs: int
) -> dict[str, float]:
    """Return every metric of the leading master; *counts* is of updates, *runs* of allocations."""
    agents = reachable(cluster)
    connected = sum(agent.is_connected for agent in agents)
    active = sum(agent.is_offerable for agent in agents)
    total = summed(agent.total for agent in agents)
    frameworks = cluster.frameworks.values()
    subscribed = sum(framework.is_connected for framework in frameworks)
    states = Counter(
        task.state
        for framework in frameworks
        for task in (*framework.tasks.values(), *framework.unreachable.values())
    )
    found = {
        "master/elected": 1,
        "master/uptime_secs": uptime,
        "master/slaves_active": active,
        "master/slaves_connected": connected,
        "master/slaves_disconnected": len(agents) - connected,
        "master/slaves_inactive": len(agents) - active,
        "master/slaves_unreachable": len(cluster.agents) - len(agents),
        "master/frameworks_active": subscribed,
        "master/frameworks_connected": subscribed,
        "master/frameworks_disconnected": len(frameworks) - subscribed,
        "master/frameworks_inactive": len(frameworks) - subscribed,
        "master/outstanding_offers": len(cluster.offers),
        "master/valid_status_updates": counts.get("valid", 0),
        "master/invalid_status_updates": counts.get("invalid", 0),
        "allocator/mesos/allocation_runs": runs,
    }
    for name in ("cpus", "gpus", "mem", "disk"):
        whole = total.scalar(name)
        used = sum(agent.used.scalar(name) for agent in agents)
        found[f"master/{name}_total"] = whole
        found[f"master/{name}_used"] = used
        found[f"master/{name}_percent"] = used / whole if whole else 0.0
    for state in LIVE:
        if state is not TaskState.TASK_UNKNOWN:
            found[f"master/{_metric(state)}"] = states[state]
    for state in sorted(TERMINAL):
        found[f"master/{_metric(state)}"] = counts.get(state, 0)
    return {name: float(value) for name, value in sorted(found.items())}


def follower_metrics(*, uptime: float) -> dict[str, float]:
    """Return what a master that does not lead can tell."""
    return {"master/elected": 0.0, "master/uptime_secs": uptime}


def _metric(state: TaskState) -> str:
    return f"tasks_{state.removeprefix('TASK_').lower()}"
