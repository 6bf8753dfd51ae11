"""From how a container ended to the last status of its task (reference mesos §2.3); pure."""

import os
import signal
from dataclasses import dataclass

from phalanx.agent.task.record import Kill
from phalanx.mesos.v1.mesos import TaskState

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended: a wait status, or why it never started."""

    status: int | None = None
    error: str | None = None
    oom_kills: int = 0
    memory_used: int = 0
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """The words of a task's last status."""

    state: TaskState
    message: str
    reason: str | None = None
    healthy: bool | None = None


def ending(exit: Exit, kill: Kill | None, *, memory_megabytes: float) -> Ending:
    """Tell how a task ended; the memory limit beats a kill, a kill beats the exit status."""
    if exit.error is not None:
        return launch_failed(exit.error)
    status = exit.status or 0
    if exit.oom_kills:  # whatever the command made of it
        used = exit.memory_used / MEGABYTE
        return Ending(
            TaskState.TASK_FAILED,
            f"Memory limit exceeded: Requested: {memory_megabytes:g}MB Maximum Used: {used:g}MB",
            "REASON_CONTAINER_LIMITATION_MEMORY",
        )
    said = words_of(status)
    if kill is not None:
        message = f"{kill.message}: {said}" if kill.message else said
        return Ending(TaskState.TASK_KILLED, message, kill.reason, kill.healthy)
    state = TaskState.TASK_FINISHED if status == 0 else TaskState.TASK_FAILED
    return Ending(state, said)


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
