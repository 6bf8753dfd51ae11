"""One task, from its launch or its recovery until nothing is left of its container."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from phalanx.agent.bundle.environment import task_environment
from phalanx.agent.bundle.request import ContainerRequest, id_message
from phalanx.agent.health.target import Inside
from phalanx.agent.health.watch import Word, first_check_status, watch_task
from phalanx.agent.station import Station, hostname_of
from phalanx.agent.task.ending import (
    OUT_OF_TIME,
    Ending,
    ending,
    gone_with_agent,
    killed_during_launch,
    launch_failed,
    lost_in_restart,
    out_of_time,
)
from phalanx.agent.task.record import Checkpoint, Kill, TaskRecord, drain_seconds, grace_seconds
from phalanx.core.error import ContainerError, InvalidError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    TERMINAL,
    CheckStatusInfo,
    ContainerID,
    ContainerStatus,
    ExecutorID,
    NetworkInfo,
    TaskInfo,
    TaskResourceLimitation,
    TaskState,
    TaskStatus,
)

log = structlog.get_logger()

REMOVE_RETRY_SECONDS = (0.5, 60.0)  # first and longest wait


class Life(Protocol):
    """A task that the agent holds, whoever carries it out."""

    record: TaskRecord
    checkpoint: Checkpoint
    sandbox: Path
    statuses: list[TaskStatus]

    @property
    def is_over(self) -> bool:
        """Tell whether it has ended."""
        ...

    @property
    def state(self) -> TaskState:
        """Return the newest state."""
        ...

    @property
    def container_status(self) -> ContainerStatus:
        """Return where it is."""
        ...

    async def kill(self, kill: Kill) -> None:
        """Ask it to end."""
        ...


class TaskLife:
    """A task on this agent."""

    def __init__(
        self, station: Station, record: TaskRecord, checkpoint: Checkpoint, sandbox: Path
    ) -> None:
        self.record = record
        self.checkpoint = checkpoint
        self.sandbox = sandbox
        self.statuses: list[TaskStatus] = []
        self._is_over = False  # the command has ended, or never will run
        self._station = station
        self._id = record.container_id
        self._networks: tuple[NetworkInfo, ...] = ()
        self._kill: Kill | None = checkpoint.read_kill()
        self._drain_timer: asyncio.TimerHandle | None = None
        self._kill_timer: asyncio.TimerHandle | None = None
        self._pid: int | None = None
        self._data: bytes | None = None
        self._log = log.bind(task=record.task_id, container=self._id)

    @property
    def is_over(self) -> bool:
        """Tell whether it has ended, or never will run."""
        return self._is_over

    @property
    def state(self) -> TaskState:
        """Return the newest state."""
        return self.statuses[-1].state if self.statuses else TaskState.TASK_STAGING

    @property
    def executor_id(self) -> str:
        """Return the id of its executor: a command task is its own."""
        return self.record.task_id

    @property
    def container_status(self) -> ContainerStatus:
        """Return where the task is."""
        return ContainerStatus(
            container_id=id_message(self._id),
            network_infos=self._networks,
            executor_pid=self._pid,
        )

    async def launch(self) -> None:
        """Run a new task to its end."""
        try:
            await self._tell(TaskState.TASK_STARTING)
            await self._prepare()
            self._refuse_if_killed()
            running = await self._station.containerizer.launch(self._request())
            self._networks = running.networks
            self._data = running.data
            self._refuse_if_killed()
        except (ContainerError, InvalidError, OSError) as error:
            self._log.warning("launch_failed", error=str(error))
            await self._end(killed_during_launch() if self._kill else launch_failed(str(error)))
            return
        await self._live()

    async def resume(self, *, is_rebooted: bool) -> None:
        """Go on with a task that an earlier agent left, however it is now."""
        stream = self._station.sender.stream(self.record.key)
        self.statuses = [stream.latest] if stream.latest else []
        found = self._station.containerizer.find(self._id)
        self._networks = found.networks
        if stream.is_terminated:
            self._is_over = True
            await self._remove()
        elif is_rebooted:
            await self._end(lost_in_restart("The agent's machine was rebooted"))
        elif found.init is None and (found.exit is None or found.exit.error is None):
            with suppress(ContainerError):
                await self._station.containerizer.remove(self._id)
            await self._end(lost_in_restart("The agent restarted while the task was launched"))
        elif found.init is None and found.exit is not None:
            await self._end(launch_failed(str(found.exit.error)))
        else:
            self._log.info("task_recovered", state=self.state)
            await self._live()

    async def kill(self, kill: Kill) -> None:
        """Ask a task to end, and make it end after its grace; a shorter grace shortens."""
        if self.is_over:
            return
        if self._kill is None:
            self._kill = kill
            self.checkpoint.write_kill(kill)
            self._log.info("kill_asked", grace=kill.grace_seconds)
        if self._pid is not None:
            await self._carry_out(kill)
        else:
            self._station.containerizer.kill(self._id)

    async def _carry_out(self, kill: Kill) -> None:
        loop = asyncio.get_running_loop()
        pause = drain_seconds(self.record, kill, self._station.drain_seconds, beside=self._beside())
        when = loop.time() + pause + kill.grace_seconds
        is_first = self._kill_timer is None
        if self._kill_timer is not None:
            when = min(when, self._kill_timer.when())
            self._kill_timer.cancel()
        self._kill_timer = loop.call_at(when, self._station.containerizer.kill, self._id)
        if is_first:
            # Told first: whoever balances load stops sending while the command still listens,
            # and a command behind a VIP listens for as long as that may take.
            is_told = self.state == TaskState.TASK_KILLING
            if self.record.has_capability("TASK_KILLING_STATE") and not is_told:
                await self._tell(TaskState.TASK_KILLING, healthy=kill.healthy)
            if pause > 0:
                end = partial(self._station.containerizer.terminate, self._id)
                self._drain_timer = loop.call_later(pause, end)
            else:
                self._station.containerizer.terminate(self._id)

    def _beside(self) -> Iterable[TaskInfo]:
        """Return the tasks that run together with it."""
        return ()

    async def _prepare(self) -> None:
        """Wait for what the container needs beside itself; raise ContainerError."""

    async def _after(self, end: Ending) -> None:
        """Do what follows from the end that has just been told."""

    def _refuse_if_killed(self) -> None:
        if self._kill is not None:
            raise ContainerError("the task was killed")

    def _request(self) -> ContainerRequest:
        """Return the container that the task wants; raise ContainerError for what we can't do."""
        station, task = self._station, self.record.task
        if task.command is None:
            raise ContainerError("task.command: is missing")
        framework = self.record.framework_info
        return ContainerRequest(
            container_id=ContainerID(value=self._id),
            kind="task",
            sandbox=self.sandbox,
            command=task.command,
            container=task.container,
            resources=Resources.of(task.resources),
            limits=task.limits,
            user=task.command.user or framework.user or "root",
            environment=task_environment(task, framework, station.ip, station.port),
            framework_id=self.record.framework_id,
            executor_id=self.record.task_id,
            task_id=self.record.task_id,
            hostname=hostname_of(task, self._id),
        )

    async def _live(self) -> None:
        """Be with a container that has started until it has ended."""
        found = self._station.containerizer.find(self._id)
        self._pid = found.init.pid if found.init else None
        if self.state in (TaskState.TASK_STAGING, TaskState.TASK_STARTING):
            await self._tell(TaskState.TASK_RUNNING, data=self._data)
        if self._kill is not None:
            await self._carry_out(self._kill)
        async with asyncio.TaskGroup() as group:
            # From here on a clock that is set back or forth changes nothing.
            now = self._station.clock()
            age = max(now - found.started, 0.0) if found.started is not None else 0.0
            began = asyncio.get_running_loop().time() - age
            beside = [group.create_task(self._watch(began))]
            beside.append(group.create_task(self._expire(began)))
            exit = await self._station.containerizer.wait(self._id)
            for task in beside:
                task.cancel()
        for timer in (self._drain_timer, self._kill_timer):
            if timer is not None:
                timer.cancel()
        end = ending(exit, self._kill)
        is_gone = self._kill is not None and self._kill.is_gone
        if is_gone and self.record.has_capability("PARTITION_AWARE"):
            end = gone_with_agent(end)
        await self._end(end)

    async def refuse(self, end: Ending) -> None:
        """End a task that is not to be launched."""
        await self._end(end)

    async def _watch(self, began: float) -> None:
        """Check the task for as long as it runs."""
        network = self._station.containerizer.network(self._id)
        loop = asyncio.get_running_loop()
        await watch_task(
            self.record.task,
            Inside(self._station.containerizer, self._id, network),
            last=self.statuses[-1] if self.statuses else None,
            tell=self._tell_word,
            age_seconds=lambda: loop.time() - began,
        )

    async def _expire(self, began: float) -> None:
        """Kill the task when it has run for as long as it may."""
        longest = self.record.task.max_completion_time
        if longest is None:
            return
        end = began + longest.nanoseconds / 1e9
        await asyncio.sleep(max(end - asyncio.get_running_loop().time(), 0.0))
        await self.kill(out_of_time(grace_seconds(self.record.task.kill_policy)))

    async def _tell_word(self, word: Word) -> None:
        if self._kill is not None or self.is_over:
            return
        await self._tell(
            TaskState.TASK_RUNNING,
            message=word.message,
            reason=word.reason,
            healthy=word.healthy,
            check_status=word.check_status,
        )
        if word.kill:
            grace = grace_seconds(self.record.task.kill_policy)
            await self.kill(Kill(message=word.message, healthy=False, grace_seconds=grace))

    async def _end(self, end: Ending) -> None:
        self._is_over = True
        self._log.info("task_ended", state=end.state, message=end.message)
        await self._tell(
            end.state,
            message=end.message,
            reason=end.reason,
            healthy=end.healthy,
            limitation=TaskResourceLimitation(resources=end.resources) if end.resources else None,
        )
        await self._after(end)
        await self._remove()

    async def _remove(self) -> None:
        """Remove the container and detach its networks, for as long as it takes."""
        await remove_container(self._station, self._id)

    async def _tell(
        self,
        state: TaskState,
        *,
        message: str | None = None,
        reason: str | None = None,
        healthy: bool | None = None,
        check_status: CheckStatusInfo | None = None,
        limitation: TaskResourceLimitation | None = None,
        data: bytes | None = None,
    ) -> None:
        last = self.statuses[-1] if self.statuses else None
        if healthy is None and state not in TERMINAL and last is not None:
            healthy = last.healthy
        if check_status is None:
            known = last.check_status if last is not None else None
            check_status = known or first_check_status(self.record.task)
        is_own = reason in (None, OUT_OF_TIME) or str(reason).startswith("REASON_TASK_")
        status = TaskStatus(
            task_id=self.record.task.task_id,
            state=state,
            message=message,
            source="SOURCE_EXECUTOR" if is_own else "SOURCE_AGENT",
            reason=reason,
            agent_id=self.record.task.agent_id,
            executor_id=ExecutorID(value=self.executor_id),
            timestamp=self._station.clock(),
            uuid=self._station.new_uuid(),
            healthy=healthy,
            check_status=check_status,
            container_status=self.container_status,
            limitation=limitation,
            data=data,
        )
        self.statuses = [old for old in self.statuses if old.state != state] + [status]
        await self._station.sender.add(self.record.key, status)


async def remove_container(station: Station, container_id: str) -> None:
    """Remove a container, then its networks; try again until both are gone."""
    wait = REMOVE_RETRY_SECONDS[0]
    while True:
        try:
            await station.containerizer.remove(container_id)
        except (ContainerError, OSError) as error:
            log.warning("removal_failed", container=container_id, error=str(error))
        else:
            return
        await asyncio.sleep(wait)
        wait = min(wait * 2, REMOVE_RETRY_SECONDS[1])
