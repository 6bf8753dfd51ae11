"""What a status update of one container makes of a pod's instance (reference marathon §1.10, §3.6).

The agent ends the other containers when one fails. So does this, in case the agent could not.
"""

import re
from collections.abc import Collection, Sequence

import msgspec

from phalanx.marathon.model.instance import Condition, Instance, Launched, Member
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.status import (
    Outcome,
    addresses_in,
    after_end,
    forgets_unreachable,
    state_of,
)
from phalanx.mesos.v1.mesos import TERMINAL, TaskState, TaskStatus

ENDED = TERMINAL | {TaskState.TASK_UNKNOWN}
_EXIT = re.compile(r"exit(?:ed)? (?:with )?status (\d+)")


def after_member_update(
    pod: Spec | None, instance: Instance, container: str, status: TaskStatus, now: float
) -> Outcome:
    """Return what *status*, about one container of the instance's present group, makes of it.

    The group is over when all its containers are; the next incarnation is scheduled
    then if the instance is wanted.
    """
    launched, state = instance.launched, state_of(status)
    if launched is None:
        return Outcome(instance, ended=False)
    if state is TaskState.TASK_UNREACHABLE and (forgets_unreachable(pod) or not instance.is_wanted):
        return _over(pod, instance, now)
    if state is TaskState.TASK_GONE_BY_OPERATOR:  # and so are the volumes on that agent
        instance = msgspec.structs.replace(instance, reservation=None)
    members = tuple(
        _updated(member, status, state, now) if member.name == container else member
        for member in launched.members
    )
    if all(member.state in ENDED for member in members):
        return _over(pod, instance, now)
    has_failed = any(_has_failed(member) for member in members)
    condition = _condition(members)
    return Outcome(
        msgspec.structs.replace(
            instance,
            condition=condition,
            since=instance.since if condition is instance.condition else now,
            doomed=instance.doomed or has_failed,
            launched=_with(launched, members, addresses_in(status)),
        ),
        ended=False,
    )


def living(launched: Launched) -> Collection[str]:
    """Return the names of the containers that have not ended."""
    return [member.name for member in launched.members if member.state not in ENDED]


def _over(pod: Spec | None, instance: Instance, now: float) -> Outcome:
    return Outcome(after_end(pod, instance, now), ended=True)


def _has_failed(member: Member) -> bool:
    return member.state in ENDED and member.state is not TaskState.TASK_FINISHED


def _condition(members: Sequence[Member]) -> Condition:
    states = {member.state for member in members if member.state not in ENDED}
    if TaskState.TASK_UNREACHABLE in states:
        return Condition.UNREACHABLE
    if TaskState.TASK_KILLING in states or any(_has_failed(member) for member in members):
        return Condition.KILLING
    if TaskState.TASK_STAGING in states:
        return Condition.STAGING
    if TaskState.TASK_STARTING in states:
        return Condition.STARTING
    return Condition.RUNNING


def _updated(member: Member, status: TaskStatus, state: TaskState, now: float) -> Member:
    is_start = state is TaskState.TASK_RUNNING and member.started_at is None
    found = _EXIT.search(status.message or "")
    is_over = state in ENDED
    return msgspec.structs.replace(
        member,
        state=state,
        since=now if state is not member.state else member.since,
        started_at=(status.timestamp or now) if is_start else member.started_at,
        healthy=member.healthy if status.healthy is None else status.healthy,
        message=status.message or "",
        exit_status=int(found[1]) if found and is_over else member.exit_status,
    )


def _with(launched: Launched, members: tuple[Member, ...], addresses: tuple[str, ...]) -> Launched:
    starts = [member.started_at for member in members]
    begun = [start for start in starts if start is not None]
    is_up = len(begun) == len(starts)
    return msgspec.structs.replace(
        launched,
        members=members,
        addresses=addresses or launched.addresses,
        started_at=max(begun) if is_up else None,
        state=TaskState.TASK_RUNNING if is_up else launched.state,
    )
