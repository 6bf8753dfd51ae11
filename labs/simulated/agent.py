"""One simulated agent: its tasks run, and are healthy, as soon as they are launched; sans I/O."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import msgspec

from phalanx.mesos.agent_protocol import (
    AgentCall,
    AgentEvent,
    AgentSubscribe,
    AgentUpdate,
    ApplyOperation,
    ExecutorExited,
    KillTask,
    OperationUpdate,
)
from phalanx.mesos.operation import CONVERSIONS, conversion_of
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    TERMINAL,
    AgentCapability,
    AgentInfo,
    ContainerID,
    ContainerStatus,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    IPAddress,
    NetworkInfo,
    OperationStatus,
    Task,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
)

Key = tuple[str, str]  # framework id and task id

CAPABILITIES = (
    *("MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "RESIZE_VOLUME"),
    *("AGENT_OPERATION_FEEDBACK", "AGENT_DRAINING", "TASK_RESOURCE_LIMITS"),
)
LAUNCH = (TaskState.TASK_STARTING, TaskState.TASK_RUNNING)


@dataclass(slots=True)
class Held:
    """A task that the agent holds; *pending* are the statuses after the one that was sent."""

    task: Task
    pending: deque[TaskStatus] = field(default_factory=deque)


class SimulatedAgent:
    """An agent of *index* with nothing below it.

    ``subscribe`` gives the first call of a stream; ``take`` turns an event into
    the calls that answer it. It holds what a real agent holds: one update of a
    task is outstanding at a time and sent anew with each new stream.
    """

    def __init__(
        self,
        index: int,
        info: AgentInfo,
        address: IPv4Address,
        *,
        clock: Callable[[], float],
        new_uuid: Callable[[], bytes],
    ) -> None:
        self.index = index
        self.info = info
        self.address = address
        self.held: dict[Key, Held] = {}
        self.executors: dict[Key, ExecutorInfo] = {}
        self.total = Resources.of(info.resources)
        self.launched = 0
        self._frameworks: dict[str, FrameworkInfo] = {}
        self._clock = clock
        self._new_uuid = new_uuid

    def subscribe(self) -> AgentCall:
        """Return who we are and what we hold."""
        own = {key[0] for key in (*self.held, *self.executors)}
        return AgentCall(
            type="SUBSCRIBE",
            subscribe=AgentSubscribe(
                agent_info=self.info,
                version="1.11.0",
                tasks=tuple(held.task for held in self.held.values()),
                executors=tuple(self.executors.values()),
                frameworks=tuple(self._frameworks[id] for id in own),
                total_resources=self.total.messages(is_refined=True),
                capabilities=tuple(AgentCapability(type=name) for name in CAPABILITIES),
                address=str(self.address),
            ),
        )

    def hold(self, framework: FrameworkInfo, count: int, resources: Resources) -> None:
        """Hold so many tasks that run as if a leader before this one had launched them."""
        assert framework.id is not None  # both are registered
        assert self.info.id is not None
        self._frameworks[framework.id.value] = framework
        for number in range(count):
            name = f"held-{self.index}-{number}"
            launch = TaskInfo(
                name=name,
                task_id=TaskID(value=name),
                agent_id=self.info.id,
                resources=resources.messages(role="*"),
            )
            task = self._task(framework.id, launch, None)
            status = self._status(task, TaskState.TASK_RUNNING)
            task = msgspec.structs.replace(
                task,
                state=status.state,
                statuses=(status,),
                status_update_state=status.state,
            )
            self.held[framework.id.value, name] = Held(task)

    def resend(self) -> list[AgentCall]:
        """Return the updates that nobody has acknowledged, for a new stream."""
        return [
            self._update(held.task, status)
            for held in self.held.values()
            if (status := _outstanding(held)) is not None
        ]

    def take(self, event: AgentEvent) -> list[AgentCall]:
        """Return the calls that *event* makes us send."""
        if event.subscribed is not None:
            self.info = msgspec.structs.replace(self.info, id=event.subscribed.agent_id)
            return self.resend()
        if event.run_task is not None:
            run = event.run_task
            return self._launch(run.framework_info, (run.task,), run.task.executor)
        if event.run_task_group is not None:
            group = event.run_task_group
            return self._launch(group.framework_info, group.task_group.tasks, group.executor)
        if event.kill_task is not None:
            return self._kill(event.kill_task)
        if event.acknowledge_update is not None:
            its = event.acknowledge_update
            return self._acknowledge((its.framework_id.value, its.task_id.value), its.uuid)
        if event.shutdown_framework is not None:
            return self._shut_down(event.shutdown_framework.framework_id.value)
        if event.apply_operation is not None:
            return self._apply(event.apply_operation)
        if event.drain is not None and event.drain.config is not None:
            return [call for key in list(self.held) for call in self._end(key)]
        return []

    def _launch(
        self, info: FrameworkInfo, tasks: Iterable[TaskInfo], executor: ExecutorInfo | None
    ) -> list[AgentCall]:
        assert info.id is not None  # the master gave it one
        self._frameworks[info.id.value] = info
        if executor is not None:
            own = msgspec.structs.replace(executor, framework_id=info.id)
            self.executors.setdefault((info.id.value, executor.executor_id.value), own)
        calls = []
        for launch in tasks:
            key = (info.id.value, launch.task_id.value)
            if key in self.held:
                continue
            self.launched += 1
            held = Held(self._task(info.id, launch, executor))
            self.held[key] = held
            held.pending.extend(self._status(launch, state) for state in LAUNCH)
            if launch.health_check is not None:
                held.pending.append(self._status(launch, LAUNCH[-1], is_healthy=True))
            calls.append(self._next(held))
        return calls

    def _next(self, held: Held) -> AgentCall:
        status = held.pending.popleft()
        held.task = msgspec.structs.replace(
            held.task,
            state=status.state,
            statuses=(status,),
            status_update_state=status.state,
            status_update_uuid=status.uuid,
        )
        return self._update(held.task, status)

    def _acknowledge(self, key: Key, uuid: bytes) -> list[AgentCall]:
        held = self.held.get(key)
        if held is None or held.task.status_update_uuid != uuid:
            return []
        if held.pending:
            return [self._next(held)]
        if held.task.state in TERMINAL:
            del self.held[key]
            return self._exits(key[0], held.task)
        held.task = msgspec.structs.replace(held.task, status_update_uuid=None)
        return []

    def _exits(self, framework_id: str, ended: Task) -> list[AgentCall]:
        """Return the exit of the executor of the last task that it had."""
        id = ended.executor_id
        if id is None or (framework_id, id.value) not in self.executors:
            return []
        if any(
            held.task.executor_id == id
            for (owner, _), held in self.held.items()
            if owner == framework_id
        ):
            return []
        del self.executors[framework_id, id.value]
        exited = ExecutorExited(
            framework_id=FrameworkID(value=framework_id), executor_id=id, status=0
        )
        return [AgentCall(type="EXECUTOR_EXITED", executor_exited=exited)]

    def _kill(self, kill: KillTask) -> list[AgentCall]:
        return self._end((kill.framework_id.value, kill.task_id.value))

    def _end(self, key: Key) -> list[AgentCall]:
        held = self.held.get(key)
        if held is None or held.task.state in TERMINAL:
            return []
        is_idle = _outstanding(held) is None
        held.pending.clear()
        held.pending.append(self._status(held.task, TaskState.TASK_KILLED))
        return [self._next(held)] if is_idle else []

    def _shut_down(self, framework_id: str) -> list[AgentCall]:
        for key in [key for key in self.held if key[0] == framework_id]:
            del self.held[key]
        for key in [key for key in self.executors if key[0] == framework_id]:
            del self.executors[key]
        return []

    def _apply(self, apply: ApplyOperation) -> list[AgentCall]:
        conversion = conversion_of(apply.operation) if apply.operation.type in CONVERSIONS else None
        if conversion is not None:
            self.total = conversion.apply(self.total)
        status = OperationStatus(
            operation_id=apply.operation.id,
            state="OPERATION_FINISHED" if conversion is not None else "OPERATION_ERROR",
            agent_id=self.info.id,
        )
        update = OperationUpdate(
            operation_uuid=apply.operation_uuid, status=status, framework_id=apply.framework_id
        )
        return [AgentCall(type="OPERATION_UPDATE", operation_update=update)]

    def _task(self, id: FrameworkID, launch: TaskInfo, executor: ExecutorInfo | None) -> Task:
        return Task(
            name=launch.name,
            task_id=launch.task_id,
            framework_id=id,
            executor_id=executor.executor_id if executor is not None else None,
            agent_id=launch.agent_id,
            state=TaskState.TASK_STAGING,
            resources=launch.resources,
            labels=launch.labels,
            discovery=launch.discovery,
            container=launch.container,
            health_check=launch.health_check,
            limits=launch.limits,
        )

    def _status(
        self, task: Task | TaskInfo, state: TaskState, *, is_healthy: bool = False
    ) -> TaskStatus:
        network = NetworkInfo(ip_addresses=(IPAddress(ip_address=str(self.address)),))
        return TaskStatus(
            task_id=task.task_id,
            state=state,
            source="SOURCE_EXECUTOR",
            healthy=True if is_healthy else None,
            reason="REASON_TASK_HEALTH_CHECK_STATUS_UPDATED" if is_healthy else None,
            agent_id=task.agent_id,
            timestamp=self._clock(),
            uuid=self._new_uuid(),
            container_status=ContainerStatus(
                container_id=ContainerID(value=task.task_id.value), network_infos=(network,)
            ),
        )

    def _update(self, task: Task, status: TaskStatus) -> AgentCall:
        return AgentCall(
            type="UPDATE",
            update=AgentUpdate(
                framework_id=task.framework_id, status=status, latest_state=task.state
            ),
        )


def _outstanding(held: Held) -> TaskStatus | None:
    """Return the status that waits for its acknowledgement."""
    return held.task.statuses[-1] if held.task.status_update_uuid is not None else None
