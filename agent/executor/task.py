"""One task of a custom executor: what is said of it, by the executor or by us for it."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from phalanx.agent.station import Station
from phalanx.agent.task.ending import Ending
from phalanx.agent.task.log import records
from phalanx.agent.task.record import Checkpoint, Kill, TaskRecord
from phalanx.mesos.v1.mesos import (
    TERMINAL,
    ContainerStatus,
    ExecutorID,
    TaskState,
    TaskStatus,
)


class ExecutorTask:
    """A task that an executor carries out; *where* says in which container."""

    def __init__(
        self,
        station: Station,
        record: TaskRecord,
        checkpoint: Checkpoint,
        sandbox: Path,
        *,
        where: Callable[[], ContainerStatus],
        ask_kill: Callable[[str, Kill], Awaitable[None]],
    ) -> None:
        self.record = record
        self.checkpoint = checkpoint
        self.sandbox = sandbox
        self.statuses: list[TaskStatus] = []
        self._station = station
        self._where = where
        self._ask_kill = ask_kill
        self._seen: set[bytes] = set()

    @property
    def state(self) -> TaskState:
        """Return the newest state."""
        return self.statuses[-1].state if self.statuses else TaskState.TASK_STAGING

    @property
    def is_over(self) -> bool:
        """Tell whether its last state has been told."""
        return self.state in TERMINAL

    @property
    def container_status(self) -> ContainerStatus:
        """Return where the task is."""
        return self._where()

    def recover(self) -> None:
        """Take up what an earlier agent was told of it."""
        raw = self.checkpoint.updates.read_bytes() if self.checkpoint.updates.exists() else b""
        for _, record in records(raw):
            if record.update is not None:
                self._note(record.update)

    async def kill(self, kill: Kill) -> None:
        """Ask the executor to kill it."""
        await self._ask_kill(self.record.task_id, kill)

    async def take(self, status: TaskStatus) -> None:
        """Take the executor's word; it is on disk when this returns. What was heard is ignored."""
        if self.is_over or (status.uuid is not None and status.uuid in self._seen):
            return
        given = status.timestamp
        whole = msgspec.structs.replace(
            status,
            source="SOURCE_EXECUTOR",
            agent_id=self.record.task.agent_id,
            executor_id=ExecutorID(value=self.record.executor_id or ""),
            timestamp=self._station.clock() if given is None else given,
            container_status=self._where_of(status),
        )
        await self._add(whole)

    async def tell(self, end: Ending) -> None:
        """Say ourselves how it ended, unless the executor did."""
        if self.is_over:
            return
        await self._add(
            TaskStatus(
                task_id=self.record.task.task_id,
                state=end.state,
                message=end.message,
                source="SOURCE_AGENT",
                reason=end.reason,
                agent_id=self.record.task.agent_id,
                executor_id=ExecutorID(value=self.record.executor_id or ""),
                timestamp=self._station.clock(),
                uuid=self._station.new_uuid(),
                healthy=end.healthy,
                container_status=self._where(),
            )
        )

    async def _add(self, status: TaskStatus) -> None:
        self._note(status)
        await self._station.sender.add(self.record.key, status)

    def _note(self, status: TaskStatus) -> None:
        self.statuses = [old for old in self.statuses if old.state != status.state] + [status]
        if status.uuid is not None:
            self._seen.add(status.uuid)

    def _where_of(self, status: TaskStatus) -> ContainerStatus:
        """Return where the task is; what the executor says of it goes before what we know."""
        ours, said = self._where(), status.container_status
        if said is None:
            return ours
        return ContainerStatus(
            container_id=said.container_id or ours.container_id,
            network_infos=said.network_infos or ours.network_infos,
            cgroup_info=said.cgroup_info or ours.cgroup_info,
            executor_pid=said.executor_pid or ours.executor_pid,
        )
