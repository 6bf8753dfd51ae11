"""One custom executor: its container, its connection, its tasks, from launch to last word."""

import asyncio
from pathlib import Path

import msgspec
import structlog

from phalanx.agent.bundle.request import ContainerRequest, id_message
from phalanx.agent.container.containerizer import Exit
from phalanx.agent.executor.around import Around
from phalanx.agent.executor.call import is_staging
from phalanx.agent.executor.conversation import (
    Conversation,
    Effect,
    End,
    Parcel,
    Phase,
    Send,
    acknowledged,
)
from phalanx.agent.executor.ending import (
    killed_before_launch,
    not_delivered,
    not_registered,
    not_returned,
    terminated,
    too_late,
)
from phalanx.agent.executor.holding import held_limits, held_resources
from phalanx.agent.executor.record import ExecutorRecord, Home
from phalanx.agent.executor.request import executor_request
from phalanx.agent.executor.task import ExecutorTask
from phalanx.agent.task.ending import Ending, launch_failed, lost_in_restart
from phalanx.agent.task.record import Kill
from phalanx.core.error import ContainerError, InvalidError
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.executor import Event, Subscribe, Subscribed, Update
from phalanx.mesos.v1.mesos import (
    TERMINAL,
    ContainerStatus,
    DurationInfo,
    ExecutorInfo,
    FrameworkInfo,
    KillPolicy,
    NetworkInfo,
)

log = structlog.get_logger()


class CustomExecutor:
    """An executor of a framework's own, that speaks the executor API to us."""

    def __init__(self, around: Around, record: ExecutorRecord, home: Home, sandbox: Path) -> None:
        self.record = record
        self.sandbox = sandbox
        self.tasks: dict[str, ExecutorTask] = {}
        self.networks: tuple[NetworkInfo, ...] = ()
        self.pid: int | None = None
        self._around = around
        self.home = home
        self._talk = Conversation()
        self._stream: Stream | None = None
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._why: Ending | None = None  # why we ended it, for the tasks that it leaves
        self._has_started = False
        self._log = log.bind(executor=record.executor_id, container=record.container_id)

    @property
    def info(self) -> ExecutorInfo:
        """Return what it is, with the framework that it belongs to."""
        return self.record.info

    @property
    def is_over(self) -> bool:
        """Tell whether its container is no more."""
        return self._talk.phase == Phase.TERMINATED

    @property
    def is_terminating(self) -> bool:
        """Tell whether it takes no more tasks."""
        return self._talk.phase in (Phase.TERMINATING, Phase.TERMINATED)

    @property
    def is_subscribed(self) -> bool:
        """Tell whether it has a connection."""
        return self._talk.is_connected

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
        """Return the tasks that it has not been given yet."""
        return frozenset().union(*(parcel.names for parcel in self._talk.queued))

    async def launch(self, parcel: Parcel) -> None:
        """Give it tasks; they are in `tasks` already."""
        async with self._lock:
            if self._has_started and not self.is_terminating:
                await self._hold()
            self._talk, effects = self._talk.launch(parcel)
            await self._do(effects)

    async def run(self) -> None:
        """Be with a new executor from the start of its container to its end."""
        around, container_id = self._around, self.record.container_id
        try:
            if self.is_terminating:
                raise ContainerError("the executor was shut down")
            running = await around.station.containerizer.launch(self._request())
        except (ContainerError, InvalidError, OSError) as error:
            self._log.warning("launch_failed", error=str(error))
            await self._finish(Exit(error=str(error)))
            return
        self.networks, self.pid = running.networks, running.pid
        self.home.write_pid(running.pid)
        self._log.info("executor_started", pid=running.pid)
        async with self._lock:
            self._has_started = True
            await self._hold()
        if self._talk.phase == Phase.REGISTERING:
            seconds = around.timing.registration
            self._arm(seconds, not_registered(seconds))
        elif self._talk.phase == Phase.TERMINATING:
            self._arm(around.timing.grace(self.record.executor), None)
        await self._finish(await around.station.containerizer.wait(container_id))

    async def resume(self, *, is_rebooted: bool) -> None:
        """Go on with an executor that an earlier agent left, however it is now."""
        around, container_id = self._around, self.record.container_id
        found = around.station.containerizer.find(container_id)
        for task in self.tasks.values():
            task.recover()
        alive = [task for task in self.tasks.values() if not task.is_over]
        silent = frozenset(task.record.task_id for task in alive if not task.statuses)
        held = frozenset(task.record.task_id for task in alive) - silent
        if self.home.has_subscribed:
            self._talk = Conversation(silent=silent, held=held, has_had_tasks=True)
        else:
            self._talk = Conversation(queued=self._undelivered(silent), held=held)
        self.networks = found.networks
        self.pid = found.init.pid if found.init else None
        if self.home.has_ended:
            await self._clear()
        elif is_rebooted:
            await self._finish(Exit(), lost_in_restart("The agent's machine was rebooted"))
        elif found.init is None and (found.exit is None or found.exit.error is None):
            words = "The agent restarted while the executor was launched"
            await self._finish(Exit(), lost_in_restart(words))
        else:
            await self._return()

    async def _return(self) -> None:
        """Wait for an executor that may still be there."""
        timing = self._around.timing
        self._has_started = True
        is_aware = self.record.has_capability("PARTITION_AWARE")
        if self.home.has_subscribed:
            seconds = timing.reregistration
            self._arm(seconds, not_returned(seconds, is_partition_aware=is_aware))
        else:
            self._arm(timing.registration, not_registered(timing.registration))
        self._log.info("executor_recovered", tasks=len(self.tasks))
        await self._finish(await self._around.station.containerizer.wait(self.record.container_id))

    def _undelivered(self, silent: frozenset[str]) -> tuple[Parcel, ...]:
        """Return what an executor that never spoke to us is still to be given."""
        groups: dict[tuple[str, ...], list[ExecutorTask]] = {}
        for name in sorted(silent):
            record = self.tasks[name].record
            groups.setdefault(record.group or (name,), []).append(self.tasks[name])
        return tuple(
            Parcel(tuple(task.record.task for task in tasks), is_group=bool(tasks[0].record.group))
            for tasks in groups.values()
        )

    async def subscribe(self, stream: Stream, call: Subscribe) -> None:
        """Take a connection of the executor; an earlier one ends."""
        async with self._lock:
            if stream.is_closed:
                return  # it is gone already
            if self._stream is not None:
                self._stream.close()
            self._stream = stream
            if self._talk.phase == Phase.REGISTERING:
                self._disarm()
                self.home.write_marker()
            updates = call.unacknowledged_updates
            names = [task.task_id.value for task in call.unacknowledged_tasks]
            names += [update.status.task_id.value for update in updates]
            self._log.info("executor_subscribed", again=self._talk.phase != Phase.REGISTERING)
            self._talk, effects = self._talk.subscribe(self._subscribed(), names)
            await self._do(effects)
            for update in updates:
                await self._take(update)

    def lose(self, stream: Stream) -> None:
        """Take that a connection has ended."""
        if stream is self._stream:
            self._stream = None
            self._talk = self._talk.lose()
            self._log.info("executor_disconnected")

    async def update(self, update: Update) -> None:
        """Take an update; it is safe, and acknowledged, when this returns."""
        async with self._lock:
            await self._take(update)

    async def kill_task(self, name: str, policy: KillPolicy | None) -> None:
        """Ask it to kill a task."""
        async with self._lock:
            self._talk, effects = self._talk.kill(name, policy)
            await self._do(effects)

    async def ask_kill(self, name: str, kill: Kill) -> None:
        """Ask it to kill a task within a grace of ours."""
        nanoseconds = int(kill.grace_seconds * 1e9)
        await self.kill_task(name, KillPolicy(grace_period=DurationInfo(nanoseconds=nanoseconds)))

    async def say(self, data: bytes) -> None:
        """Pass a framework's message on; an executor that isn't there does not hear it."""
        await self._do(self._talk.say(data))

    async def shut(self) -> None:
        """Tell it to end; its container is destroyed after its grace."""
        async with self._lock:
            self._talk, effects = self._talk.shut()
            await self._do(effects)

    def destroy(self) -> None:
        """Destroy its container at once."""
        self._talk = self._talk.shut()[0]
        self._around.station.containerizer.kill(self.record.container_id)

    def update_framework(self, info: FrameworkInfo) -> None:
        """Take what the framework is now."""
        self.record = msgspec.structs.replace(self.record, framework_info=info)
        self.home.write_framework(info)

    def done(self, name: str) -> None:
        """Let go of a task whose end has been acknowledged."""
        self.tasks.pop(name, None)
        if self.home.has_ended and not self.tasks:
            self._let_go()

    async def _take(self, update: Update) -> None:
        status = update.status
        name, uuid = status.task_id.value, status.uuid
        if is_staging(update):
            self._log.warning("update_refused", task=name, state=status.state)
            self._talk, effects = self._talk.shut()
            await self._do(effects)
            return
        task = self.tasks.get(name)
        if task is None:
            self._log.warning("update_ignored", task=name, state=status.state)
        else:
            is_end = status.state in TERMINAL and not task.is_over
            await task.take(status)
            self._talk = self._talk.update(name, is_terminal=task.is_over)
            if is_end and self._has_started and not self.is_over:
                await self._hold()
        if uuid is not None and self._stream is not None:
            self._stream.send(acknowledged(name, uuid))

    async def _do(self, effects: tuple[Effect, ...]) -> None:
        is_aware = self.record.has_capability("PARTITION_AWARE")
        for effect in effects:
            if isinstance(effect, Send):
                if self._stream is not None:
                    self._stream.send(effect.event)
            elif isinstance(effect, End):
                if effect.is_kill:
                    end = killed_before_launch()
                elif self.is_terminating:
                    end = too_late(is_partition_aware=is_aware)
                else:
                    end = not_delivered(is_partition_aware=is_aware)
                await self._tell(effect.names, end)
            elif self._has_started:
                self._arm(self._around.timing.grace(self.record.executor), None)

    async def _tell(self, names: frozenset[str], end: Ending) -> None:
        for name in sorted(names & self.tasks.keys()):
            await self.tasks[name].tell(end)
        self._talk = self._talk.forget(names)

    def _arm(self, seconds: float, why: Ending | None) -> None:
        """Destroy the container in a while, unless what is waited for comes first."""
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, why)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, why: Ending | None) -> None:
        self._log.warning("executor_destroyed", why=why.reason if why else "its grace is over")
        self._why = why
        self.destroy()

    async def _hold(self) -> None:
        """Hold the container to what its tasks have now."""
        tasks = [task.record.task for task in self.tasks.values() if not task.is_over]
        executor = self.record.executor
        try:
            await self._around.station.containerizer.update(
                self.record.container_id,
                held_resources(executor, tasks),
                held_limits(executor, tasks),
            )
        except ContainerError as error:
            self._log.warning("update_failed", error=str(error))

    async def _finish(self, exit: Exit, why: Ending | None = None) -> None:
        """Tell of every task that the executor has left, then of the executor itself."""
        self._disarm()
        async with self._lock:
            self._talk = self._talk.end()
            if self._stream is not None:
                self._stream.close()
                self._stream = None
            if exit.error is not None:
                end = launch_failed(exit.error)
            else:
                end = why or self._why or terminated(exit)
            for task in tuple(self.tasks.values()):
                await task.tell(end)
        self._log.info("executor_ended", status=exit.status, error=exit.error)
        await asyncio.sleep(0)  # what was told of the tasks goes first
        await self._around.exited(self.record.key, exit.status or 0)
        await self._clear()

    async def _clear(self) -> None:
        """Remove the container, for as long as it takes."""
        self._talk = self._talk.end()
        await self._around.remove(self.record.container_id)
        self.home.write_end()
        if not self.tasks:
            self._let_go()

    def _let_go(self) -> None:
        self.home.remove()
        self._around.gone(self.record.container_id)

    def _request(self) -> ContainerRequest:
        tasks = (task.record.task for task in self.tasks.values() if not task.is_over)
        return executor_request(
            self.record, tasks, self._around, self.sandbox, command=self.record.executor.command
        )

    def _subscribed(self) -> Event:
        subscribed = Subscribed(
            executor_info=self.info,
            framework_info=self.record.framework_info,
            agent_info=self._around.agent_info(),
            container_id=id_message(self.record.container_id),
        )
        return Event(type="SUBSCRIBED", subscribed=subscribed)
