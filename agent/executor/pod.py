"""One executor of type DEFAULT, carried out by the agent itself (reference mesos §2.4, §7.12).

A pod is a container without a command that holds the network, the names and the
cgroup; each task of a group is a container nested in it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from phalanx.agent.bundle.request import ContainerRequest, id_message
from phalanx.agent.executor.around import Around
from phalanx.agent.executor.ending import too_late
from phalanx.agent.executor.holding import held_limits, held_resources
from phalanx.agent.executor.pod_task import PodTask
from phalanx.agent.executor.record import ExecutorRecord, Home
from phalanx.agent.executor.request import executor_request
from phalanx.agent.task.ending import Ending
from phalanx.agent.task.record import Checkpoint, Kill, TaskRecord, grace_seconds
from phalanx.core.error import ContainerError, InvalidError
from phalanx.mesos.v1.mesos import (
    ContainerStatus,
    ExecutorInfo,
    FrameworkInfo,
    KillPolicy,
    NetworkInfo,
    TaskState,
)

log = structlog.get_logger()

CONTAGIOUS = frozenset({TaskState.TASK_FAILED, TaskState.TASK_KILLED})


class Pod:
    """A group of tasks, or several, that share a network, names and a cgroup."""

    def __init__(
        self,
        around: Around,
        record: ExecutorRecord,
        home: Home,
        sandbox: Path,
        start: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.record = record
        self.sandbox = sandbox
        self.tasks: dict[str, PodTask] = {}
        self.networks: tuple[NetworkInfo, ...] = ()
        self.pid: int | None = None
        self.is_over = False
        self.is_terminating = False
        self._around = around
        self.home = home
        self._start = start
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._present: set[str] = set()  # tasks of which anything is left in the kernel
        self._empty = asyncio.Event()
        self._holding = asyncio.Lock()
        self._log = log.bind(executor=record.executor_id, container=record.container_id)

    @property
    def info(self) -> ExecutorInfo:
        """Return what it is, with the framework that it belongs to."""
        return self.record.info

    @property
    def container_status(self) -> ContainerStatus:
        """Return where it is."""
        return ContainerStatus(
            container_id=id_message(self.record.container_id),
            network_infos=self.networks,
            executor_pid=self.pid,
        )

    @property
    def queued(self) -> frozenset[str]:
        """Return the tasks that wait for the pod to be there."""
        return frozenset() if self._ready.done() else frozenset(self.tasks)

    def add(self, record: TaskRecord, checkpoint: Checkpoint) -> PodTask:
        """Make a task of a group known; it is launched with its group."""
        name = record.task_id
        child = record.container_id.rpartition(".")[2]
        task = PodTask(
            self._around.station,
            record,
            checkpoint,
            self.sandbox / "containers" / child,
            executor=self.record.executor,
            pod_ready=self._wait_ready,
            beside=lambda one: [other.record.task for other in self._group_of(one)],
            ended=self._task_ended,
            removed=lambda: self._task_removed(name),
        )
        self.tasks[name] = task
        self._present.add(name)
        return task

    async def launch(self, names: Iterable[str]) -> None:
        """Launch the tasks of a group, which have been added, all at the same time."""
        tasks = [self.tasks[name] for name in names]
        if self.is_terminating:
            is_aware = self.record.has_capability("PARTITION_AWARE")
            for task in tasks:
                self._start(task.lose(too_late(is_partition_aware=is_aware)))
            return
        if self._ready.done():
            await self._hold()
        for task in tasks:
            self._start(task.launch())

    async def run(self) -> None:
        """Be with a new pod from the start of its container until its last task is gone."""
        containers = self._around.station.containerizer
        try:
            running = await containers.launch(self._request())
        except (ContainerError, InvalidError, OSError) as error:
            self._log.warning("launch_failed", error=str(error))
            self._ready.set_exception(ContainerError(str(error)))
            self._ready.exception()  # every task asks for it; there may be none yet
        else:
            self.networks, self.pid = running.networks, running.pid
            self.home.write_pid(running.pid)
            self._ready.set_result(None)
            self._log.info("pod_started", pid=running.pid)
        await self._live()

    async def resume(self, *, is_rebooted: bool) -> None:
        """Go on with a pod that an earlier agent left, however it is now."""
        containers = self._around.station.containerizer
        found = containers.find(self.record.container_id)
        self.networks = found.networks
        self.pid = found.init.pid if found.init else None
        if found.init is not None and found.exit is None and not is_rebooted:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(ContainerError("the pod has ended"))
            self._ready.exception()
            containers.kill(self.record.container_id)
        for task in tuple(self.tasks.values()):
            self._start(task.resume(is_rebooted=is_rebooted))
        self._log.info("pod_recovered", tasks=len(self.tasks))
        await self._live()

    async def kill_task(self, name: str, policy: KillPolicy | None) -> None:
        """Kill a task of it."""
        task = self.tasks.get(name)
        if task is not None:
            await task.kill(Kill(grace_seconds=grace_seconds(policy, task.record.task.kill_policy)))

    async def shut(self) -> None:
        """End every task within its grace and the executor's; take no more."""
        self.is_terminating = True
        most = self._around.timing.grace(self.record.executor)
        for task in tuple(self.tasks.values()):
            grace = min(grace_seconds(task.record.task.kill_policy), most)
            await task.kill(Kill(grace_seconds=grace))
        self._check_empty()

    def destroy(self) -> None:
        """Kill every container of it at once."""
        self.is_terminating = True
        self._around.station.containerizer.kill(self.record.container_id)

    def update_framework(self, info: FrameworkInfo) -> None:
        """Take what the framework is now."""
        self.record = msgspec.structs.replace(self.record, framework_info=info)
        self.home.write_framework(info)

    async def say(self, data: bytes) -> None:
        """Let a framework's message pass: nobody in a pod listens."""
        self._log.info("message_ignored", bytes=len(data))

    def done(self, name: str) -> None:
        """Let go of a task whose end has been acknowledged."""
        self.tasks.pop(name, None)
        if self.home.has_ended and not self.tasks:
            self._let_go()

    async def _live(self) -> None:
        """Wait until no task is left, then remove the pod."""
        watch = asyncio.ensure_future(self._watch())
        try:
            self._check_empty()
            await self._empty.wait()
        finally:
            watch.cancel()
        self.is_terminating = self.is_over = True
        self._log.info("pod_ended")
        await self._around.exited(self.record.key, 0)
        await self._around.remove(self.record.container_id)
        self.home.write_end()
        if not self.tasks:
            self._let_go()

    async def _watch(self) -> None:
        """End everything in the pod when the container that holds it ends first."""
        containers = self._around.station.containerizer
        try:
            await asyncio.shield(self._ready)
        except ContainerError:
            return
        exit = await containers.wait(self.record.container_id)
        self._log.warning("pod_lost", status=exit.status)
        self.destroy()

    async def _wait_ready(self) -> None:
        await asyncio.shield(self._ready)

    async def _task_ended(self, task: PodTask, end: Ending) -> None:
        """Kill the rest of a group that one task has failed, or was killed."""
        if end.state in CONTAGIOUS:
            for other in self._group_of(task):
                grace = grace_seconds(other.record.task.kill_policy)
                await other.kill(Kill(grace_seconds=grace))
        self._start(self._hold())

    def _group_of(self, task: PodTask) -> list[PodTask]:
        """Return the other tasks of a task's group that are not over."""
        others = (self.tasks.get(name) for name in task.record.group)
        return [each for each in others if each not in (None, task) and not each.is_over]

    def _task_removed(self, name: str) -> None:
        self._present.discard(name)
        self._check_empty()

    def _check_empty(self) -> None:
        if not self._present:
            self.is_terminating = True
            self._empty.set()

    async def _hold(self) -> None:
        """Hold the pod to what its tasks have now."""
        tasks = [task.record.task for task in self.tasks.values() if not task.is_over]
        if not tasks or not self._ready.done() or self._ready.exception() is not None:
            return
        executor = self.record.executor
        async with self._holding:
            try:
                await self._around.station.containerizer.update(
                    self.record.container_id,
                    held_resources(executor, tasks),
                    held_limits(executor, tasks),
                )
            except ContainerError as error:
                self._log.warning("update_failed", error=str(error))

    def _let_go(self) -> None:
        self.home.remove()
        self._around.gone(self.record.container_id)

    def _request(self) -> ContainerRequest:
        tasks = (task.record.task for task in self.tasks.values() if not task.is_over)
        return executor_request(self.record, tasks, self._around, self.sandbox, command=None)
