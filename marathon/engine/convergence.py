"""One pass: carry out every app's verdict, move deployments on, say which tasks to kill."""

from dataclasses import dataclass

import msgspec
import structlog

from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.story import tell_end, tell_step
from phalanx.marathon.model.app import App, UnreachableStrategy
from phalanx.marathon.model.deployment import ActionKind, Deployment
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.model.path import safe_form
from phalanx.marathon.schedule.backoff import is_over

log = structlog.get_logger()

KILL_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Passed:
    """What a pass found to do on the wire, and when the next is due by itself."""

    kills: tuple[Instance, ...]
    wake_at: float | None


async def converge(board: Board) -> Passed:
    """Bring the ledger to what the apps say, as far as it goes without the master.

    Call with the board's lock held.
    """
    now = board.clock()
    while True:
        await _expunge(board, now)
        done = {app_id: await _carry_out(board, app_id, now) for app_id in board.ledger.app_ids()}
        moved = [await _move_on(board, d, done) for d in list(board.ledger.deployments.values())]
        if not any(moved):
            break
    for app_id in [a for a, b in board.backoffs.items() if _is_stale(board, a, now)]:
        del board.backoffs[app_id]
    waiting = {app.id for app, _ in board.waiting()}
    for app_id in board.tallies.keys() - waiting:
        del board.tallies[app_id]
    alive = {instance.task_id for instance in board.ledger.instances()}
    for memory in (board.health, board.checks, board.kills_sent):
        for task_id in memory.keys() - alive:
            del memory[task_id]
    return Passed(_kills(board, now), _next_wake(board, now))


async def _carry_out(board: Board, app_id: str, now: float) -> bool:
    """Carry out the verdict on one app; return whether nothing is left to do."""
    verdict = board.verdict_on(app_id, now)
    app = board.ledger.apps.get(app_id)
    for instance in verdict.end:
        if instance.launched is None:
            await board.ledger.remove_instance(instance)
        else:
            await board.ledger.put_instance(msgspec.structs.replace(instance, is_wanted=False))
    if app is not None:
        for _ in range(verdict.add):
            await board.ledger.put_instance(
                Instance(
                    id=f"{safe_form(app.id)}.instance-{board.identity()}",
                    app_id=app.id,
                    version=app.version,
                    since=now,
                )
            )
    if verdict.add or verdict.end:
        log.info("app_adjusted", app=app_id, added=verdict.add, ended=len(verdict.end))
    if any(instance.launched is None for instance in verdict.end):
        # They are gone, and no update will ever say so.
        return await _carry_out(board, app_id, now)
    return verdict.done


async def _move_on(board: Board, deployment: Deployment, done: dict[str, bool]) -> bool:
    """Begin the next step of a deployment if the present one is done; return whether it is."""
    if not all(done.get(action.app_id, True) for action in deployment.actions):
        return False
    for action in deployment.actions:
        if action.kind is ActionKind.STOP:
            board.bus.publish("app_terminated_event", appId=action.app_id)
    tell_step(board.bus, "deployment_step_success", deployment)
    following = msgspec.structs.replace(deployment, step=deployment.step + 1)
    if following.actions:
        await board.ledger.put_deployment(following)
        return True
    await board.ledger.remove_deployment(deployment.id)
    log.info("deployment_finished", id=deployment.id)
    tell_end(board.bus, deployment)
    return True


async def _expunge(board: Board, now: float) -> None:
    """Forget instances that stayed unreachable for long enough, or that nobody wants any more."""
    for instance in board.ledger.instances():
        if instance.condition is not Condition.UNREACHABLE:
            continue
        due = _forgotten_at(board.ledger.apps.get(instance.app_id), instance)
        if due is not None and due <= now:
            await board.ledger.remove_instance(instance)


def _forgotten_at(app: App | None, instance: Instance) -> float | None:
    if app is None or not instance.is_wanted:
        return instance.since
    if isinstance(app.unreachable_strategy, UnreachableStrategy):
        return instance.since + app.unreachable_strategy.expunge_after_seconds
    return None


def _is_stale(board: Board, app_id: str, now: float) -> bool:
    app = board.ledger.apps.get(app_id)
    return app is None or is_over(app, board.backoffs[app_id], now)


def _to_kill(instance: Instance) -> bool:
    return instance.launched is not None and (instance.doomed or not instance.is_wanted)


def _kills(board: Board, now: float) -> tuple[Instance, ...]:
    return tuple(
        instance
        for instance in board.ledger.instances()
        if _to_kill(instance)
        and now >= board.kills_sent.get(instance.task_id, -1e9) + KILL_RETRY_SECONDS
    )


def _next_wake(board: Board, now: float) -> float | None:
    times = [board.due(app) for app, _ in board.waiting()]
    for instance in board.ledger.instances():
        if _to_kill(instance):
            sent = board.kills_sent.get(instance.task_id, now)
            times.append(sent + KILL_RETRY_SECONDS)
        elif instance.condition is Condition.UNREACHABLE:
            app = board.ledger.apps[instance.app_id]
            strategy = app.unreachable_strategy
            if isinstance(strategy, UnreachableStrategy):
                times.append(instance.since + strategy.inactive_after_seconds)
                times.append(instance.since + strategy.expunge_after_seconds)
    return min((time for time in times if time > now), default=None)
