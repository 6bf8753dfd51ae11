"""Tasks as the master keeps them: pure rules over ``mesos.v1.Task``."""

from collections.abc import Iterable

import msgspec

from phalanx.master.event import TaskKey
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    TERMINAL,
    AgentID,
    AllocationInfo,
    ExecutorID,
    ExecutorInfo,
    FrameworkInfo,
    Resource,
    Task,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
    TimeInfo,
)

MAX_STATUSES = 32  # kept of one task; the first and the newest count


def key_of(task: Task) -> TaskKey:
    """Return framework id and task id."""
    return task.framework_id.value, task.task_id.value


def is_over(task: Task) -> bool:
    """Tell whether the task's state is terminal: it holds no resources any more."""
    return task.state in TERMINAL


def role_of(task: Task, info: FrameworkInfo) -> str:
    """Return the role that the task's resources are allocated to."""
    for resource in task.resources:
        if resource.allocation_info is not None and resource.allocation_info.role:
            return resource.allocation_info.role
    return roles_of(info)[0] if roles_of(info) else "*"


def executor_role(executor: ExecutorInfo, info: FrameworkInfo) -> str:
    """Return the role that the executor's resources are allocated to."""
    for resource in executor.resources:
        if resource.allocation_info is not None and resource.allocation_info.role:
            return resource.allocation_info.role
    return roles_of(info)[0] if roles_of(info) else "*"


def roles_of(info: FrameworkInfo) -> tuple[str, ...]:
    """Return the roles of a framework: ``roles`` with MULTI_ROLE, else ``role`` or ``*``."""
    if has_capability(info, "MULTI_ROLE"):
        return info.roles
    return (info.role or "*",)


def has_capability(info: FrameworkInfo, name: str) -> bool:
    """Tell whether the framework declares a capability."""
    return any(capability.type == name for capability in info.capabilities)


def lost_or(state: TaskState, info: FrameworkInfo) -> TaskState:
    """Return *state* for PARTITION_AWARE frameworks and TASK_LOST for all others."""
    return state if has_capability(info, "PARTITION_AWARE") else TaskState.TASK_LOST


def allocated_to(resources: Iterable[Resource], role: str) -> tuple[Resource, ...]:
    """Return v1 resources with the role filled in where none is."""
    return tuple(
        resource
        if resource.allocation_info is not None
        else msgspec.structs.replace(resource, allocation_info=AllocationInfo(role=role))
        for resource in resources
    )


def staged(launch: TaskInfo, info: FrameworkInfo) -> Task:
    """Return the task that *launch* begins."""
    assert info.id is not None  # every framework of the cluster has one
    executor = launch.executor.executor_id if launch.executor is not None else None
    command = launch.command
    if command is None and launch.executor is not None:
        command = launch.executor.command
    user = command.user if command is not None else None
    return Task(
        name=launch.name,
        task_id=launch.task_id,
        framework_id=info.id,
        executor_id=executor,
        agent_id=launch.agent_id,
        state=TaskState.TASK_STAGING,
        resources=launch.resources,
        labels=launch.labels,
        discovery=launch.discovery,
        container=launch.container,
        health_check=launch.health_check,
        kill_policy=launch.kill_policy,
        user=user or None,  # only what was asked for by name, as in Mesos
        limits=launch.limits,
    )


def with_status(task: Task, status: TaskStatus, latest: TaskState) -> Task:
    """Return *task* after a status update; *latest* is the newest state its agent knows.

    A terminal state is never left again. At most one status is kept of a run
    of equal states.
    """
    kept = task.statuses
    if kept and kept[-1].state == status.state:
        kept = kept[:-1]
    elif len(kept) >= MAX_STATUSES:
        kept = (kept[0], *kept[2:])
    return msgspec.structs.replace(
        task,
        state=task.state if is_over(task) else latest,
        statuses=(*kept, status),
        status_update_state=status.state,
        status_update_uuid=status.uuid,
    )


def master_status(
    task_id: str,
    state: TaskState,
    *,
    wall: float,
    reason: str,
    message: str,
    agent_id: str | None = None,
    latest: TaskStatus | None = None,
    unreachable_at: float | None = None,
    executor_id: ExecutorID | None = None,
) -> TaskStatus:
    """Return a status that the master makes itself: no uuid, so nobody acknowledges it.

    Health, check, container and executor are copied from *latest*, the task's newest status.
    """
    if executor_id is None and latest is not None:
        executor_id = latest.executor_id
    return TaskStatus(
        task_id=TaskID(value=task_id),
        state=state,
        message=message,
        source="SOURCE_MASTER",
        reason=reason,
        agent_id=None if agent_id is None else AgentID(value=agent_id),
        executor_id=executor_id,
        timestamp=wall,
        healthy=latest.healthy if latest is not None else None,
        check_status=latest.check_status if latest is not None else None,
        container_status=latest.container_status if latest is not None else None,
        unreachable_time=None if unreachable_at is None else time_info(unreachable_at),
    )


def time_info(wall: float) -> TimeInfo:
    """Return a point in time of the wall clock as v1 has it."""
    return TimeInfo(nanoseconds=round(wall * 1e9))


def latest_status(task: Task) -> TaskStatus | None:
    """Return the newest status, or None before the first."""
    return task.statuses[-1] if task.statuses else None


def resources_of(task: Task) -> Resources:
    """Return what the task holds: nothing once it is over."""
    return Resources() if is_over(task) else Resources.of(task.resources)
