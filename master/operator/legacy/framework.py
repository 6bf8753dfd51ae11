"""Frameworks as the legacy endpoints show them (reference mesos §3.4); pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from phalanx.master.operator.fragment import listed
from phalanx.master.operator.legacy.task import Tasks, executor_json, labels_json
from phalanx.master.operator.snapshot import (
    ExecutorFacts,
    FrameworkFacts,
    Snapshot,
)
from phalanx.master.operator.tally import (
    summary,
    summed,
    totals,
)
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import encode_value, to_json
from phalanx.mesos.v1.mesos import (
    FrameworkInfo,
    Task,
)

Json = dict[str, Any]


def framework_pieces(framework: FrameworkFacts, tasks: Tasks) -> Iterator[bytes]:
    """Yield a framework as ``/state`` and ``/frameworks`` show it."""
    info = framework.info
    used = summed((yield from totals(framework)).values())
    head = framework_summary(framework, used) | {
        "user": info.user,
        "failover_timeout": info.failover_timeout,
        "checkpoint": info.checkpoint,
        "registered_time": framework.registered,
        "unregistered_time": framework.unregistered or 0.0,
    }
    if info.principal is not None:
        head["principal"] = info.principal
    head["resources"] = summary(used + _offered(framework))
    if framework.reregistered not in (None, framework.registered):
        head["reregistered_time"] = framework.reregistered
    head |= _roles(info)
    yield encode_value(head)[:-1] + b',"tasks":['
    yield from listed(tasks.get(id(task), task) for task in framework.tasks)
    yield b'],"unreachable_tasks":['
    yield from listed(tasks.get(id(task), task) for task in framework.unreachable)
    yield b'],"completed_tasks":['
    yield from listed(tasks.get(id(task), task) for task in framework.completed)
    tail: Json = {
        "offers": [
            {
                "id": offer.id,
                "framework_id": offer.framework_id,
                "allocation_info": {"role": offer.role},
                "slave_id": offer.agent_id,
                "resources": summary(offer.resources),
            }
            for offer in framework.offers
        ],
        "executors": [_executor_json(item) for item in framework.executors],
    }
    if info.labels is not None:
        tail["labels"] = labels_json(info.labels)
    tail["offer_constraints"] = (
        {} if framework.constraints is None else to_json(framework.constraints)
    )
    yield b"]," + encode_value(tail)[1:]


def framework_summary(framework: FrameworkFacts, used: Resources) -> Json:
    """Return what every page shows of a framework that uses *used*."""
    info = framework.info
    return {
        "id": framework.id,
        "name": info.name,
        "used_resources": summary(used),
        "offered_resources": summary(_offered(framework)),
        "capabilities": [item.type for item in info.capabilities if item.type],
        "hostname": info.hostname or "",
        "webui_url": info.webui_url or "",
        "active": framework.is_active,
        "connected": framework.is_connected,
        "recovered": framework.is_recovered,
    }


def frameworks_json(snapshot: Snapshot, tasks: Tasks, wanted: str | None = None) -> Iterator[bytes]:
    """Yield ``/frameworks``: all of them, or the one that is wanted."""
    yield b'{"frameworks":'
    yield from listed_frameworks(_wanted(snapshot.frameworks, wanted), tasks)
    yield b',"completed_frameworks":'
    yield from listed_frameworks(_wanted(snapshot.completed, wanted), tasks)
    yield b',"unregistered_frameworks":[]}'


def _wanted(items: Iterable[FrameworkFacts], id: str | None) -> list[FrameworkFacts]:
    return [item for item in items if id is None or item.id == id]


def listed_frameworks(items: Iterable[FrameworkFacts], tasks: Tasks) -> Iterator[bytes]:
    """Yield a JSON list of frameworks, piece by piece."""
    separator = b"["
    for item in items:
        yield separator
        yield from framework_pieces(item, tasks)
        separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _executor_json(executor: ExecutorFacts) -> Json:
    return executor_json(executor.info) | {"slave_id": executor.agent_id}


def all_tasks(framework: FrameworkFacts) -> Iterator[Task]:
    """Yield every task that is remembered of a framework, over or not."""
    yield from framework.tasks
    yield from framework.unreachable
    yield from framework.completed


def _roles(info: FrameworkInfo) -> Json:
    if any(item.type == "MULTI_ROLE" for item in info.capabilities):
        return {"roles": list(info.roles)}
    return {"role": info.role or "*"}


def _offered(framework: FrameworkFacts) -> Resources:
    return summed(offer.resources for offer in framework.offers)
