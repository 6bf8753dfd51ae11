"""All tasks of this agent, and what the master tells us to do with them."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Set

import structlog

from phalanx.agent.drain import drain_kill
from phalanx.agent.executor.executors import Executors
from phalanx.agent.gc import Collector
from phalanx.agent.life import Life, TaskLife, remove_container
from phalanx.agent.station import Station
from phalanx.agent.task.ending import refused_by_drain
from phalanx.agent.task.log import recover
from phalanx.agent.task.record import Checkpoint, Kill, TaskRecord, grace_seconds
from phalanx.agent.task.stream import Stream, latest_state
from phalanx.core.error import InvalidError
from phalanx.mesos.agent_protocol import AcknowledgeUpdate, KillTask, RunTask
from phalanx.mesos.v1.mesos import (
    DrainConfig,
    ExecutorID,
    FrameworkID,
    FrameworkInfo,
    Task,
    TaskInfo,
    TaskState,
)

log = structlog.get_logger()

Key = tuple[str, str]  # framework id, task id

MOST_COMPLETED = 150  # of each framework
MOST_FRAMEWORKS = 50


class Roster:
    """The tasks that we hold: running ones, and ended ones whose end is not acknowledged."""

    def __init__(
        self,
        station: Station,
        group: asyncio.TaskGroup,
        new_container_id: Callable[[], str],
        executors: Executors,
        *,
        most_completed: int = MOST_COMPLETED,
    ) -> None:
        self.lives: dict[Key, Life] = executors.lives
        self.executors = executors
        self.completed: deque[tuple[Life, Task]] = deque()
        self.collector: Collector | None = None
        self.counts: Counter[TaskState] = Counter()  # of ended tasks, by how they ended
        self.updates = 0  # of ended tasks
        self.launch_errors = 0
        self._most_completed = most_completed
        self._station = station
        self._group = group
        self._new_container_id = new_container_id

    def recover(self, agent_id: str, *, is_rebooted: bool) -> None:
        """Take up every task that an earlier agent left, those of executors too.

        What belongs to frameworks that do not checkpoint is forgotten: the master
        has told of its end, or does so when we don't list it (reference mesos §4.3).
        """
        station = self._station
        self.executors.recover(agent_id, is_rebooted=is_rebooted)
        frameworks = station.layout.agents / agent_id / "frameworks"
        for directory in sorted(frameworks.glob("*/executors/*/runs/*/tasks/*")):
            checkpoint = Checkpoint(directory)
            record = checkpoint.read_record()
            if record is not None and record.executor_id is not None:
                continue
            stream = recover(checkpoint.updates)
            if record is None or stream.is_done or not record.framework_info.checkpoint:
                checkpoint.remove()
                continue
            sandbox = station.layout.sandbox(agent_id, record.key, record.container_id)
            life = TaskLife(station, record, checkpoint, sandbox)
            self.lives[record.key] = life
            station.sender.open(record.key, checkpoint.updates, stream)
            self._group.create_task(life.resume(is_rebooted=is_rebooted))
        log.info("recovered", tasks=len(self.lives))

    def remove_orphans(self) -> None:
        """Remove containers that belong to no task."""
        ours = {life.record.container_id for life in self.lives.values()} | {*self.executors.runs}
        self.executors.nested.recover()
        ours |= self.executors.nested.roots()
        for container_id in self._station.containerizer.known():
            if container_id.partition(".")[0] in ours:
                continue
            log.info("orphan_found", container=container_id)
            self._group.create_task(remove_container(self._station, container_id))

    async def run_task(self, agent_id: str, order: RunTask) -> None:
        """Launch a task, unless we have it already."""
        if order.task.executor is not None:
            await self.executors.run_task(agent_id, order)
            return
        life = await self._take(agent_id, order.framework_info, order.task)
        if life is not None:
            log.info("task_taken", task=life.record.task_id, container=life.record.container_id)
            self._group.create_task(life.launch())

    async def refuse(self, agent_id: str, framework: FrameworkInfo, task: TaskInfo) -> None:
        """Tell that a task is not launched since the agent drains."""
        life = await self._take(agent_id, framework, task)
        if life is not None:
            is_aware = life.record.has_capability("PARTITION_AWARE")
            await life.refuse(refused_by_drain(is_partition_aware=is_aware))

    async def _take(
        self, agent_id: str, framework: FrameworkInfo, task: TaskInfo
    ) -> TaskLife | None:
        """Put a task on disk and on the roster; None if it is there, or can't have a place."""
        record = TaskRecord(
            framework_info=framework, task=task, container_id=self._new_container_id()
        )
        if record.key in self.lives:
            log.warning("task_known_already", task=record.task_id)
            return None
        layout = self._station.layout
        try:
            place = layout.checkpoint(agent_id, record.key, record.container_id)
            sandbox = layout.sandbox(agent_id, record.key, record.container_id)
        except InvalidError as error:
            log.error("task_refused", task=record.task_id, error=str(error))
            return None
        checkpoint = Checkpoint(place)
        life = TaskLife(self._station, record, checkpoint, sandbox)
        self.lives[record.key] = life
        await asyncio.to_thread(checkpoint.write_record, record)
        self._station.sender.open(record.key, checkpoint.updates, Stream())
        return life

    async def drain(self, config: DrainConfig) -> None:
        """Kill every task, no slower than it would be."""
        for life in tuple(self.lives.values()):
            if not life.is_over:
                await life.kill(drain_kill(config, grace_seconds(life.record.task.kill_policy)))

    async def kill_task(self, order: KillTask) -> None:
        """Kill a task; one that we don't have is none of ours to tell about."""
        if await self.executors.kill_task(order):
            return
        life = self.lives.get((order.framework_id.value, order.task_id.value))
        if life is None:
            log.warning("kill_ignored", task=order.task_id.value)
            return
        grace = grace_seconds(order.kill_policy, life.record.task.kill_policy)
        await life.kill(Kill(grace_seconds=grace))

    async def acknowledge(self, order: AcknowledgeUpdate) -> None:
        """Take an acknowledgement."""
        key = (order.framework_id.value, order.task_id.value)
        await self._station.sender.acknowledge(key, order.uuid)

    async def shutdown_framework(self, framework_id: FrameworkID) -> None:
        """Kill every task of a framework, and shut its executors down."""
        await self.executors.shutdown_framework(framework_id)
        for key, life in tuple(self.lives.items()):
            if key[0] == framework_id.value and life.record.executor_id is None:
                await life.kill(Kill(grace_seconds=grace_seconds(life.record.task.kill_policy)))

    async def kill_all(self) -> None:
        """Kill every container at once and wait until all are removed."""
        self.executors.destroy_all()
        for life in tuple(self.lives.values()):
            await life.kill(Kill(message="Agent shut down", grace_seconds=0.0))
        for container_id in self._station.containerizer.known():
            await remove_container(self._station, container_id)

    def done(self, key: Key) -> None:
        """Let go of a task whose end has been acknowledged."""
        life = self.lives.pop(key, None)
        if life is not None:
            task = self.task_of(life)
            self.counts[task.state] += 1
            self.updates += len(task.statuses)
            last = task.statuses[-1].reason if task.statuses else None
            self.launch_errors += last == "REASON_CONTAINER_LAUNCH_FAILED"
            self._remember(life, task)
            if self.collector is not None:
                self.collector.ended(life.sandbox)
            life.checkpoint.remove()
            self.executors.done(key)

    def _remember(self, life: Life, task: Task) -> None:
        """Keep a completed task, and forget the oldest of a framework that has too many."""
        self.completed.append((life, task))
        own = [
            item
            for item in self.completed
            if item[0].record.framework_id == life.record.framework_id
        ]
        if len(own) > self._most_completed:
            self.completed.remove(own[0])
        frameworks = dict.fromkeys(past.record.framework_id for past, _ in self.completed)
        if len(frameworks) > MOST_FRAMEWORKS:
            oldest = next(iter(frameworks))
            kept = [item for item in self.completed if item[0].record.framework_id != oldest]
            self.completed = deque(kept)

    def container_ids(self) -> Set[str]:
        """Return the containers whose sandboxes are needed."""
        held = {life.record.container_id.partition(".")[0] for life in self.lives.values()}
        return held | {*self.executors.runs}

    def task_of(self, life: Life) -> Task:
        """Return a task as the master and the API know it."""
        task = life.record.task
        stream = self._station.sender.stream(life.record.key)
        forwarded = stream.forwarded
        executor_id = life.record.executor_id
        return Task(
            name=task.name,
            task_id=task.task_id,
            executor_id=ExecutorID(value=executor_id) if executor_id is not None else None,
            framework_id=FrameworkID(value=life.record.framework_id),
            agent_id=task.agent_id,
            state=latest_state(stream) if stream.latest else life.state,
            resources=task.resources,
            statuses=tuple(life.statuses),
            status_update_state=forwarded.state if forwarded else None,
            status_update_uuid=forwarded.uuid if forwarded else None,
            labels=task.labels,
            discovery=task.discovery,
            container=task.container,
            health_check=task.health_check,
            kill_policy=task.kill_policy,
            user=task.command.user if task.command else None,
            limits=task.limits,
        )

    def tasks(self) -> tuple[Task, ...]:
        """Return every task that we hold."""
        return tuple(map(self.task_of, self.lives.values()))

    def frameworks(self) -> tuple[FrameworkInfo, ...]:
        """Return whose tasks they are."""
        found = {life.record.framework_id: life.record.framework_info for life in self._all()}
        return tuple({**self.executors.frameworks(), **found}.values())

    def _all(self) -> Iterator[Life]:
        return iter(self.lives.values())
