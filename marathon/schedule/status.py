"""What a status update makes of an instance (reference marathon §3.6)."""

from dataclasses import dataclass

import msgspec

from phalanx.marathon.model.app import UnreachableStrategy
from phalanx.marathon.model.instance import Condition, Instance, Launched
from phalanx.marathon.model.spec import Spec
from phalanx.mesos.v1.mesos import TERMINAL, TaskState, TaskStatus

_LOST_BUT_PERHAPS_ALIVE = frozenset(
    {"REASON_RECONCILIATION", "REASON_AGENT_DISCONNECTED", "REASON_AGENT_REMOVED",
     "REASON_SLAVE_DISCONNECTED", "REASON_SLAVE_REMOVED"}
)  # fmt: skip
_CONDITION = {
    TaskState.TASK_STAGING: Condition.STAGING,
    TaskState.TASK_STARTING: Condition.STARTING,
    TaskState.TASK_RUNNING: Condition.RUNNING,
    TaskState.TASK_KILLING: Condition.KILLING,
    TaskState.TASK_UNREACHABLE: Condition.UNREACHABLE,
}
FAILURES = frozenset(
    {
        TaskState.TASK_FAILED,
        TaskState.TASK_ERROR,
        TaskState.TASK_LOST,
        TaskState.TASK_DROPPED,
        TaskState.TASK_GONE,
        TaskState.TASK_GONE_BY_OPERATOR,
        TaskState.TASK_UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The instance after an update; None if it is no more. *ended* if its task is no more."""

    instance: Instance | None
    ended: bool


def state_of(status: TaskStatus) -> TaskState:
    """Return the state, TASK_LOST told apart by its reason."""
    if status.state is TaskState.TASK_LOST:
        if status.reason in _LOST_BUT_PERHAPS_ALIVE:
            return TaskState.TASK_UNREACHABLE
        return TaskState.TASK_GONE
    return status.state


def after_update(app: Spec | None, instance: Instance, status: TaskStatus, now: float) -> Outcome:
    """Return what *status*, about the instance's present task, makes of it.

    The next incarnation of a task that ended is scheduled if the instance is
    wanted. A task that is unreachable counts as ended where the app forgets
    such a task at once. Where an operator says that an agent is gone for good,
    so are the volumes on it.
    """
    state = state_of(status)
    launched = instance.launched
    gone = state is TaskState.TASK_UNREACHABLE and (
        forgets_unreachable(app) or not instance.is_wanted
    )
    if state is TaskState.TASK_GONE_BY_OPERATOR:
        instance = msgspec.structs.replace(instance, reservation=None)
    if state in TERMINAL or state is TaskState.TASK_UNKNOWN or gone or launched is None:
        return Outcome(after_end(app, instance, now), ended=True)
    condition = _CONDITION[state]
    return Outcome(
        msgspec.structs.replace(
            instance,
            condition=condition,
            since=instance.since if condition is instance.condition else now,
            launched=_updated(launched, status, state, now),
        ),
        ended=False,
    )


def forgets_unreachable(app: Spec | None) -> bool:
    """Tell whether an unreachable instance counts as ended at once."""
    return app is None or (
        isinstance(app.unreachable_strategy, UnreachableStrategy)
        and app.unreachable_strategy.expunge_after_seconds == 0
    )


def after_end(app: Spec | None, instance: Instance, now: float) -> Instance | None:
    """Return what remains of an instance whose task ended: the next incarnation if it is wanted.

    One that has volumes is kept, stopped, while there is its app.
    """
    if instance.is_wanted:
        return next_incarnation(instance, now)
    if app is None or instance.reservation is None or instance.wiped:
        return None
    stopped = next_incarnation(instance, now)
    return msgspec.structs.replace(stopped, condition=Condition.STOPPED)


def next_incarnation(instance: Instance, now: float) -> Instance:
    """Return the instance waiting to be launched once more, as a new task."""
    return msgspec.structs.replace(
        instance,
        incarnation=instance.incarnation + 1,
        condition=Condition.SCHEDULED,
        since=now,
        doomed=False,
        launched=None,
    )


def addresses_in(status: TaskStatus) -> tuple[str, ...]:
    """Return the addresses of the container that *status* tells."""
    container = status.container_status
    return tuple(
        address.ip_address
        for network in (container.network_infos if container is not None else ())
        for address in network.ip_addresses
        if address.ip_address is not None
    )


def _updated(launched: Launched, status: TaskStatus, state: TaskState, now: float) -> Launched:
    addresses = addresses_in(status)
    is_start = state is TaskState.TASK_RUNNING and launched.started_at is None
    started = (status.timestamp or now) if is_start else launched.started_at
    return msgspec.structs.replace(
        launched,
        state=state,
        started_at=started,
        addresses=addresses or launched.addresses,
        healthy=launched.healthy if status.healthy is None else status.healthy,
    )
