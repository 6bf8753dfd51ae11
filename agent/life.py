"""One task, from its launch or its recovery until nothing is left of its container."""

import asyncio
import os
import pwd
from contextlib import suppress
from pathlib import Path

import structlog

from phalanx.agent.cni.attach import named
from phalanx.agent.container.environment import Surroundings, task_environment
from phalanx.agent.container.mount import host_mounts
from phalanx.agent.container.spec import (
    IMAGE_SANDBOX,
    ImageRoot,
    Place,
    User,
    asked_image,
    check_task,
    oci_config,
)
from phalanx.agent.health.probe import kind_of, probe_http, probe_tcp
from phalanx.agent.health.verdict import Health, Verdict
from phalanx.agent.health.watch import watch_health
from phalanx.agent.image.store import Image
from phalanx.agent.station import Station, hostname_of
from phalanx.agent.task.ending import (
    Ending,
    ending,
    killed_during_launch,
    launch_failed,
    lost_in_restart,
)
from phalanx.agent.task.record import Checkpoint, Kill, TaskRecord, grace_seconds
from phalanx.core.error import ContainerError, InvalidError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    TERMINAL,
    ContainerID,
    ContainerStatus,
    ExecutorID,
    HealthCheck,
    HealthCheckType,
    NetworkInfo,
    TaskState,
    TaskStatus,
)

log = structlog.get_logger()

REMOVE_RETRY_SECONDS = (0.5, 60.0)  # first and longest wait


class TaskLife:
    """A task on this agent."""

    def __init__(
        self, station: Station, record: TaskRecord, checkpoint: Checkpoint, sandbox: Path
    ) -> None:
        self.record = record
        self.checkpoint = checkpoint
        self.sandbox = sandbox
        self.statuses: list[TaskStatus] = []
        self.is_over = False  # the command has ended, or never will run
        self._station = station
        self._id = record.container_id
        self._networks: tuple[NetworkInfo, ...] = checkpoint.read_networks()
        self._kill: Kill | None = checkpoint.read_kill()
        self._kill_timer: asyncio.TimerHandle | None = None
        self._pid: int | None = None
        self._log = log.bind(task=record.task_id, container=self._id)

    @property
    def state(self) -> TaskState:
        """Return the newest state."""
        return self.statuses[-1].state if self.statuses else TaskState.TASK_STAGING

    @property
    def container_status(self) -> ContainerStatus:
        """Return where the task is."""
        return ContainerStatus(
            container_id=ContainerID(value=self._id),
            network_infos=self._networks,
            executor_pid=self._pid,
        )

    async def launch(self) -> None:
        """Run a new task to its end."""
        try:
            await self._tell(TaskState.TASK_STARTING)
            image = await self._image()
            async with self._station.launches:
                await self._start(image)
        except (ContainerError, InvalidError, OSError) as error:
            self._log.warning("launch_failed", error=str(error))
            await self._end(killed_during_launch() if self._kill else launch_failed(str(error)))
            return
        await self._live()

    async def resume(self, *, is_rebooted: bool) -> None:
        """Go on with a task that an earlier agent left, however it is now."""
        stream = self._station.sender.stream(self.record.key)
        self.statuses = [stream.latest] if stream.latest else []
        found = self._station.containers.find(self._id)
        if stream.is_terminated:
            self.is_over = True
            await self._remove()
        elif is_rebooted:
            await self._end(lost_in_restart("The agent's machine was rebooted"))
        elif found.init is None and (found.exit is None or found.exit.error is None):
            with suppress(ContainerError):
                await self._station.containers.remove(self._id)
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

    async def _carry_out(self, kill: Kill) -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + kill.grace_seconds
        is_first = self._kill_timer is None
        if self._kill_timer is not None:
            when = min(when, self._kill_timer.when())
            self._kill_timer.cancel()
        self._kill_timer = loop.call_at(when, self._station.containers.kill, self._id)
        if is_first:
            # Told first: whoever balances load stops sending while the command still listens.
            is_told = self.state == TaskState.TASK_KILLING
            if self.record.has_capability("TASK_KILLING_STATE") and not is_told:
                await self._tell(TaskState.TASK_KILLING, healthy=kill.healthy)
            self._station.containers.terminate(self._id)

    async def _start(self, image: Image | None) -> None:
        """Make everything that the container needs, then the container."""
        station, task = self._station, self.record.task
        check_task(task)
        asked = named(task.container.network_infos if task.container else ())
        user = self._user()
        self.sandbox.mkdir(parents=True, exist_ok=True)
        os.chown(self.sandbox, user.uid, user.gid)
        home = station.layout.networks / self._id if asked else None
        hostname = hostname_of(task, self._id)
        if asked:
            self._refuse_if_killed()
            self._networks = await station.networks.attach(self._id, asked, hostname)
        else:
            self._networks = (station.own_network(),)
        self.checkpoint.write_networks(self._networks)
        self._refuse_if_killed()
        addresses = self._networks[0].ip_addresses
        around = Surroundings(
            agent_ip=station.ip,
            agent_port=station.port,
            sandbox=IMAGE_SANDBOX if image else str(self.sandbox),
            directory=str(self.sandbox),
            container_ip=(addresses[0].ip_address or "") if addresses else "",
            has_own_network=bool(asked),
        )
        place = Place(
            sandbox=str(self.sandbox),
            cgroup=station.containers.cgroups.path_of(self._id),
            hostname=hostname if asked else None,
            network=str(station.networks.namespace(self._id)) if asked else None,
            files=station.files(home),
            host_mounts=host_mounts(Path("/proc/self/mountinfo").read_text()),
            image=self._root(image) if image else None,
        )
        preset = dict(image.config.environment) if image else {}
        environment = task_environment(task, self.record.framework_info, around, preset)
        config = oci_config(task, place, environment, user=user, has_quota=station.has_quota)
        try:
            await station.containers.launch(
                self._id, config, self.sandbox, has_image=image is not None
            )
        except ContainerError as error:
            if image is None:
                raise
            raise ContainerError(f"image {image.name!r}: {error}") from error

    async def _image(self) -> Image | None:
        """Return the image that the task asks for, ready."""
        check_task(self.record.task)
        name = asked_image(self.record.task)
        return await self._station.images.provision(name) if name is not None else None

    def _root(self, image: Image) -> ImageRoot:
        upper, work = self._station.layout.image_layers(self._id)
        lower = str(image.rootfs)
        return ImageRoot(lower, str(upper), str(work), image.config, image.has_shell)

    def _refuse_if_killed(self) -> None:
        if self._kill is not None:
            raise ContainerError("the task was killed")

    def _user(self) -> User:
        command = self.record.task.command
        name = (command.user if command else None) or self.record.framework_info.user or "root"
        try:
            found = pwd.getpwnam(name)
        except KeyError as error:
            raise ContainerError(f"user: {name!r}: is not known on this machine") from error
        groups = tuple(os.getgrouplist(name, found.pw_gid))
        return User(found.pw_uid, found.pw_gid, groups)

    async def _live(self) -> None:
        """Be with a container that has started until it has ended."""
        found = self._station.containers.find(self._id)
        self._pid = found.init.pid if found.init else None
        if self.state in (TaskState.TASK_STAGING, TaskState.TASK_STARTING):
            await self._tell(TaskState.TASK_RUNNING)
        if self._kill is not None:
            await self._carry_out(self._kill)
        check = self.record.task.health_check
        async with asyncio.TaskGroup() as group:
            began = found.started or self._station.clock()
            watch = group.create_task(self._watch(check, began)) if check is not None else None
            exit = await self._station.containers.wait(self._id)
            if watch is not None:
                watch.cancel()
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        asked = Resources.of(self.record.task.resources).scalar("mem")
        limits = self.record.task.limits
        limit = limits["mem"].value if "mem" in limits else asked
        await self._end(ending(exit, self._kill, memory_megabytes=limit))

    async def _watch(self, check: HealthCheck, began: float) -> None:
        if kind_of(check) == HealthCheckType.UNKNOWN:
            return
        last = self.statuses[-1].healthy if self.statuses else None
        await watch_health(
            check,
            Health(healthy=last, has_been_healthy=last is not None),
            probe=lambda: self._probe(check),
            tell=self._tell_health,
            age_seconds=lambda: self._station.clock() - began,
        )

    async def _probe(self, check: HealthCheck) -> None:
        kind = kind_of(check)
        has_own = any(network.name for network in self._networks)
        network = self._station.networks.namespace(self._id) if has_own else None
        if kind == HealthCheckType.HTTP and check.http is not None:
            await probe_http(network, check.http)
        elif kind == HealthCheckType.TCP and check.tcp is not None:
            await probe_tcp(network, check.tcp.port)
        elif check.command is not None:
            status = await self._station.containers.execute(
                self._id,
                check.command,
                timeout_seconds=check.timeout_seconds or None,
            )
            if status != 0:
                raise ContainerError(f"command exited with status {status}")
        else:
            raise ContainerError(f"health_check.{kind.lower()}: is missing")

    async def _tell_health(self, health: Health, verdict: Verdict, words: str) -> None:
        if self._kill is not None or self.is_over:
            return
        await self._tell(
            TaskState.TASK_RUNNING,
            message=f"Health check failed: {words}" if words else None,
            reason="REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
            healthy=health.healthy,
        )
        if verdict.kill:
            policy = self.record.task.kill_policy
            await self.kill(
                Kill(
                    message=f"Health check failed {health.failures} times in a row",
                    healthy=False,
                    grace_seconds=grace_seconds(policy),
                )
            )

    async def _end(self, end: Ending) -> None:
        self.is_over = True
        self._log.info("task_ended", state=end.state, message=end.message)
        await self._tell(end.state, message=end.message, reason=end.reason, healthy=end.healthy)
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
    ) -> None:
        if healthy is None and state not in TERMINAL and self.statuses:
            healthy = self.statuses[-1].healthy
        is_own = reason is None or reason.startswith("REASON_TASK_")
        status = TaskStatus(
            task_id=self.record.task.task_id,
            state=state,
            message=message,
            source="SOURCE_EXECUTOR" if is_own else "SOURCE_AGENT",
            reason=reason,
            agent_id=self.record.task.agent_id,
            executor_id=ExecutorID(value=self.record.task_id),
            timestamp=self._station.clock(),
            uuid=self._station.new_uuid(),
            healthy=healthy,
            container_status=self.container_status,
        )
        self.statuses = [old for old in self.statuses if old.state != state] + [status]
        await self._station.sender.add(self.record.key, status)


async def remove_container(station: Station, container_id: str) -> None:
    """Remove a container, then its networks; try again until both are gone."""
    wait = REMOVE_RETRY_SECONDS[0]
    while True:
        try:
            await station.containers.remove(container_id)
            await station.networks.detach(container_id)
        except (ContainerError, OSError) as error:
            log.warning("removal_failed", container=container_id, error=str(error))
        else:
            return
        await asyncio.sleep(wait)
        wait = min(wait * 2, REMOVE_RETRY_SECONDS[1])
