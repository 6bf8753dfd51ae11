"""From results of probes to health: what to tell, and when to kill (reference mesos §2.5); pure."""

from dataclasses import dataclass, replace

from phalanx.mesos.v1.mesos import HealthCheck


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a task's health; *healthy* is None until the first word on it."""

    healthy: bool | None = None
    has_been_healthy: bool = False
    failures: int = 0  # in a row


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from one probe: a status to send, a task to kill."""

    tell: bool = False
    kill: bool = False


def judge(
    check: HealthCheck, health: Health, *, passed: bool, age_seconds: float
) -> tuple[Health, Verdict]:
    """Take one probe's result; *age_seconds* is the time since the task began to run.

    A failure within the grace period of a task that was never healthy counts for nothing.
    """
    if passed:
        now = Health(healthy=True, has_been_healthy=True)
        return now, Verdict(tell=health.healthy is not True)
    if not health.has_been_healthy and age_seconds < check.grace_period_seconds:
        return health, Verdict()
    failures = health.failures + 1
    now = replace(health, healthy=False, failures=failures)
    return now, Verdict(tell=True, kill=failures >= max(check.consecutive_failures, 1))
