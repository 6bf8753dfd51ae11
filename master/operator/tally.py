"""Resources as operators see them: sums by role, and the legacy summaries; pure."""

from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping

import msgspec

from phalanx.master.cluster.offer import Outstanding
from phalanx.master.cluster.task import is_over
from phalanx.master.operator.snapshot import FrameworkFacts
from phalanx.mesos.amount import Span, Spans
from phalanx.mesos.kind import reservations_of
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Resource, ValueType

SHOWN = ("disk", "mem", "gpus", "cpus")  # always in a summary, even when there is none
TURN = 1024  # tasks that are looked at in one go

Summary = dict[str, float | str]


def summed(parts: Iterable[Resources]) -> Resources:
    """Return the sum."""
    total = Resources()
    for part in parts:
        total += part
    return total


def offered_by_role(offers: Iterable[Outstanding]) -> Mapping[str, Resources]:
    """Return what offers hold, by role."""
    total: dict[str, Resources] = {}
    for offer in offers:
        total[offer.role] = total.get(offer.role, Resources()) + offer.resources
    return total


def totals(framework: FrameworkFacts) -> Generator[bytes, None, Mapping[str, Resources]]:
    """Return what a framework uses, by role; yields nothing now and then, so that others get on."""
    spans: defaultdict[tuple[str, str], set[Span]] = defaultdict(set)
    for number, task in enumerate(framework.tasks):
        if number % TURN == TURN - 1:
            yield b""
        if not is_over(task):
            for item in task.resources:
                if item.type is ValueType.RANGES and item.ranges is not None:
                    role = item.allocation_info.role if item.allocation_info is not None else None
                    found = spans[role or "*", item.name]
                    found.update((span.begin, span.end) for span in item.ranges.range)
    held = dict(framework.used)
    for (role, name), found in spans.items():
        held[role] = held.get(role, Resources()) + Resources.make({}, {name: found})
    return held


def totals_at_once(framework: FrameworkFacts) -> Mapping[str, Resources]:
    """Return the same without a pause."""
    steps = totals(framework)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            held: Mapping[str, Resources] = end.value
            return held


def messages(by_role: Mapping[str, Resources]) -> tuple[Resource, ...]:
    """Return v1 resources, each allocated to its role, as operators read them."""
    return tuple(
        message
        for role, resources in sorted(by_role.items())
        for message in full(resources, role=role)
    )


def full(resources: Resources, *, role: str | None = None) -> tuple[Resource, ...]:
    """Return v1 resources as operators read them: a reservation stands there in both formats.

    A refined one has only the new format; the old can't say it.
    """
    return tuple(
        message
        if message.reservations or not (stack := reservations_of(message))
        else msgspec.structs.replace(message, reservations=stack)
        for message in resources.messages(role=role)
    )


def summary(resources: Resources) -> Summary:
    """Return the legacy summary: cpus, gpus, mem and disk always, ranges and sets as text."""
    shown: Summary = dict.fromkeys(SHOWN, 0.0)
    shown.update(sparse_summary(resources))
    return shown


def sparse_summary(resources: Resources) -> Summary:
    """Return the legacy summary of only what is there; what is revocable has its own names."""
    revocable = resources.revocable
    if not revocable:
        return _plain_summary(resources)
    shown = _plain_summary(resources - revocable)
    for name, value in _plain_summary(revocable).items():
        shown[f"{name}_revocable"] = value
    return shown


def _plain_summary(resources: Resources) -> Summary:
    shown: Summary = {name: amount / 1000 for name, amount in resources.scalars.items()}
    for name, spans in resources.ranges.items():
        shown[name] = span_text(spans)
    for name, items in resources.sets.items():
        shown[name] = f"{{{', '.join(sorted(items))}}}"
    return shown


def span_text(spans: Spans) -> str:
    """Return ranges as legacy answers write them: ``[1-3, 5-5]``."""
    return f"[{', '.join(f'{begin}-{end}' for begin, end in spans)}]"
