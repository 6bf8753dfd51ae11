"""A task's reliable updates: one outstanding, in order, until acknowledged; pure."""

from dataclasses import dataclass, replace

from phalanx.mesos.v1.mesos import TERMINAL, TaskState, TaskStatus

FIRST_RETRY_SECONDS = 10.0
LAST_RETRY_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Stream:
    """The updates of one task: those not yet acknowledged, oldest first, and the newest of all."""

    pending: tuple[TaskStatus, ...] = ()
    latest: TaskStatus | None = None
    acknowledged: TaskStatus | None = None

    @property
    def outstanding(self) -> TaskStatus | None:
        """Return the update that waits for its acknowledgement."""
        return self.pending[0] if self.pending else None

    @property
    def is_terminated(self) -> bool:
        """Tell whether the last update has been made."""
        return self.latest is not None and self.latest.state in TERMINAL

    @property
    def is_done(self) -> bool:
        """Tell whether the last update has been made and acknowledged."""
        return self.is_terminated and not self.pending

    @property
    def forwarded(self) -> TaskStatus | None:
        """Return the newest update that may have reached the master."""
        return self.outstanding or self.acknowledged

    def with_update(self, status: TaskStatus) -> "Stream":
        """Add an update; nothing comes after a terminal one."""
        if self.is_terminated:
            return self
        return replace(self, pending=(*self.pending, status), latest=status)

    def with_acknowledgement(self, uuid: bytes) -> "Stream":
        """Take the acknowledgement of the outstanding update; any other is ignored."""
        first = self.outstanding
        if first is None or first.uuid != uuid:
            return self
        return replace(self, pending=self.pending[1:], acknowledged=first)


def retry_seconds(attempt: int) -> float:
    """Return how long to wait for an acknowledgement; the first *attempt* is number 0."""
    return float(min(FIRST_RETRY_SECONDS * 2 ** min(attempt, 10), LAST_RETRY_SECONDS))


def latest_state(stream: Stream) -> TaskState:
    """Return the newest state of a task; staging until there is any word on it."""
    return stream.latest.state if stream.latest else TaskState.TASK_STAGING
