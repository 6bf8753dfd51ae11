"""What becomes of tasks when their executor is no more (reference mesos §2.1); pure."""

from phalanx.agent.container.containerizer import Exit
from phalanx.agent.executor.conversation import dropped, gone
from phalanx.agent.task.ending import Ending, launch_failed
from phalanx.mesos.duration import render_duration
from phalanx.mesos.v1.mesos import TaskState


def terminated(exit: Exit) -> Ending:
    """Tell that an executor ended before its task did; a limit that ended it is the reason."""
    if exit.error is not None:
        return launch_failed(exit.error)
    if exit.limitation is not None:
        return Ending(
            TaskState.TASK_FAILED,
            exit.limitation.message,
            exit.limitation.reason,
            resources=exit.limitation.resources,
        )
    return Ending(TaskState.TASK_FAILED, "Executor terminated", "REASON_EXECUTOR_TERMINATED")


def not_registered(seconds: float) -> Ending:
    """Tell that an executor never subscribed."""
    return Ending(
        TaskState.TASK_FAILED,
        f"Executor did not register within {render_duration(seconds)}",
        "REASON_EXECUTOR_REGISTRATION_TIMEOUT",
    )


def not_returned(seconds: float, *, is_partition_aware: bool) -> Ending:
    """Tell that an executor did not come back after a restart of the agent."""
    return Ending(
        gone(is_partition_aware=is_partition_aware),
        f"Executor did not reregister within {render_duration(seconds)}",
        "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
    )


def not_delivered(*, is_partition_aware: bool) -> Ending:
    """Tell that a task never reached its executor."""
    return Ending(
        dropped(is_partition_aware=is_partition_aware),
        "Task was lost before it reached its executor",
        "REASON_AGENT_RESTARTED",
    )


def too_late(*, is_partition_aware: bool) -> Ending:
    """Tell that a task came for an executor that was ending."""
    return Ending(
        dropped(is_partition_aware=is_partition_aware),
        "Executor terminating",
        "REASON_EXECUTOR_TERMINATED",
    )


def killed_before_launch() -> Ending:
    """Tell that a task was killed before its executor had it."""
    return Ending(
        TaskState.TASK_KILLED,
        "Task was killed before it was delivered to the executor",
        "REASON_TASK_KILLED_DURING_LAUNCH",
    )
