"""Frameworks: how they come, stay away, come back and end (reference mesos §1.2)."""

from collections.abc import Callable
from functools import partial

import structlog

from phalanx.core.error import InvalidError
from phalanx.master.allocator.constraint import compiled
from phalanx.master.allocator.poke import Poke
from phalanx.master.clock import Clock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.task import master_status, with_status
from phalanx.master.event import FrameworkDisconnected, FrameworkUpdated
from phalanx.master.identity import Identities
from phalanx.master.post.agent import shutdown_framework, update_framework
from phalanx.master.post.framework import rescind, tell
from phalanx.master.scheduler.framework_info import (
    Policy,
    check_info,
    check_update,
    renewed,
    with_id,
)
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.media import Media
from phalanx.mesos.v1.mesos import (
    FrameworkID,
    FrameworkInfo,
    MasterInfo,
    Task,
    TaskState,
    TaskStatus,
)
from phalanx.mesos.v1.scheduler import Error, Event, Subscribe, Subscribed, UpdateFramework

log = structlog.get_logger()

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = Event(type="HEARTBEAT")


class Frameworks:
    """The subscriptions of frameworks."""

    def __init__(
        self,
        cluster: Cluster,
        ids: Identities,
        clock: Clock,
        master: MasterInfo,
        *,
        poke: Poke,
        new_stream_id: Callable[[], str],
        policy: Policy | None = None,
    ) -> None:
        self._cluster = cluster
        self._ids = ids
        self._clock = clock
        self._master = master
        self._poke = poke
        self._new_stream_id = new_stream_id
        self._policy = policy or Policy()

    def subscribe(
        self, subscribe: Subscribe, media: Media = Media.JSON
    ) -> tuple[Framework | None, Stream]:
        """Return the framework and its new stream; without a framework the stream holds an ERROR.

        The newest subscriber of a framework always wins.
        """
        stream = Stream(self._new_stream_id(), media=media)
        try:
            framework = self._admit(subscribe)
        except InvalidError as error:
            log.warning("framework_refused", error=str(error), name=subscribe.framework_info.name)
            stream.send(Event(type="ERROR", error=Error(message=str(error))))
            stream.close()
            return None, stream
        framework.stream = stream
        framework.expires = None
        framework.is_recovered = False
        framework.suppressed = frozenset(subscribe.suppressed_roles)
        framework.constraints = subscribe.offer_constraints
        self._cluster.filters.forget_framework(framework.id)
        if framework.id in self._cluster.frameworks:
            self._cluster.bus.publish(FrameworkUpdated(framework.id))
        else:
            self._cluster.add_framework(framework)
        subscribed = Subscribed(
            framework_id=FrameworkID(value=framework.id),
            heartbeat_interval_seconds=HEARTBEAT_SECONDS,
            master_info=self._master,
        )
        tell(framework, Event(type="SUBSCRIBED", subscribed=subscribed))
        stream.send(HEARTBEAT)
        log.info("framework_subscribed", framework=framework.id, name=framework.info.name)
        self._poke()
        return framework, stream

    def _admit(self, subscribe: Subscribe) -> Framework:
        info = subscribe.framework_info
        check_info(info, subscribe.suppressed_roles, self._policy)
        compiled(subscribe.offer_constraints, self._policy.regex_limits)
        id = info.id.value if info.id is not None else ""
        if id in self._cluster.removed:
            raise InvalidError("Framework has been removed")
        wall = self._clock.wall()
        known = self._cluster.frameworks.get(id)
        if known is None:
            framework = Framework(
                with_id(info, id or self._ids.framework()), registered=wall, reregistered=wall
            )
            return framework
        known.info = renewed(known.info, info)
        known.reregistered = wall
        if known.stream is not None:
            error = Error(message="Framework failed over")
            tell(known, Event(type="ERROR", error=error))
            known.stream.close()
            known.stream = None
        self._withdraw_offers(known)
        self._tell_agents(known)
        return known

    def update(self, framework: Framework, update: UpdateFramework) -> None:
        """Change a framework's info in place; raises InvalidError when it must not be."""
        try:
            check_info(update.framework_info, update.suppressed_roles, self._policy)
        except InvalidError as error:
            raise InvalidError(f"Supplied FrameworkInfo is not valid: {error}") from error
        try:
            compiled(update.offer_constraints, self._policy.regex_limits)
        except InvalidError as error:
            raise InvalidError(
                f"'UpdateFramework.offer_constraints' are not valid: {error}"
            ) from error
        try:
            check_update(framework.info, update.framework_info)
        except InvalidError as error:
            raise InvalidError(f"FrameworkInfo update is not valid: {error}") from error
        framework.info = with_id(update.framework_info, framework.id)
        framework.suppressed = frozenset(update.suppressed_roles)
        framework.constraints = update.offer_constraints
        offers = [self._cluster.offers[id] for id in framework.offers]
        rescind(self._cluster, [offer for offer in offers if offer.role not in framework.roles])
        self._tell_agents(framework)
        self._cluster.bus.publish(FrameworkUpdated(framework.id))
        self._poke()

    def _tell_agents(self, framework: Framework) -> None:
        """Send a framework's new info to every agent that holds something of it."""
        for agent in self._holders(framework):
            update_framework(agent, framework.info)

    def _holders(self, framework: Framework) -> list[Agent]:
        """Return the agents with tasks or executors of a framework."""
        ids = {task.agent_id.value for task in framework.tasks.values()}
        return [
            agent
            for agent in self._cluster.agents.values()
            if agent.id in ids or any(key[0] == framework.id for key in agent.executors)
        ]

    def disconnected(self, framework: Framework, stream: Stream) -> None:
        """Note that *stream* broke; from now on the failover timeout runs."""
        if framework.stream is not stream or framework.id not in self._cluster.frameworks:
            return
        framework.stream = None
        self._withdraw_offers(framework)
        framework.expires = self._clock.now() + framework.info.failover_timeout
        log.info(
            "framework_disconnected",
            framework=framework.id,
            failover_timeout=framework.info.failover_timeout,
        )
        self._cluster.bus.publish(FrameworkDisconnected(framework.id))
        if framework.info.failover_timeout <= 0:
            self.remove(framework, "failover timeout")

    def expire(self) -> None:
        """Remove the frameworks that did not come back in time."""
        now = self._clock.now()
        late = [
            framework
            for framework in self._cluster.frameworks.values()
            if framework.expires is not None and framework.expires <= now
        ]
        for framework in late:
            self.remove(framework, "failover timeout")

    def recover(self, info: FrameworkInfo) -> None:
        """Take in a framework that an agent tells of and nobody else has yet."""
        assert info.id is not None  # agents know frameworks by their ids
        id = info.id.value
        if id not in self._cluster.frameworks and id not in self._cluster.removed:
            framework = Framework(info, registered=self._clock.wall(), is_recovered=True)
            self._cluster.add_framework(framework)

    def remove(self, framework: Framework, why: str) -> None:
        """End a framework: its tasks are killed everywhere, and its id never comes back."""
        self._withdraw_offers(framework)
        holders = self._holders(framework)
        for id in list(framework.inverse_offers):
            self._cluster.remove_inverse_offer(self._cluster.inverse_offers[id])
        killed = partial(_killed, wall=self._clock.wall())
        self._cluster.complete_all(framework, killed)
        for task in list(framework.unreachable.values()):
            ended = with_status(task, killed(task), TaskState.TASK_KILLED)
            self._cluster.complete_stranded(ended)
        for agent in holders:
            for key in [key for key in agent.executors if key[0] == framework.id]:
                self._cluster.remove_executor(agent, key)
            shutdown_framework(agent, FrameworkID(value=framework.id))
        if framework.stream is not None:
            framework.stream.close()
            framework.stream = None
        framework.unregistered = self._clock.wall()
        framework.expires = None
        self._cluster.complete_framework(framework)
        log.info("framework_removed", framework=framework.id, reason=why)
        self._poke()

    def _withdraw_offers(self, framework: Framework) -> None:
        offers = [self._cluster.offers[id] for id in framework.offers]
        for offer in offers:
            self._cluster.remove_offer(offer)
        for id in list(framework.inverse_offers):  # a new subscriber would not know them
            self._cluster.remove_inverse_offer(self._cluster.inverse_offers[id])
        self._poke({offer.agent_id for offer in offers})


def _killed(task: Task, *, wall: float) -> TaskStatus:
    return master_status(
        task.task_id.value,
        TaskState.TASK_KILLED,
        wall=wall,
        reason="REASON_FRAMEWORK_REMOVED",
        message=f"Framework {task.framework_id.value} removed",
        agent_id=task.agent_id.value,
        executor_id=task.executor_id,
    )
