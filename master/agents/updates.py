"""Status updates on their way from agents to frameworks (reference mesos §4.5)."""

from collections import Counter

import structlog

from phalanx.master.allocator.poke import Poke
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.task import is_over, with_status
from phalanx.master.post.agent import acknowledge
from phalanx.master.post.framework import send_executor_failure, send_message, send_update
from phalanx.mesos.agent_protocol import AgentMessage, AgentUpdate, ExecutorExited

log = structlog.get_logger()


class Updates:
    """Forwards each update and keeps the task's newest state."""

    def __init__(self, cluster: Cluster, *, poke: Poke) -> None:
        self._cluster = cluster
        self._poke = poke
        self.counts: Counter[str] = Counter()  # states seen, and "valid" and "invalid"

    def take(self, agent: Agent, update: AgentUpdate) -> None:
        """Forward one update of *agent*; a terminal one frees the task's resources at once."""
        framework_id, status = update.framework_id, update.status
        if status.agent_id is not None and status.agent_id.value != agent.id:
            self.counts["invalid"] += 1
            log.warning("update_of_another_agent", agent=agent.id, of=status.agent_id.value)
            return
        framework = self._cluster.frameworks.get(framework_id.value)
        if framework is None:
            self.counts["invalid"] += 1
            if framework_id.value in self._cluster.removed and status.uuid is not None:
                # Nobody is left to acknowledge, and the agent must not retry for ever.
                acknowledge(agent, framework_id, status.task_id, status.uuid)
            return
        send_update(framework, status)
        task = framework.tasks.get(status.task_id.value)
        if task is None or task.agent_id.value != agent.id:
            self.counts["invalid"] += 1
            return
        self.counts["valid"] += 1
        changed = with_status(task, status, update.latest_state)
        self._cluster.replace_task(changed, status)
        if is_over(changed) and not is_over(task):
            self.counts[changed.state] += 1
            log.debug(
                "task_ended",
                framework=framework.id,
                task=status.task_id.value,
                state=changed.state.value,
                reason=status.reason,
                message=status.message,
            )
            self._poke((agent.id,))
        elif task.state != changed.state:
            log.debug("task_updated", task=status.task_id.value, state=changed.state.value)

    def take_message(self, agent: Agent, message: AgentMessage) -> None:
        """Pass an executor's message on to its framework, if that is there."""
        framework = self._cluster.frameworks.get(message.framework_id.value)
        if framework is not None:
            send_message(framework, agent.id, message.executor_id, message.data)

    def take_exit(self, agent: Agent, exited: ExecutorExited) -> None:
        """Free what an executor held, and tell its framework that it has ended."""
        key = (exited.framework_id.value, exited.executor_id.value)
        self._cluster.remove_executor(agent, key)
        framework = self._cluster.frameworks.get(key[0])
        if framework is not None:
            send_executor_failure(framework, agent.id, exited.executor_id, exited.status)
        log.info("executor_exited", executor=key[1], agent=agent.id, status=exited.status)
        self._poke((agent.id,))
