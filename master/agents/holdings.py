"""What an agent holds beside tasks: executors, frameworks, operations (reference mesos §4.2)."""

from collections.abc import Iterable

import structlog

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.event import ExecutorKey
from phalanx.master.post.agent import update_framework
from phalanx.master.post.framework import tell
from phalanx.mesos.v1.mesos import (
    AgentID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    OperationRecord,
    OperationStatus,
)
from phalanx.mesos.v1.scheduler import Event, UpdateOperationStatus

log = structlog.get_logger()


class Holdings:
    """Brings the master's view of one agent in line with what it holds beside tasks."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def executors(self, agent: Agent, listed: Iterable[ExecutorInfo]) -> list[FrameworkID]:
        """Take the executors over that a registering agent lists, forget those that it does not.

        Returns the frameworks among theirs that are over.
        """
        over: list[FrameworkID] = []
        keys: set[ExecutorKey] = set()
        for executor in listed:
            id = executor.framework_id
            if id is None:
                log.warning("executor_left_out", executor=executor.executor_id.value)
                continue
            keys.add((id.value, executor.executor_id.value))
            framework = self._cluster.frameworks.get(id.value)
            if framework is None:
                over.append(id)
            else:
                self._cluster.add_executor(framework, agent, executor)
        for key in agent.executors.keys() - keys:
            self._cluster.remove_executor(agent, key)
        return over

    def frameworks(self, agent: Agent, listed: Iterable[FrameworkInfo]) -> list[FrameworkID]:
        """Tell the agent of frameworks that have changed; return those that are over."""
        over = []
        for info in listed:
            if info.id is None:
                continue
            framework = self._cluster.frameworks.get(info.id.value)
            if framework is None:
                over.append(info.id)
            elif not framework.is_recovered and framework.info != info:
                update_framework(agent, framework.info)
        return over

    def operations(self, agent: Agent, listed: Iterable[OperationRecord]) -> None:
        """Take over the operations that the agent lists; those that it lacks never reached it."""
        held = {record.uuid.value: record for record in listed}
        for uuid in agent.operations.keys() - held.keys():
            self._tell(
                agent,
                agent.operations[uuid],
                "OPERATION_DROPPED",
                "Reconciliation: Operation is unknown to the agent",
            )
        agent.operations = held

    def forsake(self, agent: Agent) -> None:
        """Let go of the executors of frameworks that do not checkpoint; they end with the agent."""
        for key in list(agent.executors):
            framework = self._cluster.frameworks.get(key[0])
            if framework is not None and not framework.info.checkpoint:
                self._cluster.remove_executor(agent, key)

    def strand(self, agent: Agent) -> None:
        """Let go of what an agent holds that has become unreachable; it may tell of it again."""
        for record in agent.operations.values():
            self._tell(agent, record, "OPERATION_UNREACHABLE", "Agent is unreachable")
        self._let_go(agent)

    def bury(self, agent: Agent, *, by_operator: bool) -> None:
        """Let go of what an agent held that never comes back."""
        state = "OPERATION_GONE_BY_OPERATOR" if by_operator else "OPERATION_UNREACHABLE"
        for record in agent.operations.values():
            self._tell(agent, record, state, "Agent is gone")
        self._let_go(agent)

    def _let_go(self, agent: Agent) -> None:
        agent.operations = {}
        for key in list(agent.executors):
            self._cluster.remove_executor(agent, key)

    def _tell(self, agent: Agent, record: OperationRecord, state: str, why: str) -> None:
        """Tell the framework that named an operation what became of it."""
        id = record.info.id
        framework = self._cluster.frameworks.get(
            record.framework_id.value if record.framework_id is not None else ""
        )
        if framework is None or id is None:
            return
        status = OperationStatus(
            operation_id=id, state=state, message=why, agent_id=AgentID(value=agent.id)
        )
        update = UpdateOperationStatus(status=status)
        tell(framework, Event(type="UPDATE_OPERATION_STATUS", update_operation_status=update))
