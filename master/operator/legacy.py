"""Bodies of the legacy endpoints (reference mesos §3.4); pure.

The long ones come piece by piece, in an order of members that clients which
read in a stream know from Mesos.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from phalanx.master.cluster.task import role_of
from phalanx.master.identity import AGENT_CAPABILITIES, CAPABILITIES, agent_pid
from phalanx.master.operator.fragment import Fragments, Reading
from phalanx.master.operator.role import RoleFacts
from phalanx.master.operator.snapshot import (
    AgentFacts,
    ExecutorFacts,
    FrameworkFacts,
    RecoveredFacts,
    Snapshot,
)
from phalanx.master.operator.tally import (
    full,
    messages,
    offered_by_role,
    sparse_summary,
    summary,
    summed,
    totals,
)
from phalanx.master.roles.consumption import as_numbers
from phalanx.master.roles.quota import thousandths
from phalanx.mesos.build import build_info
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import encode_value, to_json
from phalanx.mesos.v1.mesos import (
    Attribute,
    CommandInfo,
    ContainerStatus,
    ExecutorInfo,
    FrameworkInfo,
    Labels,
    MasterInfo,
    Resource,
    Scalar,
    Task,
    TaskState,
    TaskStatus,
)
from phalanx.mesos.v1.quota import QuotaConfig

Json = dict[str, Any]
Tasks = Reading[Task]  # rendered, by identity
Slaves = Reading[AgentFacts]  # rendered, by id

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
SLICE = 64  # fragments of one piece
COUNT_SLICE = 4096  # tasks that are counted between two pieces
MAX_PAGE = 1_000_000_000

encode = encode_value


def slave_json(agent: AgentFacts) -> Json:
    """Return an agent as ``/state`` shows it."""
    info = agent.info
    shown: Json = {
        "id": agent.id,
        "hostname": info.hostname,
        "port": info.port,
        "attributes": {item.name: attribute_value(item) for item in info.attributes},
    }
    if info.domain is not None:
        shown["domain"] = to_json(info.domain)
    shown["pid"] = agent_pid(agent.address, info.port)
    shown["registered_time"] = agent.registered
    if agent.reregistered is not None:
        shown["reregistered_time"] = agent.reregistered
    shown |= {
        "resources": summary(agent.total),
        "used_resources": summary(agent.used),
        "offered_resources": summary(agent.offered),
        "reserved_resources": {
            role: summary(resources) for role, resources in agent.total.by_role().items()
        },
        "unreserved_resources": summary(agent.total.unreserved),
        "active": agent.is_active,
        "deactivated": agent.is_deactivated,
        "version": agent.version,
        "capabilities": [item.type for item in agent.capabilities if item.type]
        or list(AGENT_CAPABILITIES),
    }
    if agent.drain is not None:
        shown["drain_info"] = to_json(agent.drain)
    if agent.drain_started is not None:
        shown["estimated_drain_start_time_seconds"] = agent.drain_started
    return shown


def full_slave_json(agent: AgentFacts) -> Json:
    """Return an agent as ``/slaves`` shows it: with its resources in full."""
    return slave_json(agent) | {
        "reserved_resources_full": {
            role: _full(full(resources)) for role, resources in agent.total.by_role().items()
        },
        "unreserved_resources_full": _full(full(agent.total.unreserved)),
        "used_resources_full": _full(messages(agent.held)),
        "offered_resources_full": _full(messages(offered_by_role(agent.offers))),
    }


def slaves_json(snapshot: Snapshot, wanted: str | None = None) -> Iterator[bytes]:
    """Yield ``/slaves``: all agents, or the one that is wanted."""
    yield b'{"slaves":['
    yield from _listed(
        encode(full_slave_json(agent))
        for agent in snapshot.agents()
        if wanted is None or agent.id == wanted
    )
    recovered = [item for item in snapshot.recovered if wanted is None or item.id == wanted]
    yield b'],"recovered_slaves":%b}' % encode(_recovered(recovered))


def framework_pieces(framework: FrameworkFacts, tasks: Tasks) -> Iterator[bytes]:
    """Yield a framework as ``/state`` and ``/frameworks`` show it."""
    info = framework.info
    used = summed((yield from totals(framework)).values())
    head = _framework_summary(framework, used) | {
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
    yield encode(head)[:-1] + b',"tasks":['
    yield from _listed(tasks.get(id(task), task) for task in framework.tasks)
    yield b'],"unreachable_tasks":['
    yield from _listed(tasks.get(id(task), task) for task in framework.unreachable)
    yield b'],"completed_tasks":['
    yield from _listed(tasks.get(id(task), task) for task in framework.completed)
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
        tail["labels"] = _labels(info.labels)
    tail["offer_constraints"] = (
        {} if framework.constraints is None else to_json(framework.constraints)
    )
    yield b"]," + encode(tail)[1:]


def _framework_summary(framework: FrameworkFacts, used: Resources) -> Json:
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
    yield from _frameworks(_wanted(snapshot.frameworks, wanted), tasks)
    yield b',"completed_frameworks":'
    yield from _frameworks(_wanted(snapshot.completed, wanted), tasks)
    yield b',"unregistered_frameworks":[]}'


def _wanted(items: Iterable[FrameworkFacts], id: str | None) -> list[FrameworkFacts]:
    return [item for item in items if id is None or item.id == id]


def _frameworks(items: Iterable[FrameworkFacts], tasks: Tasks) -> Iterator[bytes]:
    separator = b"["
    for item in items:
        yield separator
        yield from framework_pieces(item, tasks)
        separator = b","
    yield b"[]" if separator == b"[" else b"]"


def task_json(task: Task, info: FrameworkInfo | None = None) -> Json:
    """Return a task as every legacy endpoint shows it."""
    shown: Json = {
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": task.executor_id.value if task.executor_id is not None else "",
        "slave_id": task.agent_id.value,
        "state": task.state.value,
        "resources": summary(Resources.of(task.resources)),
        "role": role_of(task, info) if info is not None else _role_of(task),
        "statuses": [_status_json(status) for status in task.statuses],
    }
    if task.limits:
        shown["limits"] = {name: _number_of(limit) for name, limit in task.limits.items()}
    if task.user:
        shown["user"] = task.user
    if task.labels is not None:
        shown["labels"] = _labels(task.labels)
    for field in ("discovery", "container", "health_check"):
        message = getattr(task, field)
        if message is not None:
            shown[field] = to_json(message)
    return shown


def _role_of(task: Task) -> str:
    for resource in task.resources:
        if resource.allocation_info is not None and resource.allocation_info.role:
            return resource.allocation_info.role
    return "*"


def _number_of(limit: Scalar) -> float | msgspec.Raw:
    return msgspec.Raw(b"Infinity") if math.isinf(limit.value) else limit.value


def task_fragments() -> Fragments[Task]:
    """Return where tasks are kept as legacy JSON."""
    return Fragments(lambda task: encode(task_json(task)))


def slave_fragments() -> Fragments[AgentFacts]:
    """Return where agents are kept as ``/state`` shows them."""
    return Fragments(lambda agent: encode(slave_json(agent)))


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
    yield from _listed(encode(task_json(found[i])) for i in order[offset : offset + limit])
    yield b"]}"


def roles_json(roles: Iterable[RoleFacts]) -> Json:
    """Return ``/roles``."""
    return {
        "roles": [
            {
                "name": role.name,
                "weight": role.weight,
                "quota": _quota(role),
                "resources": sparse_summary(role.allocated + role.offered),
                "allocated": sparse_summary(role.allocated),
                "offered": sparse_summary(role.offered),
                "reserved": as_numbers(role.reserved),
                "frameworks": list(role.frameworks),
            }
            for role in roles
        ]
    }


def _quota(role: RoleFacts) -> Json:
    quota = role.quota or QuotaConfig(role=role.name)
    return {
        "role": role.name,
        "guarantee": as_numbers(thousandths(quota.guarantees)),
        "limit": {name: item.value for name, item in sorted(quota.limits.items())},
        "consumed": as_numbers(role.consumed),
    }


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
    yield encode(head)[:-1] + b',"slaves":['
    yield from _listed(slaves.get(agent.id, agent) for agent in snapshot.agents())
    yield b'],"recovered_slaves":%b,"frameworks":' % encode(_recovered(snapshot.recovered))
    yield from _frameworks(snapshot.frameworks, tasks)
    yield b',"completed_frameworks":'
    yield from _frameworks(snapshot.completed, tasks)
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
        for task in _all_tasks(framework):
            agent_id = task.agent_id.value
            by_agent.setdefault(agent_id, Counter())[task.state] += 1
            mine[task.state] += 1
            frameworks_of.setdefault(agent_id, set()).add(framework.id)
            agents_of.setdefault(framework.id, set()).add(agent_id)
            number += 1
            if number % COUNT_SLICE == 0:
                yield b""
    head: Json = {"hostname": hostname, **({} if name is None else {"cluster": name})}
    yield encode(head)[:-1] + b',"slaves":['
    yield from _listed(
        encode(
            slave_json(agent)
            | _counts(by_agent.get(agent.id, Counter()))
            | {"framework_ids": sorted(frameworks_of.get(agent.id, ()))}
        )
        for agent in snapshot.agents()
    )
    yield b'],"frameworks":['
    for number, framework in enumerate(snapshot.frameworks):
        used = summed((yield from totals(framework)).values())
        yield (b"," if number else b"") + encode(
            _framework_summary(framework, used)
            | _counts(by_framework.get(framework.id, Counter()))
            | {"slave_ids": sorted(agents_of.get(framework.id, ()))}
        )
    yield b"]}"


def attribute_value(attribute: Attribute) -> float | str:
    """Return an attribute's plain value: a number, or text."""
    if attribute.scalar is not None:
        return attribute.scalar.value
    if attribute.ranges is not None:
        spans = (f"{span.begin}-{span.end}" for span in attribute.ranges.range)
        return f"[{', '.join(spans)}]"
    if attribute.set is not None:
        return f"{{{', '.join(attribute.set.item)}}}"
    return attribute.text.value if attribute.text is not None else ""


def _status_json(status: TaskStatus) -> Json:
    shown: Json = {"state": status.state.value, "timestamp": status.timestamp or 0.0}
    if status.labels is not None:
        shown["labels"] = _labels(status.labels)
    if status.container_status is not None:
        shown["container_status"] = _container_status_json(status.container_status)
    if status.healthy is not None:
        shown["healthy"] = status.healthy
    return shown


def _container_status_json(status: ContainerStatus) -> Json:
    shown: Json = {}
    if status.container_id is not None:
        shown["container_id"] = to_json(status.container_id)
    infos = []
    for info in status.network_infos:
        entry = to_json(info)
        if info.labels is not None:
            entry["labels"] = _labels(info.labels)
        infos.append(entry)
    if infos:
        shown["network_infos"] = infos
    return shown


def _executor_json(executor: ExecutorFacts) -> Json:
    return executor_json(executor.info) | {"slave_id": executor.agent_id}


def executor_json(info: ExecutorInfo) -> Json:
    """Return an executor as legacy endpoints show it, less the agent that it runs on."""
    shown: Json = {
        "executor_id": info.executor_id.value,
        "name": info.name or "",
        "framework_id": info.framework_id.value if info.framework_id is not None else "",
        "command": {} if info.command is None else _command_json(info.command),
        "resources": summary(Resources.of(info.resources)),
    }
    for resource in info.resources[:1]:
        allocation = resource.allocation_info
        shown["role"] = (allocation.role if allocation is not None else None) or "*"
    if info.labels is not None:
        shown["labels"] = _labels(info.labels)
    if info.type is not None:
        shown["type"] = info.type
    return shown


def _command_json(command: CommandInfo) -> Json:
    shown: Json = {"shell": command.shell}
    if command.value is not None:
        shown["value"] = command.value
    shown["argv"] = list(command.arguments)
    if command.environment is not None:
        shown["environment"] = to_json(command.environment)
    shown["uris"] = [
        {
            "value": uri.value,
            **({} if uri.executable is None else {"executable": uri.executable}),
        }
        for uri in command.uris
    ]
    return shown


def _all_tasks(framework: FrameworkFacts) -> Iterator[Task]:
    yield from framework.tasks
    yield from framework.unreachable
    yield from framework.completed


def _counts(counter: Counter[str]) -> Json:
    return {state: counter[TaskState(state)] for state in COUNTED}


def _labels(labels: Labels) -> list[Json]:
    return [to_json(label) for label in labels.labels]


def _roles(info: FrameworkInfo) -> Json:
    if any(item.type == "MULTI_ROLE" for item in info.capabilities):
        return {"roles": list(info.roles)}
    return {"role": info.role or "*"}


def _offered(framework: FrameworkFacts) -> Resources:
    return summed(offer.resources for offer in framework.offers)


def _recovered(agents: Iterable[RecoveredFacts]) -> list[Json]:
    return [
        {
            "id": agent.id,
            "hostname": agent.info.hostname,
            "port": agent.info.port,
            "attributes": {item.name: attribute_value(item) for item in agent.info.attributes},
            "pid": agent_pid(agent.address, agent.info.port),
            "resources": summary(Resources.of(agent.info.resources)),
        }
        for agent in agents
    ]


def _full(resources: Iterable[Resource]) -> list[Json]:
    return [to_json(resource) for resource in resources]


def _first_time(task: Task) -> float:
    return task.statuses[0].timestamp or 0.0 if task.statuses else 0.0


def number_of(query: Mapping[str, str], key: str, default: int) -> int:
    """Return a number of a query, *default* for what is none."""
    text = query.get(key)
    is_number = text is not None and text.isascii() and text.isdecimal()
    return min(int(text), MAX_PAGE) if text is not None and is_number else default


def _listed(items: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the items of a JSON list, several to a piece."""
    is_first = True
    batch: list[bytes] = []
    for item in items:
        batch.append(item)
        if len(batch) >= SLICE:
            yield (b"" if is_first else b",") + b",".join(batch)
            is_first = False
            batch = []
    if batch:
        yield (b"" if is_first else b",") + b",".join(batch)
