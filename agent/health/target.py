"""A container as checks see it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from phalanx.mesos.v1.mesos import CommandInfo


class Executing(Protocol):
    """What can run a command in a container."""

    async def execute(
        self, container_id: str, command: CommandInfo, *, timeout_seconds: float | None
    ) -> int:
        """Run a command inside a container; return its exit code."""
        ...


@dataclass(frozen=True, slots=True)
class Inside:
    """A container of ours, and the network namespace it is in; None for the agent's own."""

    containers: Executing
    container_id: str
    network: Path | None

    async def execute(self, command: CommandInfo, *, timeout_seconds: float | None) -> int:
        """Run a command inside; return its exit code; raise TimeoutError, ContainerError."""
        return await self.containers.execute(
            self.container_id, command, timeout_seconds=timeout_seconds
        )
