"""``/metrics/snapshot``: one number a name, as Mesos names them (reference mesos §3.4)."""

from collections import Counter
from collections.abc import Iterable, Mapping

from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.operator.counts import Counts
from phalanx.master.operator.snapshot import reachable
from phalanx.master.scheduler.call import CALLS
from phalanx.mesos.machine import machine_metrics
from phalanx.mesos.v1.mesos import TERMINAL, OperationRecord, TaskState

LIVE = tuple(state for state in TaskState if state not in TERMINAL)
SCALARS = ("cpus", "gpus", "mem", "disk")
OPERATIONS = (
    "reserve",
    "unreserve",
    "create",
    "destroy",
    "grow_volume",
    "shrink_volume",
    "create_disk",
    "destroy_disk",
)
OPERATION_STATES = (
    "pending",
    "recovering",
    "unreachable",
    "finished",
    "failed",
    "error",
    "dropped",
    "gone_by_operator",
)
# What agents count, by the names of Mesos.
OF_AGENTS = {
    "registrations": "master/slave_registrations",
    "reregistrations": "master/slave_reregistrations",
    "removals": "master/slave_removals",
    "unreachable_scheduled": "master/slave_unreachable_scheduled",
    "unreachable_canceled": "master/slave_unreachable_canceled",
    "unreachable_completed": "master/slave_unreachable_completed",
    "recovery_removals": "master/recovery_slave_removals",
}
# Counters that are there from the beginning, at zero.
COUNTED = (
    "master/dropped_messages",
    "master/http_cache_hits",
    "master/event_queue_dispatches",
    "master/event_queue_http_requests",
    "master/event_queue_messages",
    "master/slave_shutdowns_canceled",
    "master/slave_shutdowns_completed",
    "master/slave_shutdowns_scheduled",
    "master/slave_removals/reason_registered",
    "master/slave_removals/reason_unhealthy",
    "master/slave_removals/reason_unregistered",
    "master/valid_executor_to_framework_messages",
    "master/invalid_executor_to_framework_messages",
    "master/valid_framework_to_executor_messages",
    "master/invalid_framework_to_executor_messages",
    "master/valid_status_update_acknowledgements",
    "master/invalid_status_update_acknowledgements",
    "master/valid_operation_status_updates",
    "master/invalid_operation_status_updates",
    "master/valid_operation_status_update_acknowledgements",
    "master/invalid_operation_status_update_acknowledgements",
    *(
        f"master/messages_{kind}"
        for kind in (
            "authenticate",
            "deactivate_framework",
            "decline_offers",
            "executor_to_framework",
            "exited_executor",
            "framework_to_executor",
            "kill_task",
            "launch_tasks",
            "operation_status_update",
            "operation_status_update_acknowledgement",
            "reconcile_operations",
            "reconcile_tasks",
            "register_framework",
            "register_slave",
            "reregister_framework",
            "reregister_slave",
            "resource_request",
            "revive_offers",
            "status_update",
            "status_update_acknowledgement",
            "suppress_offers",
            "unregister_framework",
            "unregister_slave",
            "update_slave",
        )
    ),
)


def all_metrics(
    cluster: Cluster,
    counts: Counts,
    *,
    uptime: float,
    subscribers: int,
    agents: Mapping[str, int],
    updates: Mapping[str, int],
    allocator: Mapping[str, float],
) -> dict[str, float]:
    """Return every metric of the leading master, by name.

    *uptime* is in seconds; *subscribers* are open operator streams; *agents*,
    *updates* and *allocator* are what those parts of the master have counted.
    """
    found: dict[str, float] = dict.fromkeys(COUNTED, 0.0)
    found |= {
        "master/elected": 1.0,
        "master/uptime_secs": uptime,
        "master/operator_event_stream_subscribers": subscribers,
        "master/valid_status_updates": updates.get("valid", 0),
        "master/invalid_status_updates": updates.get("invalid", 0),
        "master/messages_status_update": updates.get("valid", 0) + updates.get("invalid", 0),
        "registrar/queued_operations": 0.0,
        "registrar/log/recovered": 1.0,
        "registrar/log/ensemble_size": 1.0,
        "allocator/event_queue_dispatches": 0.0,
    }
    found |= machine_metrics()
    found |= cluster_metrics(cluster)
    found |= allocator
    for key, name in OF_AGENTS.items():
        found[name] = agents.get(key, 0)
    found["master/messages_register_slave"] = agents.get("registrations", 0)
    found["master/messages_reregister_slave"] = agents.get("reregistrations", 0)
    for state in TERMINAL:
        found[f"master/{metric_of(state)}"] = counts.named[f"tasks:{state}"]
    for name, count in counts.named.items():
        if "/" in name:
            found[name] = found.get(name, 0.0) + count
    for framework in cluster.frameworks.values():
        ended = counts.ended.get(framework.id, Counter())
        calls = counts.calls.get(framework.id, Counter())
        found |= framework_metrics(framework, ended, calls)
    return {name: float(value) for name, value in sorted(found.items())}


def cluster_metrics(cluster: Cluster) -> dict[str, float]:
    """Return what the tables tell."""
    agents = reachable(cluster)
    connected = sum(agent.is_connected for agent in agents)
    active = sum(agent.is_offerable for agent in agents)
    frameworks = cluster.frameworks.values()
    subscribed = sum(framework.is_connected for framework in frameworks)
    states = Counter(
        task.state
        for framework in frameworks
        for task in (*framework.tasks.values(), *framework.unreachable.values())
    )
    found: dict[str, float] = {
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
    }
    total: Counter[str] = Counter()
    used: Counter[str] = Counter()
    for agent in agents:
        for sums, resources in ((total, agent.total), (used, agent.used)):
            revocable = resources.revocable
            for name in SCALARS:
                extra = revocable.scalars.get(name, 0) if revocable else 0
                sums[name] += resources.scalars.get(name, 0) - extra
                sums[f"{name}_revocable"] += extra
    for name in (*SCALARS, *(f"{name}_revocable" for name in SCALARS)):
        whole = total[name]
        found[f"master/{name}_total"] = whole / 1000
        found[f"master/{name}_used"] = used[name] / 1000
        found[f"master/{name}_percent"] = used[name] / whole if whole else 0.0
    for state in LIVE:
        if state is not TaskState.TASK_UNKNOWN:
            found[f"master/{metric_of(state)}"] = states[state]
    found |= operation_metrics(
        operation for agent in agents for operation in agent.operations.values()
    )
    return found


def operation_metrics(operations: Iterable[OperationRecord]) -> dict[str, float]:
    """Return how many operations there are, by kind and state."""
    by_both: Counter[tuple[str, str]] = Counter(
        (
            (item.info.type or "").lower(),
            item.latest_status.state.removeprefix("OPERATION_").lower(),
        )
        for item in operations
    )
    found: dict[str, float] = {"master/operations/total": sum(by_both.values())}
    for state in OPERATION_STATES:
        found[f"master/operations/{state}"] = sum(
            count for (_, its), count in by_both.items() if its == state
        )
    for kind in OPERATIONS:
        found[f"master/operations/{kind}/total"] = sum(
            count for (its, _), count in by_both.items() if its == kind
        )
        for state in OPERATION_STATES:
            found[f"master/operations/{kind}/{state}"] = by_both[kind, state]
    return found


def framework_metrics(
    framework: Framework, ended: Mapping[str, int], calls: Mapping[str, int]
) -> dict[str, float]:
    """Return the metrics of one framework; *ended* counts its tasks by their last states."""
    name = framework.info.name.replace("/", "%2F")
    prefix = f"master/frameworks/{name}/{framework.id}"
    states = Counter(
        task.state for task in (*framework.tasks.values(), *framework.unreachable.values())
    )
    found: dict[str, float] = {
        f"{prefix}/subscribed": float(framework.is_connected),
        **{
            f"{prefix}/roles/{role}/suppressed": float(role in framework.suppressed)
            for role in framework.roles
        },
    }
    found[f"{prefix}/calls"] = sum(calls.values())
    for kind in CALLS:
        found[f"{prefix}/calls/{kind.lower()}"] = calls.get(kind, 0)
    for state in LIVE:
        found[f"{prefix}/tasks/active/{state.lower()}"] = states[state]
    for state in sorted(TERMINAL):
        found[f"{prefix}/tasks/terminal/{state.lower()}"] = ended.get(state, 0)
    return found


def follower_metrics(*, uptime: float) -> dict[str, float]:
    """Return what a master that does not lead can tell."""
    return {"master/elected": 0.0, "master/uptime_secs": uptime, **machine_metrics()}


def metric_of(state: TaskState) -> str:
    """Return the name that counts tasks of a state."""
    return f"tasks_{state.removeprefix('TASK_').lower()}"
