"""What is to happen to one app's instances now: steady, restarting, or stopping.

Each function looks at the instances as they are and says what to add and what
to end. None remembers anything, so a restarted Marathon goes on where it was.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil, floor

from phalanx.marathon.model.app import UnreachableStrategy
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.victim import kill_order, victims


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many instances to add, which to end for good, and whether all is as it shall be."""

    add: int = 0
    end: tuple[Instance, ...] = ()
    done: bool = False


def is_inactive(app: Spec, instance: Instance, now: float) -> bool:
    """Tell whether *instance* is unreachable for so long that it no longer counts."""
    strategy = app.unreachable_strategy
    return (
        instance.condition is Condition.UNREACHABLE
        and isinstance(strategy, UnreachableStrategy)
        and now >= instance.since + strategy.inactive_after_seconds
    )


def steady(
    app: Spec, instances: Sequence[Instance], healthy: Collection[str], now: float
) -> Verdict:
    """Bring the number of instances to what the app says, whatever their configuration.

    *healthy* holds the ids of instances that run and pass every health check.
    """
    counted = [i for i in instances if i.is_wanted and not is_inactive(app, i, now)]
    surplus = len(counted) - app.instances
    if surplus > 0:
        return Verdict(end=victims(app, counted, surplus))
    if surplus < 0:
        return Verdict(add=-surplus)
    is_done = len(counted) == len([i for i in instances if not is_inactive(app, i, now)])
    return Verdict(done=is_done and all(i.id in healthy for i in counted))


def stopping(instances: Sequence[Instance]) -> Verdict:
    """End every instance."""
    return Verdict(end=tuple(i for i in instances if i.is_wanted), done=not instances)


def restarting(
    app: Spec, instances: Sequence[Instance], healthy: Collection[str], now: float
) -> Verdict:
    """Replace the instances of older configurations (reference marathon §3.3).

    ceil(n·minimumHealthCapacity) instances stay healthy and no more than
    floor(n·(1+maximumOverCapacity)) exist at a time. One old instance may go
    for each new healthy one, unhealthy ones first. Where the two bounds leave
    no room, one unhealthy old instance goes, or else one new one is borrowed.
    """
    n, strategy = app.instances, app.upgrade_strategy
    present = [i for i in instances if not is_inactive(app, i, now)]
    old = [i for i in present if i.version < app.config_version]
    new = [i for i in present if i.version >= app.config_version and i.is_wanted]
    dying = [i for i in present if not i.is_wanted]
    if n == 0:
        return Verdict(end=tuple(i for i in instances if i.is_wanted), done=not instances)
    new_healthy = sum(i.id in healthy for i in new)
    floor_healthy = ceil(round(n * strategy.minimum_health_capacity, 9))
    capacity = floor(round(n * (1 + strategy.maximum_over_capacity), 9))
    kept = [i for i in old if i.is_wanted]
    not_running = [i for i in kept if i.condition is Condition.SCHEDULED]
    kept = [i for i in kept if i.condition is not Condition.SCHEDULED]
    in_order = sorted(kill_order(app, kept), key=lambda i: i.id in healthy)
    end = in_order[: max(0, len(kept) - max(0, floor_healthy - new_healthy))]
    too_many = max(0, len(new) - n)
    surplus = victims(app, [i for i in new if i.id not in healthy], too_many)
    surplus += victims(app, [i for i in new if i.id in healthy], too_many - len(surplus))
    active_old = len(old) - len(not_running)
    add = max(0, min(n - len(new), capacity - active_old - len(new)))
    is_stuck = not end and not add and kept and len(new) < n and new_healthy == len(new)
    if is_stuck and not dying:
        sick = [i for i in in_order if i.id not in healthy]
        end, add = (sick[:1], 0) if sick else ([], 1)
    is_done = len(new) == n == new_healthy and len(present) == n
    return Verdict(add, (*not_running, *end, *surplus), is_done)
