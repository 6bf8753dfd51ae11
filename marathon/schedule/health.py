"""Health of an instance, folded from the results of its checks (reference marathon §1.7)."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from phalanx.marathon.model.app import App
from phalanx.marathon.model.check import HealthCheck
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.model.pod import PodHealthCheck
from phalanx.marathon.model.spec import Spec
from phalanx.mesos.v1.mesos import TaskState

FIRST_PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Health:
    """The latest result of one check of one task, and what led to it; times in seconds."""

    alive: bool
    consecutive_failures: int = 0
    first_success: float | None = None
    last_success: float | None = None
    last_failure: float | None = None
    last_failure_cause: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """One result: *failure* is None when the check passed, else why it did not."""

    failure: str | None


class Step(enum.Enum):
    """What follows from a probe."""

    NONE = enum.auto()
    KILL = enum.auto()


def after_probe(
    check: HealthCheck | PodHealthCheck,
    health: Health | None,
    probe: Probe,
    *,
    running_since: float,
    now: float,
) -> tuple[Health, Step]:
    """Return the health after a probe and what follows.

    Failures before the first success and inside the grace period don't count.
    """
    if probe.failure is None:
        first = now if health is None or health.first_success is None else health.first_success
        before = health or Health(alive=True)
        return replace(
            before, alive=True, consecutive_failures=0, first_success=first, last_success=now
        ), Step.NONE
    before = health or Health(alive=False)
    in_grace = before.first_success is None and now - running_since < check.grace_period_seconds
    failed = replace(before, alive=False, last_failure=now, last_failure_cause=probe.failure)
    if in_grace:
        return failed, Step.NONE
    failed = replace(failed, consecutive_failures=before.consecutive_failures + 1)
    limit = check.max_consecutive_failures
    must_die = 0 < limit <= failed.consecutive_failures
    return failed, Step.KILL if must_die else Step.NONE


def is_healthy(spec: Spec, instance: Instance, results: Mapping[int, Health]) -> bool:
    """Tell whether *instance* runs and the latest result of every check is good.

    *results* is by the check's index in the app, or the index of the container in the pod.
    """
    if instance.condition is not Condition.RUNNING or instance.doomed:
        return False
    return all(index in results and results[index].alive for index in _checked(spec, instance))


def _checked(spec: Spec, instance: Instance) -> Iterable[int]:
    """Return the checks that must pass; a container that finished needs none."""
    if isinstance(spec, App):
        return range(len(spec.health_checks))
    members = {} if instance.launched is None else {m.name: m for m in instance.launched.members}
    return (
        index
        for index, container in enumerate(spec.containers)
        if container.health_check is not None
        and (found := members.get(container.name)) is not None
        and found.state is not TaskState.TASK_FINISHED
    )


def first_delay(check: HealthCheck) -> float:
    """Return how long after a task runs it is probed first, in seconds."""
    return min(check.interval_seconds, FIRST_PROBE_SECONDS)


def agent_run_check(app: App) -> int | None:
    """Return the index of the check that the agent runs; None if there is none.

    An agent runs one check of a task: the first. What it says goes for the others, too.
    """
    return next(iter(agent_run_checks(app)), None)


def agent_run_checks(app: App) -> tuple[int, ...]:
    """Return the indices of the checks that are the agent's business."""
    checks = enumerate(app.health_checks)
    return tuple(index for index, check in checks if check.protocol.is_run_by_agent)
