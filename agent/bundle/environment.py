"""The environment of a container (reference mesos §2.2, §2.3); pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.mesos.v1.mesos import FrameworkInfo, TaskInfo

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container is told about where it runs."""

    agent_ip: str
    sandbox: str
    container_ip: str
    has_own_network: bool
    directory: str | None = None  # the sandbox on the host, if the container has it elsewhere
    search_path: str = SEARCH_PATH  # where programs are


def searched(own: Iterable[str]) -> str:
    """Return where a container without an image looks for programs: as the agent, then as usual."""
    return ":".join(dict.fromkeys((*own, *SEARCH_PATH.split(":"))))


def task_environment(
    task: TaskInfo, framework: FrameworkInfo, agent_ip: str, agent_port: int
) -> dict[str, str]:
    """Return what a command task is told of itself, its framework and its agent."""
    endpoint = f"{agent_ip}:{agent_port}"
    allocation = task.resources[0].allocation_info if task.resources else None
    checkpointing = {"MESOS_RECOVERY_TIMEOUT": "15mins", "MESOS_SUBSCRIPTION_BACKOFF_MAX": "2secs"}
    return {
        "LIBPROCESS_PORT": "0",
        "MESOS_AGENT_ENDPOINT": endpoint,
        "MESOS_ALLOCATION_ROLE": (allocation and allocation.role) or framework.role or "*",
        "MESOS_CHECKPOINT": "1" if framework.checkpoint else "0",
        "MESOS_EXECUTOR_ID": task.task_id.value,
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
        "MESOS_FRAMEWORK_ID": framework.id.value if framework.id else "",
        "MESOS_HTTP_COMMAND_EXECUTOR": "0",
        "MESOS_SLAVE_ID": task.agent_id.value,
        "MESOS_SLAVE_PID": f"slave(1)@{endpoint}",
        "MESOS_TASK_ID": task.task_id.value,
        **(checkpointing if framework.checkpoint else {}),
    }


def container_environment(
    request: ContainerRequest,
    around: Surroundings,
    image: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return a container's environment, the variables of its command over all others.

    From below: where programs are, what an *image* sets, what the containerizer
    found out, what the asker adds, the command's own *variables*.
    """
    return {
        "PATH": around.search_path,
        **(image or {}),
        "LIBPROCESS_IP": "0.0.0.0" if around.has_own_network else around.agent_ip,
        "MESOS_CONTAINER_IP": around.container_ip,
        "MESOS_DIRECTORY": around.directory or around.sandbox,
        "MESOS_SANDBOX": around.sandbox,
        **request.environment,
        **(variables or {}),
    }
