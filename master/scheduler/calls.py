"""What each call of a subscribed framework does (reference mesos §1.4, §1.5)."""

from collections.abc import Sequence

import structlog

from phalanx.master.allocator.poke import Poke
from phalanx.master.clock import Clock
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.post.agent import (
    acknowledge,
    kill_task,
    message_executor,
    shutdown_executor,
)
from phalanx.master.post.framework import send_update
from phalanx.master.scheduler.frameworks import Frameworks
from phalanx.master.scheduler.offers import Offers
from phalanx.master.scheduler.operations import Conversions
from phalanx.master.scheduler.reconcile import Known, explicit_answers, implicit_answers
from phalanx.mesos.agent_protocol import KillTask
from phalanx.mesos.v1.mesos import TERMINAL
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
        self._offers = Offers(cluster, conversions, clock, poke=poke, interval=interval)

    def carry_out(self, framework: Framework, call: Call) -> None:
        """Do what *call*, already found well formed, asks for.

        Raises InvalidError for an UPDATE_FRAMEWORK that must not be; everything
        else that can't be done is told by events, or ignored as Mesos does.
        """
        match call:
            case Call(type="ACCEPT", accept=Accept() as accept):
                self._offers.accept(framework, accept)
            case Call(type="ACKNOWLEDGE", acknowledge=Acknowledge() as its):
                self._acknowledge(framework, its)
            case Call(type="DECLINE", decline=Decline() as decline):
                self._offers.decline(framework, decline)
            case Call(type="REVIVE"):
                self._offers.revive(framework, call.revive or Roles())
            case Call(type="SUPPRESS"):
                self._offers.suppress(framework, call.suppress or Roles())
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
                self._offers.answer(framework, its.inverse_offer_ids, "ACCEPT", its.filters)
            case Call(
                type="DECLINE_INVERSE_OFFERS", decline_inverse_offers=DeclineInverseOffers() as its
            ):
                self._offers.answer(framework, its.inverse_offer_ids, "DECLINE", its.filters)
            case _:  # REQUEST: the allocator takes no requests
                log.debug("call_ignored", framework=framework.id, type=call.type)

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
