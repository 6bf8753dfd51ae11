"""From how a container ended to the last status of its task (reference mesos §2.3); pure."""

import os
import signal
from dataclasses import dataclass, replace

from phalanx.agent.container.containerizer import Exit
from phalanx.agent.task.record import Kill
from phalanx.mesos.v1.mesos import Resource, TaskState

OUT_OF_TIME = "REASON_MAX_COMPLETION_TIME_REACHED"


@dataclass(frozen=True, slots=True)
class Ending:
    """The words of a task's last status."""

    state: TaskState
    message: str
    reason: str | None = None
    healthy: bool | None = None
    resources: tuple[Resource, ...] = ()  # what a limit that ended it is about


def ending(exit: Exit, kill: Kill | None) -> Ending:
    """Tell how a task ended; a limit beats a kill, a kill beats the exit status."""
    if exit.error is not None:
        return launch_failed(exit.error)
    status = exit.status or 0
    if exit.limitation is not None:  # whatever the command made of it
        limit = exit.limitation
        return Ending(TaskState.TASK_FAILED, limit.message, limit.reason, resources=limit.resources)
    said = words_of(status)
    if kill is not None:
        message = f"{kill.message}: {said}" if kill.message else said
        is_late = kill.reason == OUT_OF_TIME
        state = TaskState.TASK_FAILED if is_late else TaskState.TASK_KILLED
        return Ending(state, message, kill.reason, kill.healthy)
    state = TaskState.TASK_FINISHED if status == 0 else TaskState.TASK_FAILED
    return Ending(state, said)


def gone_with_agent(end: Ending) -> Ending:
    """Return how a killed task ended whose agent an operator takes away for good."""
    if end.state != TaskState.TASK_KILLED:
        return end
    return replace(end, state=TaskState.TASK_GONE_BY_OPERATOR)


def refused_by_drain(*, is_partition_aware: bool) -> Ending:
    """Tell that a task was never launched since its agent drains."""
    state = TaskState.TASK_DROPPED if is_partition_aware else TaskState.TASK_LOST
    return Ending(state, "Agent is draining", "REASON_AGENT_DRAINING")


def out_of_time(grace_seconds: float) -> Kill:
    """Return why a task is killed that has run for its ``max_completion_time``."""
    return Kill(
        message="Task exceeded its max_completion_time",
        reason=OUT_OF_TIME,
        grace_seconds=grace_seconds,
    )


def launch_failed(error: str) -> Ending:
    """Tell that a container never ran, in the words of whoever refused."""
    return Ending(
        TaskState.TASK_FAILED,
        f"Failed to launch container: {error}",
        "REASON_CONTAINER_LAUNCH_FAILED",
    )


def killed_during_launch() -> Ending:
    """Tell that a task was killed before its command ran."""
    return Ending(
        TaskState.TASK_KILLED,
        "Task was killed before its container was launched",
        "REASON_TASK_KILLED_DURING_LAUNCH",
    )


def lost_in_restart(message: str) -> Ending:
    """Tell that a container did not live through a restart of the agent or the node."""
    return Ending(TaskState.TASK_FAILED, message, "REASON_AGENT_RESTARTED")


def words_of(status: int) -> str:
    """Return a wait status in Mesos' words.

    A shell, which every command has above it, tells of a signal by 128 plus its number.
    """
    code = os.waitstatus_to_exitcode(status)
    number = -code if code < 0 else code - 128
    if (code < 0 or code > 128) and number in signal.valid_signals():
        return f"Command terminated with signal {signal.strsignal(number) or number}"
    return f"Command exited with status {code}"
