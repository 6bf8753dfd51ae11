"""Bodies of the legacy endpoints (reference mesos §3.4); pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.task import role_of
from phalanx.master.identity import AGENT_CAPABILITIES, CAPABILITIES, VERSION, agent_pid
from phalanx.master.operator.tally import (
    agent_used_by_role,
    messages,
    offered_by_role,
    sparse_summary,
    summary,
    summed,
    used_by_role,
)
from phalanx.master.operator.v1 import frameworks_by_role, reachable
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import to_json
from phalanx.mesos.v1.mesos import (
    Attribute,
    ContainerStatus,
    FrameworkInfo,
    Labels,
    MasterInfo,
    Resource,
    Task,
    TaskState,
    TaskStatus,
)

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


def slave_json(agent: Agent, cluster: Cluster) -> Json:
    """Return an agent as ``/state`` shows it."""
    return {
        "id": agent.id,
        "hostname": agent.info.hostname,
        "port": agent.info.port,
        "attributes": {item.name: attribute_value(item) for item in agent.info.attributes},
        "pid": agent_pid(agent.address, agent.info.port),
        "registered_time": agent.registered,
        **({} if agent.reregistered is None else {"reregistered_time": agent.reregistered}),
        "resources": summary(agent.total),
        "used_resources": summary(agent.used),
        "offered_resources": summary(agent.offered),
        "reserved_resources": {},
        "unreserved_resources": summary(agent.total),
        "active": agent.is_offerable,
        "deactivated": False,
        "version": agent.version,
        "capabilities": list(AGENT_CAPABILITIES),
    }


def slaves_json(cluster: Cluster) -> Json:
    """Return ``/slaves``: the agents with their resources in full."""
    return {
        "slaves": [
            slave_json(agent, cluster)
            | {
                "reserved_resources_full": {},
                "unreserved_resources_full": _full(agent.total.messages()),
                "used_resources_full": _full(messages(agent_used_by_role(agent, cluster))),
                "offered_resources_full": _full(
                    messages(offered_by_role(cluster.offers_of(agent)))
                ),
            }
            for agent in reachable(cluster)
        ],
        "recovered_slaves": _recovered(cluster),
    }


def framework_json(framework: Framework, cluster: Cluster) -> Json:
    """Return a framework as ``/state`` and ``/frameworks`` show it."""
    info = framework.info
    offers = [cluster.offers[id] for id in sorted(framework.offers)]
    return _framework_summary(framework, cluster) | {
        "user": info.user,
        "failover_timeout": info.failover_timeout,
        "checkpoint": info.checkpoint,
        "registered_time": framework.registered,
        "unregistered_time": framework.unregistered or 0.0,
        **(
            {}
            if framework.reregistered in (None, framework.registered)
            else {"reregistered_time": framework.reregistered}
        ),
        **({} if info.principal is None else {"principal": info.principal}),
        "resources": summary(_used(framework) + _offered(framework, cluster)),
        **_roles(info),
        "tasks": [task_json(task, info) for task in framework.tasks.values()],
        "unreachable_tasks": [task_json(task, info) for task in framework.unreachable.values()],
        "completed_tasks": [task_json(task, info) for task in framework.completed],
        "offers": [
            {
                "id": offer.id,
                "framework_id": offer.framework_id,
                "allocation_info": {"role": offer.role},
                "slave_id": offer.agent_id,
                "resources": summary(offer.resources),
            }
            for offer in offers
        ],
        "executors": [],
        **({} if info.labels is None else {"labels": _labels(info.labels)}),
        "offer_constraints": {},
    }


def _framework_summary(framework: Framework, cluster: Cluster) -> Json:
    info = framework.info
    return {
        "id": framework.id,
        "name": info.name,
        "used_resources": summary(_used(framework)),
        "offered_resources": summary(_offered(framework, cluster)),
        "capabilities": [item.type for item in info.capabilities if item.type],
        "hostname": info.hostname or "",
        "webui_url": info.webui_url or "",
        "active": framework.is_connected,
        "connected": framework.is_connected,
        "recovered": framework.is_recovered,
    }


def frameworks_json(cluster: Cluster) -> Json:
    """Return ``/frameworks``."""
    return {
        "frameworks": [framework_json(item, cluster) for item in cluster.frameworks.values()],
        "completed_frameworks": [
            framework_json(item, cluster) for item in cluster.completed.values()
        ],
        "unregistered_frameworks": [],
    }


def task_json(task: Task, info: FrameworkInfo) -> Json:
    """Return a task as every legacy endpoint shows it."""
    shown: Json = {
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": task.executor_id.value if task.executor_id is not None else "",
        "slave_id": task.agent_id.value,
        "state": task.state.value,
        "resources": summary(Resources.of(task.resources)),
        "role": role_of(task, info),
        "statuses": [_status_json(status) for status in task.statuses],
    }
    if task.limits:
        shown["limits"] = {name: limit.value for name, limit in task.limits.items()}
    if task.user:
        shown["user"] = task.user
    if task.labels is not None:
        shown["labels"] = _labels(task.labels)
    for field in ("discovery", "container", "health_check"):
        message = getattr(task, field)
        if message is not None:
            shown[field] = to_json(message)
    return shown


def tasks_json(cluster: Cluster, query: Mapping[str, str]) -> Json:
    """Return ``/tasks``: by time of the first status, newest first, one page of them."""
    found = [
        (task, framework.info)
        for framework in (*cluster.frameworks.values(), *cluster.completed.values())
        if query.get("framework_id") in (None, framework.id)
        for task in (
            *framework.tasks.values(),
            *framework.unreachable.values(),
            *framework.completed,
        )
        if query.get("task_id") in (None, task.task_id.value)
    ]
    found.sort(key=lambda pair: _first_time(pair[0]), reverse=query.get("order", "des") != "asc")
    offset, limit = _number(query.get("offset"), 0), _number(query.get("limit"), 100)
    return {"tasks": [task_json(task, info) for task, info in found[offset : offset + limit]]}


def roles_json(cluster: Cluster) -> Json:
    """Return ``/roles``."""
    roles = []
    for role, frameworks in frameworks_by_role(cluster).items():
        used = summed(used_by_role(item).get(role, Resources()) for item in frameworks)
        offered = summed(
            cluster.offers[id].resources
            for item in frameworks
            for id in item.offers
            if cluster.offers[id].role == role
        )
        roles.append(
            {
                "name": role,
                "weight": 1.0,
                "quota": {
                    "role": role,
                    "guarantee": {},
                    "limit": {},
                    "consumed": sparse_summary(used + offered),
                },
                "resources": sparse_summary(used + offered),
                "allocated": sparse_summary(used),
                "offered": sparse_summary(offered),
                "reserved": {},
                "frameworks": [item.id for item in frameworks],
            }
        )
    return {"roles": roles}


def state_json(
    cluster: Cluster,
    master: MasterInfo,
    *,
    start_time: float,
    elected_time: float,
    flags: Mapping[str, str],
) -> Json:
    """Return ``/state`` of the leading master."""
    agents = reachable(cluster)
    active = sum(agent.is_offerable for agent in agents)
    return {
        "version": VERSION,
        "start_time": start_time,
        "elected_time": elected_time,
        "id": master.id,
        "pid": master.pid,
        "hostname": master.hostname,
        "capabilities": list(CAPABILITIES),
        "activated_slaves": float(active),
        "deactivated_slaves": float(len(agents) - active),
        "unreachable_slaves": float(len(cluster.agents) - len(agents)),
        **({"cluster": flags["cluster"]} if "cluster" in flags else {}),
        "leader": master.pid,
        "leader_info": {
            "id": master.id,
            "pid": master.pid,
            "port": master.port,
            "hostname": master.hostname,
        },
        "flags": dict(flags),
        "slaves": [slave_json(agent, cluster) for agent in agents],
        "recovered_slaves": _recovered(cluster),
        "frameworks": [framework_json(item, cluster) for item in cluster.frameworks.values()],
        "completed_frameworks": [
            framework_json(item, cluster) for item in cluster.completed.values()
        ],
        "orphan_tasks": [],
        "unregistered_frameworks": [],
    }


def state_summary_json(cluster: Cluster, hostname: str, name: str | None) -> Json:
    """Return ``/state-summary``."""
    by_agent: dict[str, Counter[str]] = {}
    by_framework: dict[str, Counter[str]] = {}
    pairs: set[tuple[str, str]] = set()
    for framework in cluster.frameworks.values():
        for task in _all_tasks(framework):
            agent_id = task.agent_id.value
            by_agent.setdefault(agent_id, Counter())[task.state] += 1
            by_framework.setdefault(framework.id, Counter())[task.state] += 1
            pairs.add((agent_id, framework.id))
    return {
        "hostname": hostname,
        **({} if name is None else {"cluster": name}),
        "slaves": [
            slave_json(agent, cluster)
            | _counts(by_agent.get(agent.id, Counter()))
            | {"framework_ids": sorted(f for a, f in pairs if a == agent.id)}
            for agent in reachable(cluster)
        ],
        "frameworks": [
            _framework_summary(framework, cluster)
            | _counts(by_framework.get(framework.id, Counter()))
            | {"slave_ids": sorted(a for a, f in pairs if f == framework.id)}
            for framework in cluster.frameworks.values()
        ],
    }


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


def _all_tasks(framework: Framework) -> Iterable[Task]:
    yield from framework.tasks.values()
    yield from framework.unreachable.values()
    yield from framework.completed


def _counts(counter: Counter[str]) -> Json:
    return {state: counter[TaskState(state)] for state in COUNTED}


def _labels(labels: Labels) -> list[Json]:
    return [to_json(label) for label in labels.labels]


def _roles(info: FrameworkInfo) -> Json:
    if any(item.type == "MULTI_ROLE" for item in info.capabilities):
        return {"roles": list(info.roles)}
    return {"role": info.role or "*"}


def _used(framework: Framework) -> Resources:
    return summed(used_by_role(framework).values())


def _offered(framework: Framework, cluster: Cluster) -> Resources:
    return summed(cluster.offers[id].resources for id in framework.offers)


def _recovered(cluster: Cluster) -> list[Json]:
    return [
        {
            "id": agent.id,
            "hostname": agent.info.hostname,
            "port": agent.info.port,
            "attributes": {item.name: attribute_value(item) for item in agent.info.attributes},
            "pid": agent_pid(agent.address, agent.info.port),
            "resources": summary(Resources.of(agent.info.resources)),
        }
        for agent in cluster.recovered.values()
    ]


def _full(resources: Iterable[Resource]) -> list[Json]:
    return [to_json(resource) for resource in resources]


def _first_time(task: Task) -> float:
    return task.statuses[0].timestamp or 0.0 if task.statuses else 0.0


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else default
