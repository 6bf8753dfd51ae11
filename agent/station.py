"""What every task's life needs of the agent that it is on."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from phalanx.agent.container.containerizer import Containerizer
from phalanx.agent.image.store import Images
from phalanx.agent.layout import Layout
from phalanx.agent.task.sender import UpdateSender
from phalanx.mesos.v1.mesos import TaskInfo

LONGEST_LABEL = 63


@dataclass(frozen=True, slots=True)
class Station:
    """The parts of an agent, its clock and its source of identity."""

    ip: str
    port: int
    layout: Layout
    containerizer: Containerizer
    images: Images
    sender: UpdateSender
    clock: Callable[[], float]
    new_uuid: Callable[[], bytes]
    drain_seconds: float = 0.0  # for which a task behind a VIP serves on after TASK_KILLING


def hostname_of(task: TaskInfo, container_id: str) -> str:
    """Return a container's host name: asked for, or the first label of its task's name."""
    if task.container is not None and task.container.hostname:
        return task.container.hostname
    label = re.sub(r"[^a-z0-9-]+", "-", task.name.lower().split(".")[0])
    return label[:LONGEST_LABEL].strip("-") or container_id
