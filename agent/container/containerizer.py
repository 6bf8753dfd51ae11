"""The service that starts containers and stays with them; one for each kind of engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.agent.process import Process
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    CommandInfo,
    NetworkInfo,
    Resource,
    ResourceStatistics,
    Scalar,
)


@dataclass(frozen=True, slots=True)
class Running:
    """A container whose first process runs, and the networks that it is on.

    *data* is what the engine itself tells of it, for the status of its task.
    """

    pid: int
    networks: tuple[NetworkInfo, ...]
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Limitation:
    """A limit that ended a container: Mesos' reason, its words, what would have been over it."""

    reason: str
    message: str
    resources: tuple[Resource, ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended: a wait status, or why it never started."""

    status: int | None = None
    error: str | None = None
    limitation: Limitation | None = None
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a container; nothing of one that is not there."""

    init: Process | None = None
    exit: Exit | None = None
    started: float | None = None
    networks: tuple[NetworkInfo, ...] = ()


class Containerizer(Protocol):
    """Starts containers, watches them, removes them. Ids are the text form, ``a.b.c``.

    Containers outlive the agent; what is known of them is read back. A container
    that nobody knows is no error for `kill`, `terminate`, `signal` and `remove`.
    """

    async def launch(self, request: ContainerRequest) -> Running:
        """Start a container; raise ContainerError in plain words.

        Whatever was made before a failure stays for `remove`.
        """
        ...

    async def wait(self, container_id: str) -> Exit:
        """Wait for a container's end, also one that an earlier agent started."""
        ...

    def terminate(self, container_id: str) -> None:
        """Ask every process of a container to end (SIGTERM); its nested ones are not asked."""
        ...

    def signal(self, container_id: str, number: int) -> None:
        """Send a signal to every process of a container but the init that is ours."""
        ...

    def kill(self, container_id: str) -> None:
        """Kill a container with those nested in it; one being launched fails at its next step."""
        ...

    async def execute(
        self, container_id: str, command: CommandInfo, *, timeout_seconds: float | None
    ) -> int:
        """Run a command inside; return its status; raise TimeoutError, ContainerError."""
        ...

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container, those nested in it, and their networks.

        Raises ContainerError where something is left; it may be called again.
        """
        ...

    def find(self, container_id: str) -> Found:
        """Return what is known of a container."""
        ...

    def known(self) -> tuple[str, ...]:
        """Return every container of which anything is left."""
        ...

    def network(self, container_id: str) -> Path | None:
        """Return the network namespace of a container; None if it is in the agent's."""
        ...

    async def statistics(self, container_id: str) -> ResourceStatistics:
        """Return what a container uses and may use."""
        ...

    async def update(
        self, container_id: str, resources: Resources, limits: Mapping[str, Scalar]
    ) -> None:
        """Hold a running container to other amounts; raise ContainerError."""
        ...
