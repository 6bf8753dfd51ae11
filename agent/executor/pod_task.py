"""One task of a group: a life as any, in a container nested in its pod's."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

from phalanx.agent.bundle.request import ContainerRequest, id_message
from phalanx.agent.executor.environment import group_task_environment
from phalanx.agent.life import TaskLife
from phalanx.agent.station import Station
from phalanx.agent.task.ending import Ending
from phalanx.agent.task.record import Checkpoint, TaskRecord
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import ExecutorInfo, TaskInfo

Ended = Callable[["PodTask", Ending], Awaitable[None]]


class PodTask(TaskLife):
    """A task of a group; *pod_ready* waits for the container that it is nested in.

    *beside* returns the other tasks of its group that are not over. *ended* is
    called with how it ended, once that has been told and before its container
    is removed, *removed* when that is gone too.
    """

    def __init__(
        self,
        station: Station,
        record: TaskRecord,
        checkpoint: Checkpoint,
        sandbox: Path,
        *,
        executor: ExecutorInfo,
        pod_ready: Callable[[], Awaitable[None]],
        beside: Callable[["PodTask"], Iterable[TaskInfo]],
        ended: Ended,
        removed: Callable[[], None],
    ) -> None:
        super().__init__(station, record, checkpoint, sandbox)
        self._executor = executor
        self._pod_ready = pod_ready
        self._others = beside
        self._ended = ended
        self._removed = removed

    @property
    def executor_id(self) -> str:
        """Return the id of the executor that it belongs to."""
        return self._executor.executor_id.value

    async def lose(self, end: Ending) -> None:
        """Tell that it is lost with its pod."""
        if not self.is_over:
            await self._end(end)

    def _beside(self) -> Iterable[TaskInfo]:
        return self._others(self)

    async def _prepare(self) -> None:
        """Wait for the pod, and make the task's sandbox known by the task's name."""
        await self._pod_ready()
        tasks = self.sandbox.parent.parent / "tasks"
        tasks.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            (tasks / self.record.task_id).symlink_to(Path("..", "containers", self.sandbox.name))

    async def _after(self, end: Ending) -> None:
        await self._ended(self, end)

    async def _remove(self) -> None:
        await super()._remove()
        self._removed()

    def _request(self) -> ContainerRequest:
        task, framework = self.record.task, self.record.framework_info
        if task.command is None:
            raise ContainerError("task.command: is missing")
        of_executor = self._executor.command.user if self._executor.command else None
        linux = task.container.linux_info if task.container else None
        return ContainerRequest(
            container_id=id_message(self.record.container_id),
            kind="nested",
            sandbox=self.sandbox,
            command=task.command,
            container=task.container,
            resources=Resources.of(task.resources),
            limits=task.limits,
            user=task.command.user or of_executor or framework.user or "root",
            environment=group_task_environment(task, framework),
            framework_id=self.record.framework_id,
            executor_id=self.executor_id,
            task_id=self.record.task_id,
            has_own_cgroup=linux is not None and not linux.share_cgroups,
            parent_volumes=Resources.of(self._executor.resources).volumes,
        )
