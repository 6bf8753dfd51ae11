"""What each call of a subscribed framework does (reference mesos §1.4, §1.5)."""

from collections.abc import Iterable

import structlog

from phalanx.master.agents.post import acknowledge, kill_task, run_task
from phalanx.master.allocator.filter import refusal_seconds
from phalanx.master.allocator.poke import Poke
from phalanx.master.clock import Clock
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.offer import Outstanding
from phalanx.master.cluster.task import staged
from phalanx.master.scheduler.accept import dropped, offers_problem, outcome
from phalanx.master.scheduler.frameworks import Frameworks
from phalanx.master.scheduler.post import send_update
from phalanx.master.scheduler.reconcile import Known, explicit_answers, implicit_answers
from phalanx.mesos.agent_protocol import KillTask
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import TERMINAL, Filters, OfferID
from phalanx.mesos.v1.scheduler import (
    Accept,
    Acknowledge,
    Call,
    Decline,
    Kill,
    Reconcile,
    ReconcileTask,
    Roles,
)
from phalanx.net.model.objects import Liveness

log = structlog.get_logger()


class Calls:
    """Carries out the calls of frameworks."""

    def __init__(
        self,
        cluster: Cluster,
        frameworks: Frameworks,
        clock: Clock,
        *,
        poke: Poke,
        interval: float,
    ) -> None:
        self._cluster = cluster
        self._frameworks = frameworks
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
            case Call(type="DECLINE", decline=Decline() as decline):
                self._decline(framework, decline)
            case Call(type="REVIVE"):
                self._revive(framework, call.revive or Roles())
            case Call(type="SUPPRESS"):
                self._suppress(framework, call.suppress or Roles())
            case Call(type="KILL", kill=Kill() as kill):
                self._kill(framework, kill)
            case Call(type="ACKNOWLEDGE", acknowledge=Acknowledge() as its):
                self._acknowledge(framework, its)
            case Call(type="RECONCILE", reconcile=Reconcile() as reconcile):
                self._reconcile(framework, reconcile)
            case Call(type="TEARDOWN"):
                self._frameworks.remove(framework, "teardown")
            case Call(type="UPDATE_FRAMEWORK") if call.update_framework is not None:
                self._frameworks.update(framework, call.update_framework)
            case _:  # SHUTDOWN, MESSAGE: there are no custom executors; REQUEST: a hint
                log.debug("call_ignored", framework=framework.id, type=call.type)

    def _accept(self, framework: Framework, accept: Accept) -> None:
        problem = offers_problem(accept.offer_ids, self._cluster.offers, framework.id)
        offers = self._take(framework, accept.offer_ids)
        reason = "REASON_INVALID_OFFERS"
        agent = self._cluster.agents.get(offers[0].agent_id) if offers else None
        if problem is None and (agent is None or not agent.is_connected):
            problem, reason = "Agent is disconnected", "REASON_AGENT_DISCONNECTED"
        if problem is not None or agent is None:
            log.info("accept_dropped", framework=framework.id, problem=problem)
            for status in dropped(
                accept.operations,
                framework.info,
                problem=problem or "",
                reason=reason,
                wall=self._clock.wall(),
            ):
                send_update(framework, status)
            self._poke()
            return
        result = outcome(
            accept.operations,
            _sum(offers),
            agent_id=agent.id,
            role=offers[0].role,
            taken_ids=framework.tasks.keys(),
            unreachable_ids=framework.unreachable.keys(),
            wall=self._clock.wall(),
        )
        for launch in result.launches:
            self._cluster.add_task(staged(launch, framework.info))
            run_task(agent, framework.info, launch)
            log.info(
                "task_launched", framework=framework.id, task=launch.task_id.value, agent=agent.id
            )
        for status in result.refusals:
            log.info("task_refused", task=status.task_id.value, problem=status.message)
            send_update(framework, status)
        self._refuse(
            framework,
            offers[0].role,
            agent.id,
            result.unused,
            accept.filters,
            is_pass=not accept.operations,
        )

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
        known = self._known(framework)
        wall = self._clock.wall()
        answers = (
            explicit_answers(reconcile.tasks, known, framework.info, wall)
            if reconcile.tasks
            else implicit_answers(known, wall)
        )
        for status in answers:
            send_update(framework, status)

    def _known(self, framework: Framework) -> Known:
        agents = self._cluster.agents.values()
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


def _sum(offers: Iterable[Outstanding]) -> Resources:
    total = Resources()
    for offer in offers:
        total += offer.resources
    return total
