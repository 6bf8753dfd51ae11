"""Probe a task again and again, and say what follows."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from phalanx.agent.health.outcome import (
    Outcome,
    asked_by_check,
    asked_by_health,
    check_status,
    kind_of,
    trouble,
)
from phalanx.agent.health.probe import Target, probe
from phalanx.agent.health.verdict import Health, judge
from phalanx.core.error import InvalidError
from phalanx.mesos.v1.mesos import (
    CheckInfo,
    CheckStatusInfo,
    HealthCheck,
    HealthCheckType,
    TaskInfo,
    TaskStatus,
)

SHORTEST_INTERVAL = 0.05  # seconds
HEALTH_REASON = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"
CHECK_REASON = "REASON_TASK_CHECK_STATUS_UPDATED"


@dataclass(frozen=True, slots=True)
class Word:
    """What a TASK_RUNNING status is to say, and whether the task is to be killed for it."""

    reason: str
    message: str | None = None
    healthy: bool | None = None  # None: no news of it
    check_status: CheckStatusInfo | None = None  # None: no news of it
    kill: bool = False


Probe = Callable[[], Awaitable[str]]
Look = Callable[[], Awaitable[Outcome]]
Tell = Callable[[Word], Awaitable[None]]


def first_check_status(task: TaskInfo) -> CheckStatusInfo | None:
    """Return what every status of a task with a check carries until the first result."""
    return check_status(task.check) if task.check is not None else None


async def watch_task(
    task: TaskInfo,
    target: Target,
    *,
    last: TaskStatus | None,
    tell: Tell,
    age_seconds: Callable[[], float],
) -> None:
    """Check a running task until it is to be killed, or for ever; without checks return at once.

    *last* is the newest status of a task that was checked before, by an
    earlier agent; *age_seconds* counts from the start of the task.
    """
    async with asyncio.TaskGroup() as group:
        health, check = task.health_check, task.check
        if health is not None and kind_of(health) != HealthCheckType.UNKNOWN:
            healthy = last.healthy if last is not None else None
            group.create_task(
                watch_health(
                    health,
                    Health(healthy=healthy, has_been_healthy=healthy is not None),
                    probe=lambda: _trouble_of(target, health),
                    tell=tell,
                    age_seconds=age_seconds,
                )
            )
        if check is not None and kind_of(check) != HealthCheckType.UNKNOWN:
            known = last.check_status if last is not None else None
            group.create_task(
                watch_check(
                    check,
                    known or check_status(check),
                    look=lambda: _outcome_of(target, check),
                    tell=tell,
                    age_seconds=age_seconds,
                )
            )


async def watch_health(
    check: HealthCheck,
    health: Health,
    *,
    probe: Probe,
    tell: Tell,
    age_seconds: Callable[[], float],
) -> None:
    """Probe until a verdict kills the task; *probe* returns what is wrong, or nothing."""
    await asyncio.sleep(max(check.delay_seconds - age_seconds(), 0.0))
    while True:
        words = await probe()
        health, verdict = judge(check, health, passed=not words, age_seconds=age_seconds())
        if verdict.tell:
            message = f"Health check failed: {words}" if words else None
            if verdict.kill:
                times = health.failures
                message = f"Health check failed {times} times in a row: {words}"
            await tell(Word(HEALTH_REASON, message, healthy=health.healthy, kill=verdict.kill))
        if verdict.kill:
            return
        await asyncio.sleep(max(check.interval_seconds, SHORTEST_INTERVAL))


async def watch_check(
    check: CheckInfo,
    known: CheckStatusInfo,
    *,
    look: Look,
    tell: Tell,
    age_seconds: Callable[[], float],
) -> None:
    """Look for ever, and tell whatever differs from what is *known*."""
    await asyncio.sleep(max(check.delay_seconds - age_seconds(), 0.0))
    while True:
        outcome = await look()
        now = check_status(check, outcome)
        if now != known:
            known = now
            await tell(Word(CHECK_REASON, outcome.words or None, check_status=now))
        await asyncio.sleep(max(check.interval_seconds, SHORTEST_INTERVAL))


async def _trouble_of(target: Target, check: HealthCheck) -> str:
    try:
        asked = asked_by_health(check)
    except InvalidError as error:
        return str(error)
    return trouble(asked, await probe(target, asked, timeout_seconds=check.timeout_seconds))


async def _outcome_of(target: Target, check: CheckInfo) -> Outcome:
    try:
        asked = asked_by_check(check)
    except InvalidError as error:
        return Outcome(None, str(error))
    return await probe(target, asked, timeout_seconds=check.timeout_seconds)
