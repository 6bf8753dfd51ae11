"""Operations on an agent's resources that operators ask for (reference mesos §3.1)."""

from collections.abc import Callable

import structlog

from phalanx.core.error import ConflictError, InvalidError
from phalanx.master.allocator.poke import Poke
from phalanx.master.clock import Clock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.offer import Outstanding
from phalanx.master.identity import agent_pid
from phalanx.master.post.agent import tell
from phalanx.master.post.framework import rescind, rescind_shared
from phalanx.master.scheduler.bench import Bench
from phalanx.master.scheduler.operation_check import RULES, resources_of_operation
from phalanx.master.scheduler.operations import PENDING
from phalanx.master.scheduler.resource_check import form_problem
from phalanx.master.scheduler.wording import words_of
from phalanx.mesos.agent_protocol import AgentEvent, ApplyOperation
from phalanx.mesos.operation import Conversion, conversion_of
from phalanx.mesos.v1.mesos import UUID, AgentID, Operation, OperationRecord, OperationStatus

log = structlog.get_logger()

REFUSE_SECONDS = 5.0  # that a framework isn't offered what it had to give back
NAMELESS = frozenset({"UNRESERVE", "DESTROY"})  # whose refusals don't name the agent


class Operations:
    """Carries out operators' operations: into the books at once, then at the agent."""

    def __init__(
        self, cluster: Cluster, clock: Clock, *, poke: Poke, new_uuid: Callable[[], bytes]
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._poke = poke
        self._new_uuid = new_uuid

    def apply(self, agent_id: str, operation: Operation) -> None:
        """Carry out *operation* on an agent.

        Offers of what it needs are taken back one by one until it fits. Raises
        InvalidError when it can't be meant, and ConflictError when the agent
        has not enough that is free.
        """
        agent = self._cluster.agents.get(agent_id)
        if agent is None:
            raise InvalidError("No agent found with specified ID")
        conversion = conversion_on(agent, operation)
        if not agent.is_connected:
            raise ConflictError(f"Agent {agent_id} is disconnected")
        self._make_room(agent, conversion)
        if conversion.consumed not in agent.free:
            raise ConflictError(
                f"{words_of(agent.free, None)} does not contain"
                f" {words_of(conversion.consumed, None)}"
            )
        rescind_shared(self._cluster, agent, conversion.consumed)
        self._cluster.convert(agent, conversion)
        uuid = self._new_uuid()
        agent.operations[uuid] = OperationRecord(
            agent_id=AgentID(value=agent.id),
            info=operation,
            latest_status=OperationStatus(state=PENDING),
            uuid=UUID(value=uuid),
        )
        apply = ApplyOperation(operation_uuid=uuid, operation=operation)
        tell(agent, AgentEvent(type="APPLY_OPERATION", apply_operation=apply))
        log.info("operation_applied", agent=agent_id, type=operation.type)
        self._poke([agent_id])

    def _make_room(self, agent: Agent, conversion: Conversion) -> None:
        if conversion.consumed not in agent.free + agent.offered:
            return  # nothing that frameworks give back would be enough
        missing = conversion.consumed
        for offer in self._cluster.offers_of(agent):
            if conversion.consumed in agent.free:
                return
            left = missing - offer.resources
            if left == missing:
                continue  # it would not help
            missing = left
            self._take_back(offer)

    def _take_back(self, offer: Outstanding) -> None:
        rescind(self._cluster, [offer])
        until = self._clock.now() + REFUSE_SECONDS
        client = offer.framework_id, offer.role
        self._cluster.filters.refuse(client, offer.agent_id, offer.resources, until, is_pass=False)


def conversion_on(agent: Agent, operation: Operation) -> Conversion:
    """Return what *operation* converts; raise InvalidError in Mesos' words if it can't be meant."""
    kind = operation.type or ""
    problem = form_problem(resources_of_operation(operation))
    if problem is not None:
        raise InvalidError(f"Failed to validate master::Call: {problem}")
    bench = Bench(
        agent_id=agent.id,
        role="",
        available=agent.free,
        taken_ids=(),
        unreachable_ids=(),
        total=agent.total,
        used=agent.used,
    )
    problem = RULES[kind](operation, bench)
    if problem is not None:
        problem = problem.replace("(allocated: )", "")  # these are allocated to nobody
        where = ""
        if kind not in NAMELESS:
            pid = agent_pid(agent.address, agent.info.port)
            where = f" on agent {agent.id} at {pid} ({agent.info.hostname})"
        raise InvalidError(f"Invalid {kind} operation{where}: {problem}")
    return conversion_of(operation)
