"""The tasks of an agent that registers, falls silent, or goes (reference mesos §4.2, §4.3)."""

from collections.abc import Iterable

import structlog

from phalanx.core.error import InvalidError
from phalanx.master.clock import Clock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.task import (
    is_over,
    key_of,
    latest_status,
    lost_or,
    master_status,
    resources_of,
    with_status,
)
from phalanx.master.post.agent import tell
from phalanx.master.post.framework import send_update
from phalanx.mesos.agent_protocol import AgentEvent, KillTask
from phalanx.mesos.v1.mesos import (
    DurationInfo,
    FrameworkID,
    KillPolicy,
    Task,
    TaskState,
    TaskStatus,
)

log = structlog.get_logger()


class Tasks:
    """Brings the master's tasks of one agent in line with what has become of it."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock

    def reconcile(
        self, agent: Agent, listed: Iterable[Task], *, is_news: bool
    ) -> list[FrameworkID]:
        """Take over the tasks that a registering agent lists, end those that it does not.

        With *is_news* the frameworks are told of each: they had been told that
        it is unreachable or lost, or nothing at all. Returns the frameworks
        among them that are over: the agent must end their tasks.
        """
        over: dict[str, FrameworkID] = {}
        keys = set()
        for task in listed:
            keys.add(key_of(task))
            framework = self._cluster.frameworks.get(task.framework_id.value)
            if framework is None:
                over[task.framework_id.value] = task.framework_id
            elif task.task_id.value not in framework.tasks:
                if _is_forsaken(framework, task):
                    _kill(agent, task)
                else:
                    self._take(framework, task, is_news=is_news)
        for framework_id, task_id in agent.tasks - keys:
            framework = self._cluster.frameworks[framework_id]
            self._miss(agent, framework, framework.tasks[task_id])
        for framework in self._cluster.frameworks.values():
            missing = [
                task
                for task in framework.unreachable.values()
                if task.agent_id.value == agent.id and key_of(task) not in keys
            ]
            for task in missing:
                self._bury_stranded(framework, task, "REASON_RECONCILIATION", _UNKNOWN)
        return list(over.values())

    def _take(self, framework: Framework, task: Task, *, is_news: bool) -> None:
        id = task.task_id.value
        try:
            resources_of(task)
        except InvalidError as error:
            log.warning("task_left_out", task=id, error=str(error))
            return
        if is_over(task) and any(old.task_id.value == id for old in framework.completed):
            return  # its last acknowledgement got lost; the agent's update will ask again
        framework.unreachable.pop(id, None)
        self._cluster.add_task(task)
        if is_news and not is_over(task):
            self._announce(
                framework,
                task,
                task.state,
                "REASON_AGENT_REREGISTERED",
                "Agent re-registered",
                latest=latest_status(task),
            )

    def _miss(self, agent: Agent, framework: Framework, task: Task) -> None:
        """End an active task that its agent does not know."""
        if is_over(task):
            self._cluster.complete_task(task)
            return
        if task.state is not TaskState.TASK_STAGING and not framework.info.checkpoint:
            self._forsake(agent, framework, task)
            return
        was_launched = task.state is not TaskState.TASK_STAGING
        state = TaskState.TASK_GONE if was_launched else TaskState.TASK_DROPPED
        self._end(
            framework, task, lost_or(state, framework.info), "REASON_RECONCILIATION", _UNKNOWN
        )

    def forsake(self, agent: Agent) -> None:
        """End the tasks of frameworks that do not checkpoint: their agent is no longer connected.

        Who comes back with one is told to kill it.
        """
        for framework_id, task_id in list(agent.tasks):
            framework = self._cluster.frameworks[framework_id]
            task = framework.tasks[task_id]
            if framework.info.checkpoint or framework.is_recovered:
                continue
            if is_over(task):
                self._cluster.complete_task(task)
            else:
                self._forsake(agent, framework, task)

    def _forsake(self, agent: Agent, framework: Framework, task: Task) -> None:
        why = f"Agent {agent.info.hostname} disconnected"
        self._end(framework, task, TaskState.TASK_LOST, _DISCONNECTED, why)

    def strand(self, agent: Agent, since: float) -> None:
        """Make every task of an agent that falls silent unreachable, or lost."""
        for framework_id, task_id in list(agent.tasks):
            framework = self._cluster.frameworks[framework_id]
            task = framework.tasks[task_id]
            if is_over(task):
                self._cluster.complete_task(task)
                continue
            state = lost_or(TaskState.TASK_UNREACHABLE, framework.info)
            stranded = self._announce(
                framework,
                task,
                state,
                "REASON_AGENT_REMOVED",
                f"Agent {agent.info.hostname} health check timed out",
                unreachable_at=since,
            )
            self._cluster.strand_task(stranded)

    def bury(self, agent: Agent, reason: str, why: str, *, by_operator: bool) -> None:
        """End every task of an agent that never comes back."""
        state = TaskState.TASK_GONE_BY_OPERATOR if by_operator else TaskState.TASK_GONE
        for framework_id, task_id in list(agent.tasks):
            framework = self._cluster.frameworks[framework_id]
            task = framework.tasks[task_id]
            if is_over(task):
                self._cluster.complete_task(task)
            else:
                self._end(framework, task, lost_or(state, framework.info), reason, why)
        for framework in self._cluster.frameworks.values():
            for task in list(framework.unreachable.values()):
                if task.agent_id.value == agent.id:
                    self._bury_stranded(framework, task, reason, why)

    def _bury_stranded(self, framework: Framework, task: Task, reason: str, why: str) -> None:
        if not is_over(task):
            status = self._status(task, TaskState.TASK_GONE, reason, why)
            send_update(framework, status)
            task = with_status(task, status, status.state)
        self._cluster.complete_stranded(task)

    def _end(
        self, framework: Framework, task: Task, state: TaskState, reason: str, why: str
    ) -> None:
        log.info("task_ended", task=task.task_id.value, state=state.value, reason=reason)
        self._cluster.complete_task(self._announce(framework, task, state, reason, why))

    def _announce(
        self,
        framework: Framework,
        task: Task,
        state: TaskState,
        reason: str,
        why: str,
        *,
        latest: TaskStatus | None = None,
        unreachable_at: float | None = None,
    ) -> Task:
        status = self._status(
            task, state, reason, why, latest=latest, unreachable_at=unreachable_at
        )
        changed = with_status(task, status, state)
        self._cluster.replace_task(changed, status)
        send_update(framework, status)
        return changed

    def _status(
        self,
        task: Task,
        state: TaskState,
        reason: str,
        why: str,
        *,
        latest: TaskStatus | None = None,
        unreachable_at: float | None = None,
    ) -> TaskStatus:
        return master_status(
            task.task_id.value,
            state,
            wall=self._clock.wall(),
            reason=reason,
            message=why,
            agent_id=task.agent_id.value,
            latest=latest,
            unreachable_at=unreachable_at,
        )


def _is_forsaken(framework: Framework, task: Task) -> bool:
    """Tell whether a task still runs whose framework was told that it is lost."""
    if framework.info.checkpoint or is_over(task):
        return False
    return any(old.task_id == task.task_id for old in framework.completed)


def _kill(agent: Agent, task: Task) -> None:
    order = KillTask(
        framework_id=task.framework_id,
        task_id=task.task_id,
        kill_policy=KillPolicy(grace_period=DurationInfo(nanoseconds=0)),
    )
    tell(agent, AgentEvent(type="KILL_TASK", kill_task=order))


_DISCONNECTED = "REASON_AGENT_DISCONNECTED"
_UNKNOWN = "Task is unknown to the agent"
