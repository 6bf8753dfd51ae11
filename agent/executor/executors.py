"""All executors of this agent, and what master and executors ask of them."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import structlog

from phalanx.agent.executor.around import Around
from phalanx.agent.executor.conversation import Parcel
from phalanx.agent.executor.custom import CustomExecutor
from phalanx.agent.executor.nested import Nested, Owner
from phalanx.agent.executor.pod import Pod
from phalanx.agent.executor.record import ExecutorRecord, Home, read_executors
from phalanx.agent.executor.task import ExecutorTask
from phalanx.agent.executor.timing import Timing
from phalanx.agent.layout import checked_id
from phalanx.agent.life import Life, remove_container
from phalanx.agent.station import Station
from phalanx.agent.task.log import recover
from phalanx.agent.task.record import Checkpoint, TaskRecord
from phalanx.agent.task.stream import Stream
from phalanx.core.error import InvalidError, UnavailableError
from phalanx.mesos.agent_protocol import (
    AgentCall,
    AgentMessage,
    ExecutorExited,
    KillTask,
    RunTask,
    RunTaskGroup,
    ShutdownExecutor,
    UpdateFramework,
)
from phalanx.mesos.v1.mesos import (
    AgentInfo,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    TaskInfo,
)

log = structlog.get_logger()

Executor = CustomExecutor | Pod
Key = tuple[str, str]  # framework id, task id
Tell = Callable[[AgentCall], Awaitable[None]]


class Executors:
    """The executors that we hold: running ones, and ended ones with tasks to be acknowledged.

    *lives* is where their tasks are put beside all others; *tell* sends a call
    to the master and raises UnavailableError when there is none.
    """

    def __init__(
        self,
        station: Station,
        group: asyncio.TaskGroup,
        lives: dict[Key, Life],
        *,
        timing: Timing,
        new_container_id: Callable[[], str],
        agent_info: Callable[[], AgentInfo],
        tell: Tell,
    ) -> None:
        self.runs: dict[str, Executor] = {}  # by container id
        self.station = station
        self._unsaid: list[AgentCall] = []
        self._group = group
        self.lives = lives
        self._new_container_id = new_container_id
        self._agent_info = agent_info
        self._tell = tell
        self.nested = Nested(
            station.containerizer,
            station.layout.called,
            station.layout.standalone,
            group,
            owner=self.owner,
            remove=partial(remove_container, station),
        )
        self._around = Around(
            station=station,
            timing=timing,
            agent_info=agent_info,
            exited=self._exited,
            gone=self._gone,
            remove=partial(remove_container, station),
        )

    @property
    def timing(self) -> Timing:
        """Return how long executors may take."""
        return self._around.timing

    def owner(self, container_id: str) -> Owner | None:
        """Return whose a root container is; None when it is nobody's, or not any more."""
        executor = self.runs.get(container_id)
        if executor is not None and not executor.is_over:
            info, framework = executor.record.executor, executor.record.framework_info
            own = info.command.user if info.command else None
            return Owner(executor.sandbox, own or framework.user or None, *executor.record.key)
        for life in self.lives.values():
            if life.record.container_id == container_id and not life.is_over:
                command, record = life.record.task.command, life.record
                own = command.user if command else None
                user = own or record.framework_info.user or None
                return Owner(life.sandbox, user, record.framework_id, record.task_id)
        return None

    def find(self, framework_id: str, executor_id: str) -> Executor | None:
        """Return an executor that runs, or is to run."""
        for executor in self.runs.values():
            if executor.record.key == (framework_id, executor_id) and not executor.is_over:
                return executor
        return None

    def has_framework(self, framework_id: str) -> bool:
        """Tell whether we hold anything of a framework."""
        return framework_id in self.frameworks() or any(
            key[0] == framework_id for key in self.lives
        )

    def infos(self) -> tuple[ExecutorInfo, ...]:
        """Return what the executors are that run."""
        return tuple(executor.info for executor in self.runs.values() if not executor.is_over)

    def frameworks(self) -> Mapping[str, FrameworkInfo]:
        """Return whose executors they are."""
        records = [executor.record for executor in self.runs.values()]
        return {record.framework_id: record.framework_info for record in records}

    def recover(self, agent_id: str, *, is_rebooted: bool) -> None:
        """Take up every executor that an earlier agent left, with its tasks.

        Those of frameworks that do not checkpoint end with the agent: they are
        forgotten, and their containers belong to nobody.
        """
        frameworks = self.station.layout.agents / agent_id / "frameworks"
        for directory in sorted(frameworks.glob("*/executors/*")):
            for record, home in read_executors(directory):
                if not record.framework_info.checkpoint:
                    home.remove()
                    continue
                executor = self._make(agent_id, record, home)
                for place in sorted((home.run / "tasks").glob("*")):
                    self._recover_task(executor, Checkpoint(place))
                if home.has_ended and not executor.tasks:
                    home.remove()
                    continue
                self.runs[record.container_id] = executor
                self._group.create_task(executor.resume(is_rebooted=is_rebooted))
        if self.runs:
            log.info("executors_recovered", executors=len(self.runs))

    def _recover_task(self, executor: Executor, checkpoint: Checkpoint) -> None:
        record = checkpoint.read_record()
        stream = recover(checkpoint.updates)
        if record is None or stream.is_done:
            checkpoint.remove()
            return
        self.station.sender.open(record.key, checkpoint.updates, stream)
        self._put(executor, record, checkpoint)

    async def run_task(self, agent_id: str, order: RunTask) -> None:
        """Launch a task for the executor that it names."""
        if order.task.executor is not None:
            tasks = (order.task,)
            await self._launch(agent_id, order.framework_info, order.task.executor, tasks)

    async def run_task_group(self, agent_id: str, order: RunTaskGroup) -> None:
        """Launch a group of tasks, all or none."""
        tasks = order.task_group.tasks
        await self._launch(agent_id, order.framework_info, order.executor, tasks, is_group=True)

    async def _launch(
        self,
        agent_id: str,
        framework: FrameworkInfo,
        info: ExecutorInfo,
        tasks: tuple[TaskInfo, ...],
        *,
        is_group: bool = False,
    ) -> None:
        framework_id = framework.id.value if framework.id else ""
        names = tuple(task.task_id.value for task in tasks)
        if any((framework_id, name) in self.lives for name in names):
            log.warning("task_known_already", tasks=names)
            return
        executor = self.find(framework_id, info.executor_id.value)
        is_new = executor is None
        if executor is None:
            try:
                executor = await self._new(agent_id, framework, info)
            except InvalidError as error:
                log.error("executor_refused", executor=info.executor_id.value, error=str(error))
                return
        for task in tasks:
            record = TaskRecord(
                framework_info=framework,
                task=task,
                container_id=self._container_id(executor),
                executor_id=info.executor_id.value,
                group=names if is_group else (),
            )
            checkpoint = Checkpoint(executor.home.run / "tasks" / checked_id(task.task_id.value))
            self._put(executor, record, checkpoint)
            await asyncio.to_thread(checkpoint.write_record, record)
            self.station.sender.open(record.key, checkpoint.updates, Stream())
        log.info("tasks_taken", tasks=names, executor=info.executor_id.value)
        if is_new:
            self._group.create_task(executor.run())
        if isinstance(executor, Pod):
            await executor.launch(names)
        else:
            await executor.launch(Parcel(tasks, is_group=is_group))

    async def kill_task(self, order: KillTask) -> bool:
        """Kill a task of an executor; tell whether there was one."""
        name = order.task_id.value
        for executor in self.runs.values():
            if executor.record.framework_id == order.framework_id.value and name in executor.tasks:
                await executor.kill_task(name, order.kill_policy)
                return True
        return False

    async def shutdown_executor(self, order: ShutdownExecutor) -> None:
        """Shut an executor down."""
        executor = self.find(order.framework_id.value, order.executor_id.value)
        if executor is None:
            log.warning("shutdown_ignored", executor=order.executor_id.value)
            return
        await executor.shut()

    async def shutdown_framework(self, framework_id: FrameworkID) -> None:
        """Shut every executor of a framework down."""
        for executor in tuple(self.runs.values()):
            if executor.record.framework_id == framework_id.value:
                await executor.shut()

    async def message(self, order: AgentMessage) -> None:
        """Pass a framework's message to its executor."""
        executor = self.find(order.framework_id.value, order.executor_id.value)
        if executor is not None:
            await executor.say(order.data)

    async def hear(self, framework_id: str, executor_id: str, data: bytes) -> None:
        """Pass an executor's message to its framework; nobody may be there to take it."""
        message = AgentMessage(
            framework_id=FrameworkID(value=framework_id),
            executor_id=ExecutorID(value=executor_id),
            data=data,
        )
        try:
            await self._tell(AgentCall(type="MESSAGE", message=message))
        except UnavailableError as error:
            log.info("message_not_sent", executor=executor_id, error=str(error))

    async def carry_out(self, deed: Coroutine[Any, Any, None]) -> None:
        """Do something to its end, even if whoever asked for it hangs up."""
        await asyncio.shield(self._group.create_task(deed))

    async def update_framework(self, order: UpdateFramework) -> None:
        """Take what a framework is now."""
        info = order.framework_info
        for executor in self.runs.values():
            if info.id is not None and executor.record.framework_id == info.id.value:
                executor.update_framework(info)
        for life in self.lives.values():
            if info.id is not None and life.record.framework_id == info.id.value:
                life.record = msgspec.structs.replace(life.record, framework_info=info)

    def destroy_all(self) -> None:
        """Kill every executor's container at once."""
        for executor in self.runs.values():
            executor.destroy()

    def done(self, key: Key) -> None:
        """Let go of a task whose end has been acknowledged."""
        for executor in tuple(self.runs.values()):
            if executor.record.framework_id == key[0] and key[1] in executor.tasks:
                executor.done(key[1])
                return

    async def _new(self, agent_id: str, framework: FrameworkInfo, info: ExecutorInfo) -> Executor:
        record = ExecutorRecord(
            framework_info=framework, executor=info, container_id=self._new_container_id()
        )
        home = Home(self.station.layout.executor(agent_id, record.key), record.container_id)
        executor = self._make(agent_id, record, home)
        self.runs[record.container_id] = executor
        await asyncio.to_thread(home.write, record)
        return executor

    def _make(self, agent_id: str, record: ExecutorRecord, home: Home) -> Executor:
        sandbox = self.station.layout.sandbox(agent_id, record.key, record.container_id)
        if record.is_native:
            return Pod(self._around, record, home, sandbox, self._group.create_task)
        return CustomExecutor(self._around, record, home, sandbox)

    def _container_id(self, executor: Executor) -> str:
        own = executor.record.container_id
        return f"{own}.{self._new_container_id()}" if isinstance(executor, Pod) else own

    def _put(self, executor: Executor, record: TaskRecord, checkpoint: Checkpoint) -> None:
        """Add a task to its executor and to all lives."""
        if isinstance(executor, Pod):
            self.lives[record.key] = executor.add(record, checkpoint)
            return
        task = ExecutorTask(
            self.station,
            record,
            checkpoint,
            executor.sandbox,
            where=lambda: executor.container_status,
            ask_kill=executor.ask_kill,
        )
        executor.tasks[record.task_id] = task
        self.lives[record.key] = task

    async def _exited(self, key: Key, status: int) -> None:
        exited = ExecutorExited(
            framework_id=FrameworkID(value=key[0]),
            executor_id=ExecutorID(value=key[1]),
            status=status,
        )
        await self._say(AgentCall(type="EXECUTOR_EXITED", executor_exited=exited))

    async def _say(self, call: AgentCall) -> None:
        try:
            await self._tell(call)
        except UnavailableError:  # the master may count on an executor that we told it of
            self._unsaid.append(call)

    def resume(self) -> None:
        """Tell a master that has just taken us in what the last one did not hear."""
        unsaid, self._unsaid = self._unsaid, []
        for call in unsaid:
            self._group.create_task(self._say(call))

    def _gone(self, container_id: str) -> None:
        executor = self.runs.pop(container_id, None)
        if executor is not None:
            now = self.station.clock()
            with suppress(OSError):  # whoever collects sandboxes counts from their end
                os.utime(executor.sandbox, (now, now))
