"""What a leading master counts as it happens, by the names of Mesos' metrics."""

from collections import Counter

from phalanx.master.event import (
    Bus,
    Change,
    FrameworkRemoved,
    TasksKilled,
    TaskUpdated,
)
from phalanx.mesos.v1.mesos import TERMINAL, TaskStatus

# The sources of updates as Mesos names them in metrics.
SOURCES = {
    "SOURCE_MASTER": "source_master",
    "SOURCE_AGENT": "source_slave",
    "SOURCE_EXECUTOR": "source_executor",
}

# What calls of frameworks count as.
OF_CALLS = {
    "TEARDOWN": "master/messages_unregister_framework",
    "DECLINE": "master/messages_decline_offers",
    "REVIVE": "master/messages_revive_offers",
    "SUPPRESS": "master/messages_suppress_offers",
    "KILL": "master/messages_kill_task",
    "ACKNOWLEDGE": "master/messages_status_update_acknowledgement",
    "ACKNOWLEDGE_OPERATION_STATUS": "master/messages_operation_status_update_acknowledgement",
    "RECONCILE": "master/messages_reconcile_tasks",
    "RECONCILE_OPERATIONS": "master/messages_reconcile_operations",
    "MESSAGE": "master/messages_framework_to_executor",
    "REQUEST": "master/messages_resource_request",
}


class Counts:
    """Counters of one leadership: by name, and of calls and ended tasks by framework."""

    def __init__(self, bus: Bus) -> None:
        self.named: Counter[str] = Counter()
        self.ended: dict[str, Counter[str]] = {}
        self.calls: dict[str, Counter[str]] = {}
        bus.subscribe(self._note)

    def subscribed(self, framework_id: str, *, is_new: bool) -> None:
        """Count a subscription."""
        kind = "register" if is_new else "reregister"
        self.named[f"master/messages_{kind}_framework"] += 1
        self.calls.setdefault(framework_id, Counter())["SUBSCRIBE"] += 1

    def called(self, framework_id: str, kind: str) -> None:
        """Count a call of a subscribed framework."""
        if kind in OF_CALLS:
            self.named[OF_CALLS[kind]] += 1
        self.calls.setdefault(framework_id, Counter())[kind] += 1

    def _note(self, change: Change) -> None:
        match change:
            case TaskUpdated(key=(framework_id, _), status=status, state=state):
                if state in TERMINAL and change.before not in TERMINAL:
                    self.ended.setdefault(framework_id, Counter())[state] += 1
                    self.named[f"tasks:{state}"] += 1
                if status.state in TERMINAL and status.reason is not None:
                    self.named[_metric(status)] += 1
            case TasksKilled(tasks=tasks, status_of=status_of):
                alive = [task for task in tasks if task.state not in TERMINAL]
                if alive:
                    status = status_of(alive[0])
                    self.named[f"tasks:{status.state}"] += len(alive)
                    self.named[_metric(status)] += len(alive)
            case FrameworkRemoved(info=info) if info.id is not None:
                self.ended.pop(info.id.value, None)
                self.calls.pop(info.id.value, None)


def _metric(status: TaskStatus) -> str:
    """Return the name under which a task's end is counted."""
    source = SOURCES.get(status.source or "", "source_slave")
    reason = (status.reason or "").lower().replace("agent", "slave")
    return f"master/{status.state.lower()}/{source}/{reason}"
