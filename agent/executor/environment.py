"""What executors and the tasks of a group are told in their environment (reference mesos §2.2).

Pure. Sandbox and addresses are added by the containerizer, which finds them
out; a command's own variables lie over all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from phalanx.mesos.duration import render_duration
from phalanx.mesos.v1.mesos import ExecutorInfo, FrameworkInfo, TaskInfo


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What an executor is told of its agent; durations in seconds."""

    agent_id: str
    agent_ip: str
    agent_port: int
    shutdown_grace: float
    recovery_timeout: float
    backoff_max: float = 2.0


def executor_environment(
    executor: ExecutorInfo, framework: FrameworkInfo, where: Whereabouts
) -> dict[str, str]:
    """Return what an executor is told of itself, its framework and its agent."""
    endpoint = f"{where.agent_ip}:{where.agent_port}"
    environment = {
        "LIBPROCESS_PORT": "0",
        "MESOS_AGENT_ENDPOINT": endpoint,
        "MESOS_CHECKPOINT": "1" if framework.checkpoint else "0",
        "MESOS_EXECUTOR_ID": executor.executor_id.value,
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": render_duration(where.shutdown_grace),
        "MESOS_FRAMEWORK_ID": framework.id.value if framework.id else "",
        "MESOS_HTTP_COMMAND_EXECUTOR": "0",
        "MESOS_SLAVE_ID": where.agent_id,
        "MESOS_SLAVE_PID": f"slave(1)@{endpoint}",
    }
    if framework.checkpoint:
        environment["MESOS_RECOVERY_TIMEOUT"] = render_duration(where.recovery_timeout)
        environment["MESOS_SUBSCRIPTION_BACKOFF_MAX"] = render_duration(where.backoff_max)
    return environment


def group_task_environment(task: TaskInfo, framework: FrameworkInfo) -> Mapping[str, str]:
    """Return what a task of a group is told beside its sandbox and its address."""
    allocation = task.resources[0].allocation_info if task.resources else None
    role = (allocation and allocation.role) or framework.role or "*"
    return {"MESOS_ALLOCATION_ROLE": role}
