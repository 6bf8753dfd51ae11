"""Take a task's status update into the ledger, and tell of it."""

from collections.abc import Callable

import structlog

from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.story import tell_health, tell_status
from phalanx.marathon.ledger.ledger import Failure
from phalanx.marathon.model.app import App
from phalanx.marathon.model.instance import Instance, parse_task_id
from phalanx.marathon.model.moment import moment
from phalanx.marathon.schedule.backoff import COUNTED, after_failure
from phalanx.marathon.schedule.health import Probe, after_probe, agent_run_check
from phalanx.marathon.schedule.status import FAILURES, after_update, state_of
from phalanx.mesos.v1.mesos import TERMINAL, TaskState, TaskStatus

log = structlog.get_logger()

_NOT_ALIVE = TERMINAL | {TaskState.TASK_UNREACHABLE, TaskState.TASK_UNKNOWN}


async def take_update(board: Board, status: TaskStatus, kill: Callable[[TaskStatus], None]) -> None:
    """Store what *status* says; *kill* is called for a task that lives and is none of ours.

    When this returns the update may be acknowledged. Call with the lock held.
    """
    ledger, now = board.ledger, board.clock()
    instance = _instance_of(board, status)
    if instance is None:
        if status.state not in _NOT_ALIVE:
            log.info("unknown_task_found", task=status.task_id.value, state=status.state)
            kill(status)
        return
    app = ledger.apps.get(instance.app_id)
    state = state_of(status)
    outcome = after_update(app, instance, status, now)
    if app is not None and state in COUNTED and instance.is_wanted and not instance.doomed:
        board.backoffs[app.id] = after_failure(app, board.backoffs.get(app.id), now)
    if app is not None and state in FAILURES:
        await ledger.put_failure(_failure(instance, state, status.message or "", now))
    if outcome.instance is None:
        await ledger.remove_instance(instance)
    elif outcome.instance != instance:
        await ledger.put_instance(outcome.instance)
    present = instance if outcome.ended or outcome.instance is None else outcome.instance
    if outcome.ended or present.condition is not instance.condition:
        log.info("task_changed", task=instance.task_id, state=state, message=status.message or "")
        tell_status(board.bus, present, state, status.message or "")
    if status.check_status is not None and not outcome.ended:
        board.checks[present.task_id] = status.check_status
    if app is not None and not outcome.ended and status.healthy is not None:
        _take_health(board, app, present, passed=status.healthy)


def record_health_kill(instance: Instance, reason: str, now: float) -> Failure:
    """Return the failure that stands for a kill by a health check."""
    message = f"Task was killed since health check failed. Reason: {reason}"
    return _failure(instance, TaskState.TASK_KILLED, message, now)


def _instance_of(board: Board, status: TaskStatus) -> Instance | None:
    """Return the instance whose present task *status* is about, or None."""
    parsed = parse_task_id(status.task_id.value)
    found = None if parsed is None else board.ledger.instance(parsed[0])
    if parsed is None or found is None or found.incarnation != parsed[1] or not found.launched:
        return None
    return found


def _take_health(board: Board, app: App, instance: Instance, *, passed: bool) -> None:
    """Note what the agent's own check found; the agent also acts on it."""
    index = agent_run_check(app)
    if index is None or instance.launched is None:
        return
    results = board.health.setdefault(instance.task_id, {})
    before = results.get(index)
    after, _ = after_probe(
        app.health_checks[index],
        before,
        Probe(None if passed else "the agent's check failed"),
        running_since=instance.launched.started_at or 0.0,
        now=board.clock(),
    )
    results[index] = after
    if before is None or before.alive != after.alive:
        tell_health(board.bus, instance, after)


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
