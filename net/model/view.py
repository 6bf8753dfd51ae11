"""The View: everything that a node needs to know of the cluster, at one moment."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from phalanx.core.layered import differing, with_changes
from phalanx.net.model.objects import (
    Framework,
    Network,
    Node,
    Object,
    Policy,
    SubnetLease,
    Task,
    VipLease,
)

FIELD_OF: Mapping[str, str] = {
    Node.kind: "nodes",
    Network.kind: "networks",
    SubnetLease.kind: "subnets",
    Framework.kind: "frameworks",
    Task.kind: "tasks",
    VipLease.kind: "vips",
    Policy.kind: "policies",
}

Ref = tuple[str, str]  # kind and key


class View(msgspec.Struct, frozen=True):
    """All objects by key; never changed, only followed by another View."""

    nodes: Mapping[str, Node] = msgspec.field(default_factory=dict)
    networks: Mapping[str, Network] = msgspec.field(default_factory=dict)
    subnets: Mapping[str, SubnetLease] = msgspec.field(default_factory=dict)
    frameworks: Mapping[str, Framework] = msgspec.field(default_factory=dict)
    tasks: Mapping[str, Task] = msgspec.field(default_factory=dict)
    vips: Mapping[str, VipLease] = msgspec.field(default_factory=dict)
    policies: Mapping[str, Policy] = msgspec.field(default_factory=dict)

    def objects(self) -> Iterable[Object]:
        """Return every object, in the order in which one may refer to another."""
        for field in FIELD_OF.values():
            yield from getattr(self, field).values()

    def changed(self, upserts: Iterable[Object], removals: Iterable[Ref] = ()) -> "View":
        """Return the View after *upserts* and *removals*; kinds not named are shared with this one.

        Removing what is not there changes nothing.
        """
        changes: dict[str, dict[str, Any]] = {}
        for kind, key in removals:
            changes.setdefault(FIELD_OF[kind], {})[key] = None
        for upsert in upserts:
            changes.setdefault(FIELD_OF[upsert.kind], {})[upsert.key] = upsert
        fresh = {field: with_changes(getattr(self, field), each) for field, each in changes.items()}
        return msgspec.structs.replace(self, **fresh)


def touched(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the keys of objects that came, went or are others; unchanged ones are the same."""
    if before is after:
        return []
    if (few := differing(before, after)) is not None:
        return [key for key in few if before.get(key) is not after.get(key)]
    found = [key for key, item in after.items() if before.get(key) is not item]
    came = sum(key not in before for key in found)
    if len(before) + came != len(after):
        found += [key for key in before if key not in after]
    return found


def view_delta(
    old: View, new: View, only: Mapping[str, Collection[str]] | None = None
) -> tuple[tuple[Object, ...], tuple[Ref, ...]]:
    """Return the upserts and removals that lead from *old* to *new*.

    *only* names, for some fields, all keys by which the two may differ there.
    """
    upserts: list[Object] = []
    removals: list[Ref] = []
    for kind, field in FIELD_OF.items():
        before: Mapping[str, Object] = getattr(old, field)
        after: Mapping[str, Object] = getattr(new, field)
        if before is after:
            continue
        few = (only or {}).get(field)
        if few is None:
            few = differing(before, after)
        if few is not None:
            for key in few:
                item = after.get(key)
                if item is None:
                    removals += [(kind, key)] if key in before else []
                elif before.get(key) != item:
                    upserts.append(item)
            continue
        # Nearly all are the very same objects: to compare those by value would cost the most.
        fresh = [(key, item) for key, item in after.items() if before.get(key) is not item]
        upserts += [item for key, item in fresh if before.get(key) != item]
        added = sum(key not in before for key, _ in fresh)
        if len(before) + added != len(after):
            removals += [(kind, key) for key in before if key not in after]
    return tuple(upserts), tuple(removals)


def refs_between(old: View, new: View) -> list[Ref]:
    """Return which objects are others in *new* than in *old*."""
    upserts, removals = view_delta(old, new)
    return [*((each.kind, each.key) for each in upserts), *removals]


def steps_between(
    old: View, new: View, refs: Iterable[Ref], *, size: int
) -> Iterator[tuple[View, Sequence[Ref]]]:
    """Yield Views that lead from *old* to *new*, each with those of *refs* that it brings.

    *refs* are all objects that may differ. At most *size* tasks and VIPs are in a
    step; all that they may refer to is in the first. The last View is *new*.
    """
    many: list[Ref] = []
    few: list[Ref] = []
    for ref in refs:
        (many if ref[0] in (Task.kind, VipLease.kind) else few).append(ref)
    view = msgspec.structs.replace(new, tasks=old.tasks, vips=old.vips)
    last = max(len(many) - 1, 0) // size * size  # where the last step starts
    for start in range(0, last, size):
        refs = many[start : start + size]
        yield (view := _with(view, new, refs)), [*few, *refs]
        few = []
    yield new, few + many[last:]


def _with(view: View, new: View, refs: Iterable[Ref]) -> View:
    """Return *view* with the objects of *refs* as they are in *new*."""
    upserts: list[Object] = []
    removals: list[Ref] = []
    for ref in refs:
        item = getattr(new, FIELD_OF[ref[0]]).get(ref[1])
        if item is None:
            removals.append(ref)
        else:
            upserts.append(item)
    return view.changed(upserts, removals)
