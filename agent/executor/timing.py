"""How long executors may take (reference mesos §2.1)."""

from dataclasses import dataclass

from phalanx.mesos.v1.mesos import ExecutorInfo

HEARTBEAT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of one agent's executors, in seconds."""

    registration: float = 60.0  # from its container's start to its first subscription
    reregistration: float = 2.0  # from the agent's start to a subscription again
    shutdown_grace: float = 5.0  # from SHUTDOWN to the end of its container
    recovery: float = 900.0  # how long executors are told to go on without the agent
    heartbeat: float = HEARTBEAT_SECONDS

    def grace(self, executor: ExecutorInfo) -> float:
        """Return how long an executor may take to end."""
        asked = executor.shutdown_grace_period
        return self.shutdown_grace if asked is None else max(asked.nanoseconds / 1e9, 0.0)
