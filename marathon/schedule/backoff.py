"""How long an app that fails waits before its next launch (reference marathon §3.4)."""

from dataclasses import dataclass

from phalanx.marathon.model.spec import Spec
from phalanx.mesos.v1.mesos import TaskState, TaskStatus

COUNTED = frozenset(
    {
        TaskState.TASK_DROPPED,
        TaskState.TASK_ERROR,
        TaskState.TASK_FAILED,
        TaskState.TASK_FINISHED,
        TaskState.TASK_GONE,
        TaskState.TASK_LOST,
    }
)


_DRAINED = frozenset({TaskState.TASK_KILLED, TaskState.TASK_GONE_BY_OPERATOR})
_DRAINING = frozenset({"REASON_AGENT_DRAINING", "REASON_SLAVE_DRAINING"})


@dataclass(frozen=True, slots=True)
class Backoff:
    """The present delay of one app's configuration, counted from *since*."""

    config_version: str
    delay_seconds: float
    since: float

    @property
    def until(self) -> float:
        """Return when the next launch may happen."""
        return self.since + self.delay_seconds


def after_failure(app: Spec, present: Backoff | None, now: float) -> Backoff:
    """Return the backoff after one more failure: the first waits backoffSeconds."""
    if present is None or present.config_version != app.config_version:
        delay = app.backoff_seconds
    else:
        delay = present.delay_seconds * app.backoff_factor
    return Backoff(app.config_version, min(delay, app.max_launch_delay_seconds), now)


def after_launch(present: Backoff, now: float) -> Backoff:
    """Return the backoff after a launch: the next one keeps the same distance."""
    return Backoff(present.config_version, present.delay_seconds, now)


def is_drained(status: TaskStatus) -> bool:
    """Tell whether a task ended because its agent is emptied: then nothing delays the next."""
    return status.state in _DRAINED and status.reason in _DRAINING


def is_over(app: Spec, present: Backoff, now: float) -> bool:
    """Tell whether *present* no longer counts: another configuration, or quiet for long enough."""
    if present.config_version != app.config_version:
        return True
    return now >= present.since + max(app.max_launch_delay_seconds, present.delay_seconds)
