"""Which instances go first when there are too many (reference marathon §3.2)."""

from collections import Counter
from collections.abc import Iterable, Sequence

from phalanx.marathon.model.app import KillSelection
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.constraint import grouped_field

_WEIGHT = {
    Condition.SCHEDULED: 0,
    Condition.STOPPED: 0,
    Condition.UNREACHABLE: 1,
    Condition.KILLING: 2,
    Condition.PROVISIONED: 3,
    Condition.STAGING: 4,
    Condition.STARTING: 5,
    Condition.RUNNING: 6,
}


def victims(app: Spec, instances: Iterable[Instance], count: int) -> tuple[Instance, ...]:
    """Return *count* of *instances*, those first that are missed least.

    Instances spread by GROUP_BY come from the largest group while the groups
    differ by more than one; then the order is by condition, and inside one
    condition by killSelection.
    """
    left = kill_order(app, instances)
    chosen: list[Instance] = []
    field = grouped_field(app.constraints)
    while left and len(chosen) < count:
        victim = (None if field is None else _of_largest_group(left, field)) or left[0]
        left.remove(victim)
        chosen.append(victim)
    return tuple(chosen)


def kill_order(app: Spec, instances: Iterable[Instance]) -> list[Instance]:
    """Return *instances*, those first that are missed least."""
    youngest_first = app.kill_selection is KillSelection.YOUNGEST_FIRST

    def rank(instance: Instance) -> tuple[int, float, str]:
        launched = instance.launched
        began = instance.since if launched is None else launched.started_at or launched.staged_at
        return (_WEIGHT[instance.condition], -began if youngest_first else began, instance.id)

    return sorted(instances, key=rank)


def _of_largest_group(left: Sequence[Instance], field: str) -> Instance | None:
    group = {
        instance.id: instance.launched.attributes[field]
        for instance in left
        if instance.launched is not None and field in instance.launched.attributes
    }
    sizes = Counter(group.values())
    if len(group) < len(left) or not sizes or max(sizes.values()) - min(sizes.values()) <= 1:
        return None
    largest = max(sizes.values())
    return next(instance for instance in left if sizes[group[instance.id]] == largest)
