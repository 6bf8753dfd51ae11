"""Take a task's status update into the ledger, and tell of it."""

from collections import deque
from collections.abc import Callable, Iterable

import structlog

from phalanx.marathon.engine.board import TERMINATIONS, Board, Termination
from phalanx.marathon.engine.story import tell_health, tell_status, tell_unknown_end
from phalanx.marathon.ledger.ledger import Failure
from phalanx.marathon.ledger.together import together
from phalanx.marathon.model.check import HealthCheck
from phalanx.marathon.model.instance import APP, Instance, parse_task_id
from phalanx.marathon.model.moment import moment
from phalanx.marathon.model.pod import Pod, PodHealthCheck
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.backoff import COUNTED, after_failure, is_drained
from phalanx.marathon.schedule.health import Probe, after_probe, agent_run_checks
from phalanx.marathon.schedule.pod_status import after_member_update
from phalanx.marathon.schedule.status import FAILURES, Outcome, after_update, state_of
from phalanx.mesos.v1.mesos import TERMINAL, TaskState, TaskStatus

log = structlog.get_logger()

_NOT_ALIVE = TERMINAL | {TaskState.TASK_UNREACHABLE, TaskState.TASK_UNKNOWN}


async def take_updates(
    board: Board, statuses: Iterable[TaskStatus], kill: Callable[[TaskStatus], None]
) -> None:
    """Store what *statuses* say; *kill* is called for tasks that live and are none of ours.

    When this returns the updates may be acknowledged. Updates of different instances are written
    together, those of one in their order. Call with the lock held.
    """
    queues: dict[str, list[TaskStatus]] = {}
    for status in statuses:
        named = parse_task_id(status.task_id.value)
        key = status.task_id.value if named is None else named.instance_id
        queues.setdefault(key, []).append(status)

    async def in_order(queue: list[TaskStatus]) -> None:
        for status in queue:
            await take_update(board, status, kill)

    await together(in_order(queue) for queue in queues.values())


async def take_update(board: Board, status: TaskStatus, kill: Callable[[TaskStatus], None]) -> None:
    """Store what *status* says; *kill* is called for a task that lives and is none of ours."""
    ledger, now = board.ledger, board.clock()
    instance, container = _instance_of(board, status)
    if instance is None:
        if status.state not in _NOT_ALIVE:
            log.info("unknown_task_found", task=status.task_id.value, state=status.state)
            kill(status)
        elif status.state in TERMINAL:
            tell_unknown_end(board.bus, status.task_id.value, status.state)
        return
    spec = ledger.specs.get(instance.app_id)
    state, message = state_of(status), status.message or ""
    if container == APP:
        outcome = after_update(spec, instance, status, now)
    else:
        outcome = after_member_update(spec, instance, container, status, now)
    if spec is not None and state in FAILURES:
        await ledger.put_failure(_failure(instance, state, message, now))
    if outcome.instance is None:
        await ledger.remove_instance(instance)
        if instance.reservation is not None:
            board.litter[instance.id] = instance.reservation.role
    elif outcome.instance != instance:
        await ledger.put_instance(outcome.instance)
    # What can't be written comes again, and is to count once.
    if spec is not None and _is_counted(instance, outcome, state):
        board.backoffs[spec.id] = after_failure(spec, board.backoffs.get(spec.id), now)
    elif spec is not None and is_drained(status):
        board.backoffs.pop(spec.id, None)
    if outcome.ended:
        _note_end(board, instance, now, message)
    present = instance if outcome.ended or outcome.instance is None else outcome.instance
    if outcome.ended or present.condition is not instance.condition or container != APP:
        log.info("task_changed", task=status.task_id.value, state=state, message=message)
        tell_status(board.bus, present, state, message, task_id=status.task_id.value)
    if status.check_status is not None and not outcome.ended:
        board.checks[status.task_id.value] = status.check_status
    if spec is not None and not outcome.ended and status.healthy is not None:
        _take_health(board, spec, present, container, passed=status.healthy)


def _is_counted(instance: Instance, outcome: Outcome, state: TaskState) -> bool:
    """Tell whether an update delays the next launch: an app's task, or a pod's first, failed.

    A container of a pod that finishes counts with the last of them.
    """
    if state not in COUNTED or not instance.is_wanted or instance.doomed:
        return False
    return outcome.ended or state is not TaskState.TASK_FINISHED


def _note_end(board: Board, instance: Instance, now: float, message: str) -> None:
    board.forget(instance)
    for task_id in instance.task_ids:
        board.checks.pop(task_id, None)
    if instance.launched is not None and instance.launched.members:
        ends = board.terminations.setdefault(instance.app_id, deque(maxlen=TERMINATIONS))
        ends.append(Termination(instance, now, message))


def record_health_kill(instance: Instance, reason: str, now: float) -> Failure:
    """Return the failure that stands for a kill by a health check."""
    message = f"Task was killed since health check failed. Reason: {reason}"
    return _failure(instance, TaskState.TASK_KILLED, message, now)


def _instance_of(board: Board, status: TaskStatus) -> tuple[Instance | None, str]:
    """Return the instance whose present task *status* is about, or None, and the container."""
    named = parse_task_id(status.task_id.value)
    found = None if named is None else board.ledger.instance(named.instance_id)
    if named is None or found is None or found.incarnation != named.incarnation:
        return None, APP
    known = status.task_id.value in found.task_ids
    return found if known else None, named.container


def _take_health(
    board: Board, spec: Spec, instance: Instance, container: str, *, passed: bool
) -> None:
    """Note what the agent's own check found; the agent also acts on it."""
    if instance.launched is None:
        return
    results = board.health.setdefault(instance.task_id, {})
    for index, check in _agents_checks(spec, container):
        before = results.get(index)
        after, _ = after_probe(
            check,
            before,
            Probe(None if passed else "the agent's check failed"),
            running_since=instance.launched.started_at or 0.0,
            now=board.clock(),
        )
        results[index] = after
        if before is None or before.alive != after.alive:
            board.poke(instance.app_id)
            tell_health(board.bus, instance, after)


def _agents_checks(spec: Spec, container: str) -> list[tuple[int, HealthCheck | PodHealthCheck]]:
    """Return the checks that an update of a task speaks for, with their indices."""
    if not isinstance(spec, Pod):
        return [(index, spec.health_checks[index]) for index in agent_run_checks(spec)]
    return [
        (index, one.health_check)
        for index, one in enumerate(spec.containers)
        if one.name == container and one.health_check is not None
    ]


def _failure(instance: Instance, state: TaskState, message: str, now: float) -> Failure:
    launched = instance.launched
    return Failure(
        app_id=instance.app_id,
        host="" if launched is None else launched.hostname,
        message=message[:10_000],
        state=state.value,
        task_id=instance.task_id,
        timestamp=moment(now),
        version=instance.version,
        slave_id="" if launched is None else launched.agent_id,
    )
