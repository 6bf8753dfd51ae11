"""One pass: carry out verdicts, move deployments on, say which tasks to kill."""

import asyncio
from dataclasses import dataclass

import msgspec
import structlog

from phalanx.core.error import UnavailableError
from phalanx.marathon.engine.board import Agenda, Board, agenda_of
from phalanx.marathon.engine.story import tell_end, tell_step
from phalanx.marathon.model.app import UnreachableStrategy
from phalanx.marathon.model.deployment import Deployment
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.model.path import safe_form
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.backoff import is_over
from phalanx.marathon.schedule.status import after_end

log = structlog.get_logger()

KILL_RETRY_SECONDS = 30.0
LAUNCH_SECONDS = 300.0  # within which a task must run
RESYNC_SECONDS = 300.0  # between two looks at everything
APPLY_SECONDS = 1.0  # after which is tried again what of a deployment could not be written
SLICE_SPECS = 50  # looked at in a row, in a few milliseconds

_BEFORE_RUNNING = frozenset({Condition.PROVISIONED, Condition.STAGING, Condition.STARTING})


@dataclass(frozen=True, slots=True)
class Passed:
    """What a pass found to do on the wire, and when the next is due by itself."""

    kills: tuple[Instance, ...]
    wake_at: float | None


async def converge(board: Board) -> Passed:
    """Bring the ledger to what apps and pods say, as far as it goes without the master.

    Looks at those of which anything changed since the last pass, and now and then at all. Call
    with the board's lock held.
    """
    now, roll, unapplied = board.clock(), board.ledger.roll, board.ledger.unapplied
    if now >= board.resync_at:
        board.resync_at = now + RESYNC_SECONDS
        roll.touched.update(board.ledger.spec_ids())
    await _apply_rest(board)
    await _expunge(board, now)
    # Time alone makes an unreachable instance inactive.
    roll.touched.update(i.app_id for i in roll.watched if i.condition is Condition.UNREACHABLE)
    while True:
        agenda = agenda_of(board.ledger.deployments.values())
        while roll.touched:
            touched = sorted(roll.touched)
            roll.touched.clear()
            for number, spec_id in enumerate(touched, 1):
                if not number % SLICE_SPECS:
                    await asyncio.sleep(0)  # after a start all are: others have turns, too
                await _carry_out(board, spec_id, agenda, now)
        applied = [d for id, d in board.ledger.deployments.items() if id not in unapplied]
        moved = [await _move_on(board, deployment) for deployment in applied]
        if not any(moved):
            break
    for spec_id in [s for s, b in board.backoffs.items() if _is_stale(board, s, now)]:
        del board.backoffs[spec_id]
    waiting = {spec.id for spec, _ in board.waiting()}
    for spec_id in board.tallies.keys() - waiting:
        del board.tallies[spec_id]
    return Passed(_kills(board, now), _next_wake(board, now))


async def _apply_rest(board: Board) -> None:
    """Make what of the changes of deployments could not be written before; each by itself.

    What nobody knows to be written, and was refused, is taken back.
    """
    try:
        await board.ledger.settle()
    except UnavailableError as error:
        log.warning("deployment_not_taken_back", error=str(error))
    for deployment in list(board.ledger.unapplied.values()):
        try:
            await board.ledger.apply(deployment)
        except UnavailableError as error:
            log.warning("deployment_not_applied", id=deployment.id, error=str(error))


async def _carry_out(board: Board, spec_id: str, agenda: Agenda, now: float) -> None:
    """Carry out the verdict on one app or pod, and note whether anything is left to do."""
    verdict = board.verdict_on(spec_id, agenda, now)
    ledger, spec = board.ledger, board.ledger.specs.get(spec_id)
    stopped = [i for i in ledger.instances_of(spec_id) if i.condition is Condition.STOPPED]
    if spec is None:
        for instance in stopped:
            await _remove(board, instance)
    for instance in verdict.end:
        if instance.launched is None:
            kept = None if spec is None else after_end(spec, _unwanted(instance), now)
            if kept is None:
                await _remove(board, instance)
            else:
                await ledger.put_instance(kept)
    await ledger.put_instances(
        _unwanted(instance) for instance in verdict.end if instance.launched is not None
    )
    if spec is not None:
        again = stopped[: verdict.add]
        await ledger.put_instances(_resumed(instance, spec, now) for instance in again)
        count = verdict.add - len(again)
        await ledger.put_instances(_new(board, spec, now) for _ in range(count))
    if verdict.add or verdict.end:
        log.info("app_adjusted", app=spec_id, added=verdict.add, ended=len(verdict.end))
    board.done[spec_id] = verdict.done
    if spec is None and verdict.done:
        del board.done[spec_id]
        board.terminations.pop(spec_id, None)


async def doom_overdue(board: Board) -> None:
    """Let tasks end that take too long to run, so that others are tried (reference §3.5).

    Call with the board's lock held.
    """
    latest = board.clock() - LAUNCH_SECONDS
    overdue = [
        instance
        for instance in board.ledger.instances()
        if instance.launched is not None
        and instance.condition in _BEFORE_RUNNING
        and instance.launched.staged_at <= latest
        and not instance.doomed
    ]
    for instance in overdue:
        log.info("launch_overdue", task=instance.task_id)
    await board.ledger.put_instances(
        msgspec.structs.replace(instance, doomed=True) for instance in overdue
    )


def _unwanted(instance: Instance) -> Instance:
    return msgspec.structs.replace(instance, is_wanted=False)


def _resumed(instance: Instance, spec: Spec, now: float) -> Instance:
    """Return a stopped instance that is to run again, on the volumes that it has."""
    return msgspec.structs.replace(
        instance,
        version=spec.version,
        since=now,
        condition=Condition.SCHEDULED,
        is_wanted=True,
    )


async def _remove(board: Board, instance: Instance) -> None:
    if instance.reservation is not None:
        board.litter[instance.id] = instance.reservation.role
    await board.ledger.remove_instance(instance)


def _new(board: Board, spec: Spec, now: float) -> Instance:
    return Instance(
        id=f"{safe_form(spec.id)}.instance-{board.identity()}",
        app_id=spec.id,
        version=spec.version,
        since=now,
    )


async def _move_on(board: Board, deployment: Deployment) -> bool:
    """Begin the next step of a deployment if the present one is done; return whether it is."""
    if not all(board.done.get(action.app_id, True) for action in deployment.actions):
        return False
    for action in deployment.actions:
        if action.kind.is_stop:
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
    for instance in board.ledger.roll.watched:
        if instance.condition is not Condition.UNREACHABLE:
            continue
        due = _forgotten_at(board.ledger.specs.get(instance.app_id), instance)
        if due is not None and due <= now:
            await _remove(board, instance)
            board.forget(instance)


def _forgotten_at(spec: Spec | None, instance: Instance) -> float | None:
    if spec is None or not instance.is_wanted:
        return instance.since
    if isinstance(spec.unreachable_strategy, UnreachableStrategy):
        return instance.since + spec.unreachable_strategy.expunge_after_seconds
    return None


def _is_stale(board: Board, spec_id: str, now: float) -> bool:
    spec = board.ledger.specs.get(spec_id)
    return spec is None or is_over(spec, board.backoffs[spec_id], now)


def _to_kill(instance: Instance) -> bool:
    return instance.launched is not None and (instance.doomed or not instance.is_wanted)


def _kills(board: Board, now: float) -> tuple[Instance, ...]:
    return tuple(
        instance
        for instance in board.ledger.roll.watched
        if _to_kill(instance)
        and now >= board.kills_sent.get(instance.task_id, -1e9) + KILL_RETRY_SECONDS
    )


def _next_wake(board: Board, now: float) -> float | None:
    times = [board.resync_at, *(board.due(spec) for spec, _ in board.waiting())]
    if not board.ledger.is_settled:
        times.append(now + APPLY_SECONDS)
    for instance in board.ledger.roll.watched:
        if _to_kill(instance):
            sent = board.kills_sent.get(instance.task_id, now)
            times.append(sent + KILL_RETRY_SECONDS)
        elif instance.condition is Condition.UNREACHABLE:
            spec = board.ledger.specs.get(instance.app_id)
            strategy = None if spec is None else spec.unreachable_strategy
            if isinstance(strategy, UnreachableStrategy):
                times.append(instance.since + strategy.inactive_after_seconds)
                times.append(instance.since + strategy.expunge_after_seconds)
    return min((time for time in times if time > now), default=None)
