"""What each call of a subscribed framework does (reference mesos §1.4, §1.5)."""

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
    acknowledge,
    kill_task,
    message_executor,
    run_group,
    run_task,
    shutdown_executor,
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
from phalanx.master.scheduler.frameworks import Frameworks
from phalanx.master.scheduler.operations import Conversions
from phalanx.master.scheduler.reconcile import Known, explicit_answers, implicit_answers
from phalanx.mesos.agent_protocol import KillTask
from phalanx.mesos.resources import Resources, summed
from phalanx.mesos.v1.allocator import InverseOfferStatus
from phalanx.mesos.v1.mesos import TERMINAL, Filters, OfferID, Operation, TaskStatus
from phalanx.mesos.v1.scheduler import (
    Accept,
    AcceptInverseOffers,
    Acknowledge,
    AcknowledgeOperationStatus,
    Call,
    Decline,
    DeclineInverseOffers,
    FrameworkMessage,
    Kill,
    Reconcile,
    ReconcileOperations,
    ReconcileTask,
    Roles,
    Shutdown,
)
from phalanx.net.model.objects import Liveness

log = structlog.get_logger()


class Calls:
    """Carries out the calls of frameworks."""

    def __init__(
        self,
        cluster: Cluster,
        frameworks: Frameworks,
        conversions: Conversions,
        clock: Clock,
        *,
        poke: Poke,
        interval: float,
    ) -> None:
        self._cluster = cluster
        self._frameworks = frameworks
        self._conversions = conversions
        self._clock = clock
        self._poke = poke
        self._interval = interval

    def carry_out(self, framework: Framework, call: Call) -> None:
        """Do what *call*, already found well formed, asks for.

        Raises InvalidError for an UPDATE_FRAMEWORK that must not be; everything
        else that can't be done is told by events, or ignored as Mesos does.
        """
        match call:
            case Call(type="ACCEPT", accept=Accept() as accept):
                self._accept(framework, accept)
            case Call(type="ACKNOWLEDGE", acknowledge=Acknowledge() as its):
                self._acknowledge(framework, its)
            case Call(type="DECLINE", decline=Decline() as decline):
                self._decline(framework, decline)
            case Call(type="REVIVE"):
                self._revive(framework, call.revive or Roles())
            case Call(type="SUPPRESS"):
                self._suppress(framework, call.suppress or Roles())
            case Call(type="KILL", kill=Kill() as kill):
                self._kill(framework, kill)
            case Call(type="RECONCILE", reconcile=Reconcile() as reconcile):
                self._reconcile(framework, reconcile)
            case Call(type="TEARDOWN"):
                self._frameworks.remove(framework, "teardown")
            case Call(type="UPDATE_FRAMEWORK") if call.update_framework is not None:
                self._frameworks.update(framework, call.update_framework)
            case _:
                self._carry_out_rarer(framework, call)

    def _carry_out_rarer(self, framework: Framework, call: Call) -> None:
        match call:
            case Call(type="SHUTDOWN", shutdown=Shutdown() as shutdown):
                self._shut_down(framework, shutdown)
            case Call(type="MESSAGE", message=FrameworkMessage() as message):
                self._pass_on(framework, message)
            case Call(
                type="ACKNOWLEDGE_OPERATION_STATUS",
                acknowledge_operation_status=AcknowledgeOperationStatus() as its,
            ):
                self._conversions.acknowledge(framework, its)
            case Call(
                type="RECONCILE_OPERATIONS", reconcile_operations=ReconcileOperations() as asked
            ):
                self._conversions.reconcile(framework, asked.operations)
            case Call(
                type="ACCEPT_INVERSE_OFFERS", accept_inverse_offers=AcceptInverseOffers() as its
            ):
                self._answer(framework, its.inverse_offer_ids, "ACCEPT", its.filters)
            case Call(
                type="DECLINE_INVERSE_OFFERS", decline_inverse_offers=DeclineInverseOffers() as its
            ):
                self._answer(framework, its.inverse_offer_ids, "DECLINE", its.filters)
            case _:  # REQUEST: the allocator takes no requests
                log.debug("call_ignored", framework=framework.id, type=call.type)

    # Offers

    def _accept(self, framework: Framework, accept: Accept) -> None:
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

    def _decline(self, framework: Framework, decline: Decline) -> None:
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

    def _revive(self, framework: Framework, revive: Roles) -> None:
        roles = set(revive.roles or framework.roles)
        if not roles <= set(framework.roles):
            log.info("revive_ignored", framework=framework.id, roles=sorted(roles))
            return
        framework.suppressed -= roles
        self._cluster.filters.revive(framework.id, roles)
        self._poke()

    def _suppress(self, framework: Framework, suppress: Roles) -> None:
        roles = set(suppress.roles or framework.roles)
        if roles <= set(framework.roles):
            framework.suppressed |= roles

    def _answer(
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

    # Executors

    def _shut_down(self, framework: Framework, its: Shutdown) -> None:
        agent = self._cluster.agents.get(its.agent_id.value)
        assert framework.info.id is not None  # every framework of the cluster has one
        if agent is not None:
            shutdown_executor(agent, framework.info.id, its.executor_id)

    def _pass_on(self, framework: Framework, its: FrameworkMessage) -> None:
        agent = self._cluster.agents.get(its.agent_id.value)
        assert framework.info.id is not None  # every framework of the cluster has one
        if agent is not None:
            message_executor(agent, framework.info.id, its.executor_id, its.data)

    # Tasks

    def _kill(self, framework: Framework, kill: Kill) -> None:
        task = framework.tasks.get(kill.task_id.value)
        if task is None:
            asked = ReconcileTask(task_id=kill.task_id, agent_id=kill.agent_id)
            self._reconcile(framework, Reconcile(tasks=(asked,)))
            return
        if kill.agent_id is not None and kill.agent_id != task.agent_id:
            log.info("kill_ignored", task=kill.task_id.value, agent=kill.agent_id.value)
            return
        kill_task(
            self._cluster.agents[task.agent_id.value],
            KillTask(
                framework_id=task.framework_id,
                task_id=task.task_id,
                kill_policy=kill.kill_policy,
            ),
        )

    def _acknowledge(self, framework: Framework, its: Acknowledge) -> None:
        agent = self._cluster.agents.get(its.agent_id.value)
        if agent is None or not agent.is_connected:
            return  # the agent will send its update again
        task = framework.tasks.get(its.task_id.value)
        if (
            task is not None
            and task.agent_id == its.agent_id
            and task.status_update_state in TERMINAL
            and task.status_update_uuid == its.uuid
        ):
            self._cluster.complete_task(task)
        assert framework.info.id is not None  # every framework of the cluster has one
        acknowledge(agent, framework.info.id, its.task_id, its.uuid)

    def _reconcile(self, framework: Framework, reconcile: Reconcile) -> None:
        known = self._known(framework, reconcile.tasks)
        wall = self._clock.wall()
        answers = (
            explicit_answers(reconcile.tasks, known, framework.info, wall)
            if reconcile.tasks
            else implicit_answers(known, wall)
        )
        for status in answers:
            send_update(framework, status)

    def _known(self, framework: Framework, asked: Sequence[ReconcileTask]) -> Known:
        """Return what is known of the framework's tasks, and of the agents that may matter."""
        ids = {item.agent_id.value for item in asked if item.agent_id is not None}
        for item in asked:
            stranded = framework.unreachable.get(item.task_id.value)
            if stranded is not None:
                ids.add(stranded.agent_id.value)
        agents = [agent for id in ids if (agent := self._cluster.agents.get(id)) is not None]
        unreachable = {
            agent.id: agent.unreachable_since or 0.0
            for agent in agents
            if agent.liveness is Liveness.UNREACHABLE
        }
        return Known(
            framework.tasks,
            framework.unreachable,
            frozenset(agent.id for agent in agents if agent.id not in unreachable),
            unreachable,
            frozenset(self._cluster.recovered),
            self._cluster.gone,
        )
