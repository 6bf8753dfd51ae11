"""What frameworks do with offers: accept, decline, suppress, revive; inverse ones (§1.4, §5.4)."""

from collections.abc import Iterable, Sequence

import structlog

from phalanx.master.allocator.poke import Poke
from phalanx.master.clock import Clock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.filter import refusal_seconds
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.offer import Outstanding
from phalanx.master.cluster.task import staged, time_info
from phalanx.master.event import ExecutorKey
from phalanx.master.identity import agent_pid
from phalanx.master.post.agent import (
    run_group,
    run_task,
)
from phalanx.master.post.framework import send_operation_status, send_update
from phalanx.master.scheduler.accept import (
    Convert,
    Run,
    RunGroup,
    Step,
    dropped,
    failed,
    offers_problem,
    outcome,
)
from phalanx.master.scheduler.bench import Bench
from phalanx.master.scheduler.operations import Conversions
from phalanx.mesos.resources import Resources, summed
from phalanx.mesos.v1.allocator import InverseOfferStatus
from phalanx.mesos.v1.mesos import Filters, OfferID, Operation, TaskStatus
from phalanx.mesos.v1.scheduler import (
    Accept,
    Decline,
    Roles,
)

log = structlog.get_logger()


class Offers:
    """Carries out calls about offers; an offer that was used or refused is no more."""

    def __init__(
        self,
        cluster: Cluster,
        conversions: Conversions,
        clock: Clock,
        *,
        poke: Poke,
        interval: float,
    ) -> None:
        self._cluster = cluster
        self._conversions = conversions
        self._clock = clock
        self._poke = poke
        self._interval = interval

    def accept(self, framework: Framework, accept: Accept) -> None:
        """Use offers as the framework says, and leave the rest of them to others."""
        problem = offers_problem(accept.offer_ids, self._cluster.offers, framework.id)
        offers = self._take(framework, accept.offer_ids)
        agent = self._cluster.agents.get(offers[0].agent_id) if offers else None
        if problem is not None or agent is None:
            log.info("accept_dropped", framework=framework.id, problem=problem)
            self._drop(
                framework,
                accept.operations,
                f"Task launched with invalid offers: {problem}",
                f"Operation attempted with invalid offers: {problem}",
                "REASON_INVALID_OFFERS",
            )
            self._poke({offer.agent_id for offer in offers})
            return
        if not agent.is_connected:
            why = "Agent disconnected"
            self._drop(framework, accept.operations, why, why, "REASON_AGENT_DISCONNECTED")
            return
        role = offers[0].role
        offered = offers[0].resources if len(offers) == 1 else summed(o.resources for o in offers)
        bench = self._bench(framework, agent, role, offered, accept)
        result = outcome(accept.operations, bench, wall=self._clock.wall())
        for status in result.refused:
            if isinstance(status, TaskStatus):
                log.info("task_refused", task=status.task_id.value, problem=status.message)
                send_update(framework, status)
            else:
                log.info("operation_refused", framework=framework.id, problem=status.message)
                send_operation_status(framework, status)
        for step in result.steps:
            self._carry_out_step(framework, agent, step)
        is_pass = not accept.operations
        self._refuse(framework, role, agent.id, result.unused, accept.filters, is_pass=is_pass)

    def _drop(
        self,
        framework: Framework,
        operations: Sequence[Operation],
        of_tasks: str,
        of_operations: str,
        reason: str,
    ) -> None:
        wall = self._clock.wall()
        for status in dropped(
            operations, framework.info, message=of_tasks, reason=reason, wall=wall
        ):
            send_update(framework, status)
        for failure in failed(operations, message=of_operations):
            send_operation_status(framework, failure)

    def _bench(
        self, framework: Framework, agent: Agent, role: str, offered: Resources, accept: Accept
    ) -> Bench:
        capabilities = {capability.type for capability in agent.capabilities}
        pid = agent_pid(agent.address, agent.info.port)
        return Bench(
            agent_id=agent.id,
            role=role,
            available=offered,
            taken_ids=framework.tasks,
            unreachable_ids=framework.unreachable,
            framework_id=framework.id,
            executors=agent.executors,
            groups=self._groups(framework, agent, accept),
            label=f"agent {agent.id} at {pid} ({agent.info.hostname})",
            total=agent.total,
            used=agent.used,
            roles=framework.roles,
            principal=framework.info.principal,
            takes_shared=framework.has("SHARED_RESOURCES"),
            takes_limits=not capabilities or "TASK_RESOURCE_LIMITS" in capabilities,
        )

    def _groups(
        self, framework: Framework, agent: Agent, accept: Accept
    ) -> dict[ExecutorKey, bool]:
        """Return how the task groups share cgroups that run where more are to be launched."""
        groups: dict[ExecutorKey, bool] = {}
        for operation in accept.operations:
            if operation.launch_group is None:
                continue
            executor_id = operation.launch_group.executor.executor_id
            if (framework.id, executor_id.value) not in agent.executors:
                continue
            for task in framework.tasks.values():
                if task.executor_id == executor_id and task.agent_id.value == agent.id:
                    linux = task.container.linux_info if task.container is not None else None
                    groups[framework.id, executor_id.value] = linux is None or linux.share_cgroups
                    break
        return groups

    def _carry_out_step(self, framework: Framework, agent: Agent, step: Step) -> None:
        match step:
            case Run(task):
                if task.executor is not None:
                    self._cluster.add_executor(framework, agent, task.executor)
                self._cluster.add_task(staged(task, framework.info))
                run_task(agent, framework.info, task)
                log.debug("task_launched", task=task.task_id.value, agent=agent.id)
            case RunGroup(executor, tasks):
                self._cluster.add_executor(framework, agent, executor)
                for task in tasks:
                    self._cluster.add_task(staged(task, framework.info))
                run_group(agent, framework.info, executor, tasks)
                log.debug("group_launched", tasks=len(tasks), agent=agent.id)
            case Convert(operation, conversion):
                self._conversions.begin(framework, agent, operation, conversion)

    def decline(self, framework: Framework, decline: Decline) -> None:
        """Give offers back."""
        for offer in self._take(framework, decline.offer_ids):
            self._refuse(framework, offer.role, offer.agent_id, offer.resources, decline.filters)

    def _take(self, framework: Framework, ids: Iterable[OfferID]) -> list[Outstanding]:
        """Take back those of the offers that are the framework's own and outstanding."""
        taken = []
        for id in dict.fromkeys(item.value for item in ids):
            offer = self._cluster.offers.get(id)
            if offer is not None and offer.framework_id == framework.id:
                self._cluster.remove_offer(offer)
                taken.append(offer)
        return taken

    def _refuse(
        self,
        framework: Framework,
        role: str,
        agent_id: str,
        refused: Resources,
        filters: Filters | None,
        *,
        is_pass: bool = True,
    ) -> None:
        """Leave what was not used to others, and to this one when its filter is over."""
        seconds = None if filters is None else filters.refuse_seconds
        lives = refusal_seconds(seconds, interval=self._interval)
        until = None if lives is None else self._clock.now() + lives
        client = framework.id, role
        self._cluster.filters.refuse(client, agent_id, refused, until, is_pass=is_pass)
        # Others may want what this one refused; who refused without a filter gets it again.
        self._poke((agent_id,))

    def revive(self, framework: Framework, revive: Roles) -> None:
        """Offer the framework again what it refused, in some of its roles."""
        roles = set(revive.roles or framework.roles)
        if not roles <= set(framework.roles):
            log.info("revive_ignored", framework=framework.id, roles=sorted(roles))
            return
        framework.suppressed -= roles
        self._cluster.filters.revive(framework.id, roles)
        self._poke()

    def suppress(self, framework: Framework, suppress: Roles) -> None:
        """Offer the framework nothing more in some of its roles."""
        roles = set(suppress.roles or framework.roles)
        if roles <= set(framework.roles):
            framework.suppressed |= roles

    def answer(
        self,
        framework: Framework,
        ids: Iterable[OfferID],
        status: str,
        filters: Filters | None,
    ) -> None:
        """Note whether the framework means to leave; offers that are void are passed over."""
        assert framework.info.id is not None  # every framework of the cluster has one
        for id in ids:
            offer = self._cluster.inverse_offers.get(id.value)
            if offer is None or offer.framework_id != framework.id:
                continue
            self._cluster.remove_inverse_offer(offer)
            agent = self._cluster.agents.get(offer.agent_id)
            if agent is None:
                continue
            agent.inverse_statuses[framework.id] = InverseOfferStatus(
                status=status,
                framework_id=framework.info.id,
                timestamp=time_info(self._clock.wall()),
            )
            seconds = None if filters is None else filters.refuse_seconds
            lives = refusal_seconds(seconds, interval=self._interval)
            until = None if lives is None else self._clock.now() + lives
            self._cluster.filters.refuse_inverse(framework.id, agent.id, until)
