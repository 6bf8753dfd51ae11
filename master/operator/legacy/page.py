"""Bodies of the legacy endpoints (reference mesos §3.4); pure.

The long ones come piece by piece, in an order of members that clients which
read in a stream know from Mesos.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from phalanx.master.identity import CAPABILITIES
from phalanx.master.operator.fragment import listed
from phalanx.master.operator.legacy.framework import all_tasks, framework_summary, listed_frameworks
from phalanx.master.operator.legacy.slave import Slaves, recovered_json, slave_json
from phalanx.master.operator.legacy.task import Tasks, task_json
from phalanx.master.operator.role import RoleFacts
from phalanx.master.operator.snapshot import (
    Snapshot,
)
from phalanx.master.operator.tally import (
    sparse_summary,
    summed,
    totals,
)
from phalanx.master.roles.consumption import Scalars, as_numbers
from phalanx.master.roles.quota import thousandths
from phalanx.mesos.build import build_info
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import encode_value, to_json
from phalanx.mesos.v1.mesos import (
    MasterInfo,
    Task,
    TaskState,
)
from phalanx.mesos.v1.quota import QuotaConfig

Json = dict[str, Any]

# The states that /state-summary counts: exactly these.
COUNTED = (
    "TASK_STAGING",
    "TASK_STARTING",
    "TASK_RUNNING",
    "TASK_KILLING",
    "TASK_FINISHED",
    "TASK_KILLED",
    "TASK_FAILED",
    "TASK_LOST",
    "TASK_ERROR",
    "TASK_UNREACHABLE",
)

COUNT_SLICE = 4096  # tasks that are counted between two pieces

MAX_PAGE = 1_000_000_000


def state_json(
    snapshot: Snapshot,
    master: MasterInfo,
    tasks: Tasks,
    slaves: Slaves,
    *,
    start_time: float,
    elected_time: float,
    flags: Mapping[str, str],
) -> Iterator[bytes]:
    """Yield ``/state`` of the leading master."""
    active, inactive, unreachable = snapshot.standing()
    domain = {} if master.domain is None else {"domain": to_json(master.domain)}
    head: Json = {
        **to_json(build_info()),
        "start_time": start_time,
        "elected_time": elected_time,
        "id": master.id,
        "pid": master.pid,
        "hostname": master.hostname,
        "capabilities": list(CAPABILITIES),
        "activated_slaves": float(active),
        "deactivated_slaves": float(inactive),
        "unreachable_slaves": float(unreachable),
        **domain,
        **({"cluster": flags["cluster"]} if flags.get("cluster") else {}),
        "leader": master.pid,
        "leader_info": {
            "id": master.id,
            "pid": master.pid,
            "port": master.port,
            "hostname": master.hostname,
            **domain,
        },
        **{key: flags[key] for key in ("log_dir", "external_log_file") if flags.get(key)},
        "flags": dict(flags),
    }
    yield encode_value(head)[:-1] + b',"slaves":['
    yield from listed(slaves.get(agent.id, agent) for agent in snapshot.agents())
    yield b'],"recovered_slaves":%b,"frameworks":' % encode_value(
        recovered_json(snapshot.recovered)
    )
    yield from listed_frameworks(snapshot.frameworks, tasks)
    yield b',"completed_frameworks":'
    yield from listed_frameworks(snapshot.completed, tasks)
    yield b',"orphan_tasks":[],"unregistered_frameworks":[]}'
    tasks.finish()
    slaves.finish()


def state_summary_json(snapshot: Snapshot, hostname: str, name: str | None) -> Iterator[bytes]:
    """Yield ``/state-summary``."""
    by_agent: dict[str, Counter[str]] = {}
    by_framework: dict[str, Counter[str]] = {}
    frameworks_of: dict[str, set[str]] = {}
    agents_of: dict[str, set[str]] = {}
    number = 0
    for framework in snapshot.frameworks:
        mine = by_framework.setdefault(framework.id, Counter())
        for task in all_tasks(framework):
            agent_id = task.agent_id.value
            by_agent.setdefault(agent_id, Counter())[task.state] += 1
            mine[task.state] += 1
            frameworks_of.setdefault(agent_id, set()).add(framework.id)
            agents_of.setdefault(framework.id, set()).add(agent_id)
            number += 1
            if number % COUNT_SLICE == 0:
                yield b""
    head: Json = {"hostname": hostname, **({} if name is None else {"cluster": name})}
    yield encode_value(head)[:-1] + b',"slaves":['
    yield from listed(
        encode_value(
            slave_json(agent)
            | _counts(by_agent.get(agent.id, Counter()))
            | {"framework_ids": sorted(frameworks_of.get(agent.id, ()))}
        )
        for agent in snapshot.agents()
    )
    yield b'],"frameworks":['
    for number, framework in enumerate(snapshot.frameworks):
        used = summed((yield from totals(framework)).values())
        yield (b"," if number else b"") + encode_value(
            framework_summary(framework, used)
            | _counts(by_framework.get(framework.id, Counter()))
            | {"slave_ids": sorted(agents_of.get(framework.id, ()))}
        )
    yield b"]}"


def tasks_json(snapshot: Snapshot, query: Mapping[str, str]) -> Iterator[bytes]:
    """Yield ``/tasks``: by time of the first status, newest first, one page of them."""
    found: list[Task] = []
    for framework in (*snapshot.frameworks, *snapshot.completed):
        if query.get("framework_id") in (None, framework.id):
            for some in (framework.tasks, framework.unreachable, framework.completed):
                if "task_id" in query:
                    some = tuple(item for item in some if item.task_id.value == query["task_id"])
                found += some
                yield b""
    times = []
    for number, task in enumerate(found):
        times.append(_first_time(task))
        if number % COUNT_SLICE == 0:
            yield b""
    order = sorted(
        range(len(found)),
        key=times.__getitem__,
        reverse=query.get("order", "des") != "asc",
    )
    offset, limit = number_of(query, "offset", 0), number_of(query, "limit", 100)
    yield b'{"tasks":['
    yield from listed(encode_value(task_json(found[i])) for i in order[offset : offset + limit])
    yield b"]}"


def roles_json(roles: Iterable[RoleFacts]) -> Json:
    """Return ``/roles``."""
    return {
        "roles": [
            {
                "name": role.name,
                "weight": role.weight,
                "quota": _quota(role),
                "resources": _quantities(
                    role.allocated + role.offered, role.allocated_counts, role.offered_counts
                ),
                "allocated": _quantities(role.allocated, role.allocated_counts),
                "offered": _quantities(role.offered, role.offered_counts),
                "reserved": as_numbers(role.reserved),
                "frameworks": list(role.frameworks),
            }
            for role in roles
        ]
    }


def _quantities(resources: Resources, *counts: Scalars) -> Json:
    shown: Json = dict(sparse_summary(resources))
    for each in counts:
        for name, amount in each.items():
            shown[name] = shown.get(name, 0.0) + amount / 1000
    return shown


def _quota(role: RoleFacts) -> Json:
    quota = role.quota or QuotaConfig(role=role.name)
    return {
        "role": role.name,
        "guarantee": as_numbers(thousandths(quota.guarantees)),
        "limit": {name: item.value for name, item in sorted(quota.limits.items())},
        "consumed": as_numbers(role.consumed),
    }


def _counts(counter: Counter[str]) -> Json:
    return {state: counter[TaskState(state)] for state in COUNTED}


def _first_time(task: Task) -> float:
    return task.statuses[0].timestamp or 0.0 if task.statuses else 0.0


def number_of(query: Mapping[str, str], key: str, default: int) -> int:
    """Return a number of a query, *default* for what is none."""
    text = query.get(key)
    is_number = text is not None and text.isascii() and text.isdecimal()
    return min(int(text), MAX_PAGE) if text is not None and is_number else default
