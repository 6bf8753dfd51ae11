"""Answers to RECONCILE (reference mesos §4.6); pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phalanx.master.cluster.task import latest_status, lost_or, master_status
from phalanx.mesos.v1.mesos import FrameworkInfo, Task, TaskState, TaskStatus
from phalanx.mesos.v1.scheduler import ReconcileTask

REASON = "REASON_RECONCILIATION"


@dataclass(frozen=True, slots=True)
class Known:
    """What the master knows of a framework's tasks, and of agents.

    *registered* and *unreachable_agents*, these with the time (wall) since when,
    need hold only agents that are asked about; *recovered* are those of the
    registry that have not come back to this leader yet.
    """

    tasks: Mapping[str, Task]
    unreachable: Mapping[str, Task]
    registered: frozenset[str]
    unreachable_agents: Mapping[str, float]
    recovered: frozenset[str]
    gone: frozenset[str] = frozenset()


def implicit_answers(known: Known, wall: float) -> tuple[TaskStatus, ...]:
    """Return the state of every active task."""
    return tuple(_latest(task, wall) for task in known.tasks.values())


def explicit_answers(
    asked: Iterable[ReconcileTask], known: Known, info: FrameworkInfo, wall: float
) -> tuple[TaskStatus, ...]:
    """Return the state of each task asked for; silence where only time can tell."""
    answers = (_answer(item, known, info, wall) for item in asked)
    return tuple(answer for answer in answers if answer is not None)


def _answer(
    item: ReconcileTask, known: Known, info: FrameworkInfo, wall: float
) -> TaskStatus | None:
    task_id = item.task_id.value
    task = known.tasks.get(task_id)
    if task is not None:
        return _latest(task, wall)
    agent_id = item.agent_id.value if item.agent_id is not None else None
    stranded = known.unreachable.get(task_id)
    if stranded is not None:
        agent_id = stranded.agent_id.value
    if (agent_id in known.recovered) if agent_id is not None else bool(known.recovered):
        return None
    state, why = TaskState.TASK_UNKNOWN, "Task is unknown"
    since = None
    if agent_id in known.registered:
        state, why = TaskState.TASK_GONE, "Task is unknown to the agent"
    elif agent_id is not None and agent_id in known.unreachable_agents:
        state, why = TaskState.TASK_UNREACHABLE, "Task is unreachable"
        since = known.unreachable_agents[agent_id]
    elif agent_id in known.gone:
        state, why = TaskState.TASK_GONE_BY_OPERATOR, "Task is gone"
    return master_status(
        task_id,
        lost_or(state, info),
        wall=wall,
        reason=REASON,
        message=f"Reconciliation: {why}",
        agent_id=agent_id,
        unreachable_at=since,
    )


def _latest(task: Task, wall: float) -> TaskStatus:
    return master_status(
        task.task_id.value,
        task.status_update_state or task.state,
        wall=wall,
        reason=REASON,
        message="Reconciliation: Latest task state",
        agent_id=task.agent_id.value,
        latest=latest_status(task),
        executor_id=task.executor_id,
    )
