"""Several containerizers as one: each launch goes to the first that takes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.agent.container.containerizer import Containerizer, Exit, Found, Running
from phalanx.agent.docker.containerizer import DockerContainerizer
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import CommandInfo, ContainerInfo, ResourceStatistics, Scalar

ROOTS = ("task", "executor")


@dataclass(frozen=True, slots=True)
class Composed:
    """A Containerizer that has one for Docker beside the one of Mesos (reference mesos §6.1).

    *docker* is None on an agent whose setting ``--containerizers`` does not name it;
    *names* is that setting.
    """

    mesos: Containerizer
    docker: DockerContainerizer | None
    names: Sequence[str] = ("mesos",)
    default: ContainerInfo | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    async def launch(self, request: ContainerRequest) -> Running:
        """Start a container; raise ContainerError in plain words.

        A task or an executor that says nothing of its container gets the *default*
        one, and every one the *variables* that it does not set itself.
        """
        if request.kind in ROOTS:
            request = replace(
                request,
                container=request.container or self.default,
                environment={**self.variables, **request.environment},
            )
        if self.docker is not None:
            root = request.id.partition(".")[0]
            if self.docker.takes(request) or (request.parent and self.docker.has(root)):
                return await self.docker.launch(request)
        is_docker = request.container is not None and request.container.type == "DOCKER"
        if is_docker or "mesos" not in self.names:
            kind = request.container.type if request.container is not None else "MESOS"
            raise ContainerError(
                "None of the enabled containerizers could create a container for the provided"
                f" TaskInfo/ExecutorInfo message: type {kind},"
                f" --containerizers={','.join(self.names)}"
            )
        return await self.mesos.launch(request)

    def _of(self, container_id: str) -> Containerizer:
        if self.docker is not None and self.docker.has(container_id):
            return self.docker
        return self.mesos

    async def wait(self, container_id: str) -> Exit:
        """Wait for a container's end."""
        return await self._of(container_id).wait(container_id)

    def terminate(self, container_id: str) -> None:
        """Ask a container to end."""
        self._of(container_id).terminate(container_id)

    def signal(self, container_id: str, number: int) -> None:
        """Send a signal to a container."""
        self._of(container_id).signal(container_id, number)

    def kill(self, container_id: str) -> None:
        """Kill a container."""
        self._of(container_id).kill(container_id)

    async def execute(
        self, container_id: str, command: CommandInfo, *, timeout_seconds: float | None
    ) -> int:
        """Run a command inside; return its status."""
        return await self._of(container_id).execute(
            container_id, command, timeout_seconds=timeout_seconds
        )

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container."""
        await self._of(container_id).remove(container_id)

    def find(self, container_id: str) -> Found:
        """Return what is known of a container."""
        return self._of(container_id).find(container_id)

    def known(self) -> tuple[str, ...]:
        """Return every container of which anything is left."""
        docker = self.docker.known() if self.docker is not None else ()
        return tuple(sorted({*self.mesos.known(), *docker}))

    def network(self, container_id: str) -> Path | None:
        """Return the network namespace of a container."""
        return self._of(container_id).network(container_id)

    async def statistics(self, container_id: str) -> ResourceStatistics:
        """Return what a container uses and may use."""
        return await self._of(container_id).statistics(container_id)

    async def update(
        self, container_id: str, resources: Resources, limits: Mapping[str, Scalar]
    ) -> None:
        """Hold a running container to other amounts."""
        await self._of(container_id).update(container_id, resources, limits)
