"""What a leading master counts as it happens, by the names of Mesos' metrics."""

from collections import Counter

from phalanx.master.event import (
    AgentRemoved,
    Bus,
    Change,
    FrameworkRemoved,
    TaskUpdated,
)
from phalanx.mesos.v1.mesos import TERMINAL

# The sources of updates as Mesos names them in metrics.
SOURCES = {
    "SOURCE_MASTER": "source_master",
    "SOURCE_AGENT": "source_slave",
    "SOURCE_EXECUTOR": "source_executor",
}


class Counts:
    """Counters of one leadership: by name, and of ended tasks by framework."""

    def __init__(self, bus: Bus) -> None:
        self.named: Counter[str] = Counter()
        self.ended: dict[str, Counter[str]] = {}
        bus.subscribe(self._note)

    def add(self, name: str) -> None:
        """Count one."""
        self.named[name] += 1

    def _note(self, change: Change) -> None:
        match change:
            case TaskUpdated(key=(framework_id, _), status=status, state=state):
                if state in TERMINAL and change.before not in TERMINAL:
                    self.ended.setdefault(framework_id, Counter())[state] += 1
                    self.named[f"tasks:{state}"] += 1
                if status.state in TERMINAL and status.reason is not None:
                    source = SOURCES.get(status.source or "", "source_slave")
                    reason = status.reason.lower().replace("agent", "slave")
                    self.named[f"master/{status.state.lower()}/{source}/{reason}"] += 1
            case AgentRemoved():
                self.named["master/slave_removals"] += 1
            case FrameworkRemoved(info=info) if info.id is not None:
                self.ended.pop(info.id.value, None)
