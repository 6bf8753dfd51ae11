"""Operations of frameworks on resources: begun, reported, acknowledged, reconciled (§1.4, §1.5)."""

from collections.abc import Callable

import msgspec
import structlog

from phalanx.core.error import InvalidError
from phalanx.master.allocator.poke import Poke
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.post.agent import tell as tell_agent
from phalanx.master.post.framework import rescind, rescind_shared, send_operation_status
from phalanx.mesos.agent_protocol import (
    AcknowledgeOperation,
    AgentEvent,
    ApplyOperation,
    OperationUpdate,
)
from phalanx.mesos.operation import Conversion, conversion_of
from phalanx.mesos.v1.mesos import (
    UUID,
    AgentID,
    Operation,
    OperationRecord,
    OperationStatus,
)
from phalanx.mesos.v1.scheduler import AcknowledgeOperationStatus, ReconcileOperation
from phalanx.net.model.objects import Liveness

log = structlog.get_logger()

PENDING = "OPERATION_PENDING"
FAILED = frozenset({"OPERATION_FAILED", "OPERATION_ERROR", "OPERATION_DROPPED"})
OVER = FAILED | {"OPERATION_FINISHED", "OPERATION_GONE_BY_OPERATOR"}


class Conversions:
    """Frameworks' operations: into the books at once, then at the agent, then told."""

    def __init__(self, cluster: Cluster, *, poke: Poke, new_uuid: Callable[[], bytes]) -> None:
        self._cluster = cluster
        self._poke = poke
        self._new_uuid = new_uuid

    def begin(
        self, framework: Framework, agent: Agent, operation: Operation, conversion: Conversion
    ) -> None:
        """Apply *operation* to the books, remember it, and tell the agent to carry it out."""
        assert framework.info.id is not None  # every framework of the cluster has one
        rescind_shared(self._cluster, agent, conversion.consumed)
        self._cluster.convert(agent, conversion)
        uuid = self._new_uuid()
        agent.operations[uuid] = OperationRecord(
            framework_id=framework.info.id,
            agent_id=AgentID(value=agent.id),
            info=operation,
            latest_status=OperationStatus(operation_id=operation.id, state=PENDING),
            uuid=UUID(value=uuid),
        )
        apply = ApplyOperation(
            operation_uuid=uuid, operation=operation, framework_id=framework.info.id
        )
        tell_agent(agent, AgentEvent(type="APPLY_OPERATION", apply_operation=apply))
        log.info("operation_begun", framework=framework.id, agent=agent.id, type=operation.type)

    def take(self, agent: Agent, update: OperationUpdate) -> None:
        """Take what an agent reports of an operation; tell its framework if it has named it."""
        record = agent.operations.get(update.operation_uuid)
        status = update.status
        framework_id = update.framework_id.value if update.framework_id is not None else ""
        framework = self._cluster.frameworks.get(framework_id)
        if record is not None:
            was_over = record.latest_status.state in OVER
            if not was_over:
                record = msgspec.structs.replace(
                    record, latest_status=status, statuses=(*record.statuses, status)
                )
                agent.operations[update.operation_uuid] = record
                if status.state in FAILED:
                    self._revert(agent, record)
            if status.uuid is None and status.state in OVER:
                del agent.operations[update.operation_uuid]  # nobody will acknowledge it
        if framework is not None and status.operation_id is not None:
            send_operation_status(framework, _of(status, agent))
        elif status.uuid is not None and (
            status.operation_id is None or framework_id in self._cluster.removed
        ):
            self._acknowledged(agent, update.operation_uuid, status.uuid.value)

    def _revert(self, agent: Agent, record: OperationRecord) -> None:
        """Undo in the books what the agent could not do."""
        rescind(self._cluster, self._cluster.offers_of(agent))
        conversion = conversion_of(record.info)
        back = Conversion(consumed=conversion.made, made=conversion.consumed)
        try:
            if conversion.made in agent.free:
                self._cluster.convert(agent, back)
        except InvalidError as error:
            log.warning("operation_not_reverted", agent=agent.id, error=str(error))
        log.warning("operation_failed", agent=agent.id, message=record.latest_status.message)
        self._poke((agent.id,))

    def acknowledge(self, framework: Framework, its: AcknowledgeOperationStatus) -> None:
        """Pass an acknowledgement on; one that nobody waits for is ignored."""
        agent = self._cluster.agents.get(its.agent_id.value if its.agent_id is not None else "")
        if agent is None or not agent.is_connected:
            return
        for uuid, record in agent.operations.items():
            if record.info.id == its.operation_id and record.framework_id == framework.info.id:
                self._acknowledged(agent, uuid, its.uuid)
                return

    def _acknowledged(self, agent: Agent, operation_uuid: bytes, status_uuid: bytes) -> None:
        record = agent.operations.get(operation_uuid)
        if record is not None:
            latest = record.latest_status
            is_latest = latest.uuid is not None and latest.uuid.value == status_uuid
            if is_latest and latest.state in OVER:
                del agent.operations[operation_uuid]
        done = AcknowledgeOperation(operation_uuid=operation_uuid, status_uuid=status_uuid)
        tell_agent(agent, AgentEvent(type="ACKNOWLEDGE_OPERATION", acknowledge_operation=done))

    def reconcile(self, framework: Framework, asked: tuple[ReconcileOperation, ...]) -> None:
        """Tell the state of each operation asked for, or of all that the framework named."""
        known = {
            record.info.id.value: (agent, record)
            for agent in self._cluster.agents.values()
            for record in agent.operations.values()
            if record.info.id is not None and record.framework_id == framework.info.id
        }
        if not asked:
            for agent, record in known.values():
                send_operation_status(framework, _latest(agent, record))
        for item in asked:
            found = known.get(item.operation_id.value)
            status = _latest(*found) if found is not None else self._unknown(item)
            send_operation_status(framework, status)

    def _unknown(self, item: ReconcileOperation) -> OperationStatus:
        state, why = "OPERATION_UNKNOWN", "Operation is unknown and no 'agent_id' was provided"
        if item.agent_id is not None:
            id = item.agent_id.value
            agent = self._cluster.agents.get(id)
            if id in self._cluster.recovered:
                state, why = "OPERATION_RECOVERING", "Agent is recovered but has not re-registered"
            elif agent is not None and agent.liveness is Liveness.UNREACHABLE:
                state, why = "OPERATION_UNREACHABLE", "Agent is unreachable"
            elif agent is not None:
                why = "Operation is unknown"
            elif id in self._cluster.gone:
                state, why = "OPERATION_GONE_BY_OPERATOR", "Agent marked gone by operator"
            else:
                why = "Both operation and agent are unknown"
        return OperationStatus(
            operation_id=item.operation_id,
            state=state,
            message=f"Reconciliation: {why}",
            agent_id=item.agent_id,
            resource_provider_id=item.resource_provider_id,
        )


def _of(status: OperationStatus, agent: Agent) -> OperationStatus:
    """Return *status* as of the agent that reports it, whatever agent it names."""
    return msgspec.structs.replace(status, agent_id=AgentID(value=agent.id))


def _latest(agent: Agent, record: OperationRecord) -> OperationStatus:
    """Return the newest state of an operation, as an answer that nobody acknowledges."""
    latest = record.latest_status
    state = latest.state
    if agent.liveness is Liveness.UNREACHABLE:
        state = "OPERATION_UNREACHABLE"
    return msgspec.structs.replace(
        _of(latest, agent), operation_id=record.info.id, state=state, uuid=None
    )
