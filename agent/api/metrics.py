"""``/metrics/snapshot`` and GET_METRICS (reference mesos §3.4)."""

from collections import Counter

from phalanx.agent.api.view import View
from phalanx.mesos.machine import machine_metrics
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import TaskState

AMOUNTS = ("cpus", "mem", "disk", "gpus")


def all_metrics(view: View) -> dict[str, float]:
    """Return every metric by its name."""
    counted: Counter[TaskState] = Counter(view.roster.counts)
    for task in view.held():
        counted[task.state] += 1
    running = view.executors()
    collector, drain = view.collector, view.drain()
    shown = {
        **{metric_of(state): float(counted[state]) for state in TaskState},
        **resource_metrics("", view.ledger().total, view.used()),
        **resource_metrics("_revocable", view.ledger().total.revocable, view.used().revocable),
        "slave/draining": float(drain is not None),
        "slave/executor_directory_max_allowed_age_secs": collector.age_seconds,
        "slave/executors_preempted": 0.0,
        "slave/executors_registering": 0.0,
        "slave/executors_running": float(len(running)),
        "slave/executors_terminated": float(sum(view.roster.counts.values())),
        "slave/executors_terminating": 0.0,
        "slave/frameworks_active": float(len(view.frameworks()[0])),
        "slave/registered": float(view.master() is not None),
        "slave/recovery_errors": 0.0,
        "slave/recovery_time_secs": view.recovery_seconds,
        "slave/uptime_secs": view.station.clock() - view.start_time,
        "slave/container_launch_errors": float(view.roster.launch_errors),
        "slave/valid_status_updates": float(view.roster.updates),
        "slave/invalid_status_updates": 0.0,
        "slave/valid_framework_messages": 0.0,
        "slave/invalid_framework_messages": 0.0,
        "gc/path_removals_pending": float(collector.pending),
        "gc/path_removals_succeeded": float(collector.succeeded),
        "gc/path_removals_failed": float(collector.failed),
        "containerizer/fetcher/cache_size_total_bytes": float(view.cache()[0]),
        "containerizer/fetcher/cache_size_used_bytes": float(view.cache()[1]),
        "resource_provider_manager/events/disconnect": 0.0,
        "resource_provider_manager/events/subscribe": 0.0,
        "resource_provider_manager/subscribed": 0.0,
        **machine_metrics(),
    }
    return dict(sorted(shown.items()))


def metric_of(state: TaskState) -> str:
    """Return the name that counts tasks of a state."""
    return f"slave/tasks_{state.removeprefix('TASK_').lower()}"


def resource_metrics(suffix: str, total: Resources, used: Resources) -> dict[str, float]:
    """Return how much there is, is used, and the share of that."""
    shown = {}
    for name in AMOUNTS:
        has, takes = total.scalar(name), used.scalar(name)
        shown[f"slave/{name}{suffix}_total"] = has
        shown[f"slave/{name}{suffix}_used"] = takes
        shown[f"slave/{name}{suffix}_percent"] = takes / has if has else 0.0
    return shown
