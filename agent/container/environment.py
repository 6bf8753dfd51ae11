"""The environment of a task (reference mesos §2.2, §2.3)."""

from collections.abc import Mapping
from dataclasses import dataclass

from phalanx.mesos.v1.mesos import FrameworkInfo, TaskInfo

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a task is told about where it runs."""

    agent_ip: str
    agent_port: int
    sandbox: str
    container_ip: str
    has_own_network: bool
    directory: str | None = None  # the sandbox on the host, if the container has it elsewhere


def task_environment(
    task: TaskInfo,
    framework: FrameworkInfo,
    around: Surroundings,
    image: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return a task's environment: ours first, the task's own variables over it.

    What an *image* sets is below ours, but for where programs are looked for.
    """
    endpoint = f"{around.agent_ip}:{around.agent_port}"
    allocation = task.resources[0].allocation_info if task.resources else None
    environment = {
        "PATH": SEARCH_PATH,
        **(image or {}),
        "LIBPROCESS_IP": "0.0.0.0" if around.has_own_network else around.agent_ip,
        "LIBPROCESS_PORT": "0",
        "MESOS_AGENT_ENDPOINT": endpoint,
        "MESOS_ALLOCATION_ROLE": (allocation and allocation.role) or framework.role or "*",
        "MESOS_CHECKPOINT": "1",
        "MESOS_CONTAINER_IP": around.container_ip,
        "MESOS_DIRECTORY": around.directory or around.sandbox,
        "MESOS_EXECUTOR_ID": task.task_id.value,
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
        "MESOS_FRAMEWORK_ID": framework.id.value if framework.id else "",
        "MESOS_HTTP_COMMAND_EXECUTOR": "0",
        "MESOS_RECOVERY_TIMEOUT": "15mins",
        "MESOS_SANDBOX": around.sandbox,
        "MESOS_SLAVE_ID": task.agent_id.value,
        "MESOS_SLAVE_PID": f"slave(1)@{endpoint}",
        "MESOS_SUBSCRIPTION_BACKOFF_MAX": "2secs",
        "MESOS_TASK_ID": task.task_id.value,
    }
    if task.command is not None and task.command.environment is not None:
        for variable in task.command.environment.variables:
            environment[variable.name] = variable.value or ""
    return environment
