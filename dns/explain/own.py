"""Which record of ours answers, from which object of the View, and what was left out; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from phalanx.dns.answer.lookup import place_of
from phalanx.dns.zones.ledger import Ledger
from phalanx.dns.zones.record import Rdata, RecordType, Srv
from phalanx.dns.zones.zone import Zone
from phalanx.net.model.objects import Liveness, Task, TaskPhase, VipLease
from phalanx.net.model.view import View

SHOWN_LEFT_OUT = 100  # of an app with thousands of tasks that have no name yet


class Contribution(NamedTuple):
    """One record, and the object that it comes from."""

    type: RecordType
    data: Rdata
    source: Mapping[str, object]
    reason: str  # why it is left out; empty for one that answers


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is at a name of ours."""

    zone: str
    canonical: str  # the name as the zone has it
    is_known: bool  # False while no View has come
    exists: bool
    answering: tuple[Contribution, ...]
    left_out: tuple[Contribution, ...]
    unnamed: tuple[Mapping[str, object], ...]  # tasks that would be here if they ran
    notes: tuple[str, ...]


def explain_own(
    ledger: Ledger, zones: Mapping[str, Zone | None], aliases: Mapping[str, str], name: str
) -> Explanation | None:
    """Return what is at *name*, absolute and in lower case; None if no zone of ours holds it."""
    place = place_of(name, zones, aliases)
    if place is None:
        return None
    canonical = place.canonical(name)
    zone = zones[place.apex]
    if zone is None:
        return Explanation(
            place.apex, canonical, False, False, (), (), (), ("no view of the cluster yet",)
        )
    view = ledger.view
    found = ledger.origins(canonical)
    best = min((each.grade for each in found if each.grade >= 0), default=0)
    answering: list[Contribution] = []
    left_out: list[Contribution] = []
    for each in found:
        source = _source(view, each.kind, each.key)
        task = view.tasks.get(each.key) if each.kind == Task.kind else None
        is_best = each.grade in (-1, best)
        reason = "" if is_best or task is None else _drawback(view, task)
        target = answering if is_best else left_out
        target.append(Contribution(each.type, each.data, source, reason))
    if not found:
        answering = [
            Contribution(type_, data, {"kind": "zone"}, "")
            for type_, rrset in zone.names.get(canonical, {}).items()
            for data in rrset
        ]
    unnamed = tuple(
        _task_source(view, view.tasks[key])
        for key in ledger.unplaced(canonical)[:SHOWN_LEFT_OUT]
        if key in view.tasks
    )
    return Explanation(
        place.apex,
        canonical,
        True,
        canonical in zone.names,
        tuple(answering),
        tuple(left_out),
        unnamed,
        tuple(_notes(view, canonical, place.apex, is_there=canonical in zone.names)),
    )


def text_of(data: Rdata) -> str:
    """Return a record's data as dig prints it."""
    if isinstance(data, Srv):
        return f"{data.priority} {data.weight} {data.port} {data.target}"
    return " ".join(map(str, data)) if isinstance(data, tuple) else str(data)


def _notes(view: View, name: str, apex: str, *, is_there: bool) -> Iterable[str]:
    vip = name.removesuffix(f".{apex}")
    if not is_there and vip in view.vips:
        lease: VipLease = view.vips[vip]
        yield (
            f"VIP {vip} is leased {lease.address}, and this node's load balancer holds no service"
            " there: no task behind it, or the kernel could not be written"
        )


def _source(view: View, kind: str, key: str) -> Mapping[str, object]:
    if kind == Task.kind and key in view.tasks:
        return _task_source(view, view.tasks[key])
    return {"kind": kind, "key": key}


def _task_source(view: View, task: Task) -> Mapping[str, object]:
    framework = view.frameworks.get(task.framework_id)
    node = view.nodes.get(str(task.node))
    return {
        "kind": Task.kind,
        "task": task.id,
        "framework": framework.name if framework is not None else task.framework_id,
        "state": task.phase.value,
        "healthy": task.healthy,
        "checked": task.is_checked,
        "node": str(task.node),
        "node_state": node.liveness.value if node is not None else "gone",
        "reason": _drawback(view, task),
    }


def _drawback(view: View, task: Task) -> str:
    """Return what speaks against leading clients to the task; empty if nothing does."""
    node = view.nodes.get(str(task.node))
    if task.phase is not TaskPhase.RUNNING:
        return f"the task is {task.phase.value}"
    if task.healthy is False:
        return "the task failed its health check"
    if task.is_checked and task.healthy is None:
        return "the task has not passed its health check yet"
    if node is None:
        return f"node {task.node} is gone"
    if node.liveness is not Liveness.ALIVE:
        return f"node {task.node} is {node.liveness.value}"
    return ""
