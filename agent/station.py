"""What every task's life needs of the agent that it is on."""

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phalanx.agent.cni.attach import Networks
from phalanx.agent.container.runtime import Containers
from phalanx.agent.image.store import Images
from phalanx.agent.layout import Layout
from phalanx.agent.task.sender import UpdateSender
from phalanx.mesos.v1.mesos import IPAddress, NetworkInfo, TaskInfo

RESOLV_CONF = "/etc/resolv.conf"
HOST_FILES = ("/etc/hosts", "/etc/hostname", RESOLV_CONF)
LONGEST_LABEL = 63


@dataclass(frozen=True, slots=True)
class Station:
    """The parts of an agent, its clock and its source of identity."""

    ip: str
    port: int
    layout: Layout
    containers: Containers
    networks: Networks
    images: Images
    sender: UpdateSender
    launches: asyncio.Semaphore
    clock: Callable[[], float]
    new_uuid: Callable[[], bytes]
    resolv_conf: Path | None = None
    has_quota: bool = False

    def own_network(self) -> NetworkInfo:
        """Return what the status of a task on our own network says."""
        return NetworkInfo(ip_addresses=(IPAddress(ip_address=self.ip),))

    def files(self, home: Path | None) -> dict[str, str]:
        """Return what is bound over the root's files, from a container's own files in *home*."""
        found = {}
        for point in HOST_FILES:
            source = os.path.realpath(point)
            own = home / Path(point).name if home is not None else None
            if own is not None and own.exists():
                source = str(own)
            elif point == RESOLV_CONF and self.resolv_conf is not None:
                source = str(self.resolv_conf)
            if os.path.exists(point) and os.path.exists(source):
                found[point] = source
        return found


def hostname_of(task: TaskInfo, container_id: str) -> str:
    """Return a container's host name: asked for, or the first label of its task's name."""
    if task.container is not None and task.container.hostname:
        return task.container.hostname
    label = re.sub(r"[^a-z0-9-]+", "-", task.name.lower().split(".")[0])
    return label[:LONGEST_LABEL].strip("-") or container_id
