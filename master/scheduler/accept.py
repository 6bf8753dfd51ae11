"""What an ACCEPT comes to: which tasks start, which are refused, what is left; pure (§1.4)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from phalanx.master.cluster.offer import Outstanding
from phalanx.master.cluster.task import allocated_to, lost_or, master_status
from phalanx.master.scheduler.task_check import Bench, task_problem
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    FrameworkInfo,
    OfferID,
    Operation,
    TaskInfo,
    TaskState,
    TaskStatus,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The tasks to launch, the statuses of those refused, and what nobody used."""

    launches: tuple[TaskInfo, ...]
    refusals: tuple[TaskStatus, ...]
    unused: Resources


def offers_problem(
    ids: Sequence[OfferID], offers: Mapping[str, Outstanding], framework_id: str
) -> str | None:
    """Return what is wrong with the offers of an ACCEPT, None when they can be used together."""
    values = [id.value for id in ids]
    if not values:
        return "No offers specified"
    if len(set(values)) != len(values):
        return "Duplicate offers in offer list"
    for value in values:
        if value not in offers or offers[value].framework_id != framework_id:
            return f"Offer {value} is no longer valid"
    if len({offers[value].agent_id for value in values}) > 1:
        return "Aggregated offers must belong to one single agent"
    if len({offers[value].role for value in values}) > 1:
        return "Aggregated offers must be allocated to the same role"
    return None


def tasks_of(operations: Sequence[Operation]) -> list[TaskInfo]:
    """Return every task that the operations want to launch."""
    tasks: list[TaskInfo] = []
    for operation in operations:
        if operation.launch is not None:
            tasks += operation.launch.task_infos
        if operation.launch_group is not None:
            tasks += operation.launch_group.task_group.tasks
    return tasks


def dropped(
    operations: Sequence[Operation],
    info: FrameworkInfo,
    *,
    problem: str,
    reason: str,
    wall: float,
) -> tuple[TaskStatus, ...]:
    """Return the statuses of an ACCEPT whose offers can't be used."""
    return tuple(
        master_status(
            task.task_id.value,
            lost_or(TaskState.TASK_DROPPED, info),
            wall=wall,
            reason=reason,
            message=f"Task launched with invalid offers: {problem}",
            agent_id=task.agent_id.value,
        )
        for task in tasks_of(operations)
    )


def outcome(
    operations: Sequence[Operation],
    available: Resources,
    *,
    agent_id: str,
    role: str,
    taken_ids: Collection[str],
    unreachable_ids: Collection[str],
    wall: float,
) -> Outcome:
    """Return what *operations* come to against the resources of valid offers.

    Operations apply in order, each against what those before it left.
    """
    launches: list[TaskInfo] = []
    refusals: list[TaskStatus] = []
    taken = set(taken_ids)

    def refuse(task: TaskInfo, problem: str, reason: str) -> None:
        refusals.append(
            master_status(
                task.task_id.value,
                TaskState.TASK_ERROR,
                wall=wall,
                reason=reason,
                message=problem,
                agent_id=task.agent_id.value,
            )
        )

    for operation in operations:
        if operation.type == "LAUNCH_GROUP" and operation.launch_group is not None:
            for task in operation.launch_group.task_group.tasks:
                refuse(task, "LAUNCH_GROUP is not supported in this build", _GROUP_INVALID)
        if operation.type != "LAUNCH" or operation.launch is None:
            continue
        for task in operation.launch.task_infos:
            if operation.id is not None:
                refuse(task, "Operation 'id' must not be set for LAUNCH", _INVALID)
                continue
            bench = Bench(agent_id, role, available, taken, unreachable_ids)
            problem = task_problem(task, bench)
            if problem is not None:
                refuse(task, problem, _INVALID)
                continue
            taken.add(task.task_id.value)
            available -= Resources.of(task.resources)
            launches.append(
                msgspec.structs.replace(task, resources=allocated_to(task.resources, role))
            )
    return Outcome(tuple(launches), tuple(refusals), available)


_INVALID = "REASON_TASK_INVALID"
_GROUP_INVALID = "REASON_TASK_GROUP_INVALID"
