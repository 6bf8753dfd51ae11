"""Tasks as the legacy endpoints show them (reference mesos §3.4); pure."""

import math
from typing import Any

import msgspec

from phalanx.master.cluster.task import role_of
from phalanx.master.operator.fragment import Fragments, Reading
from phalanx.master.operator.tally import (
    summary,
)
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import encode_value, to_json
from phalanx.mesos.v1.mesos import (
    CommandInfo,
    ContainerStatus,
    ExecutorInfo,
    FrameworkInfo,
    Labels,
    Scalar,
    Task,
    TaskStatus,
)

Json = dict[str, Any]
Tasks = Reading[Task]  # rendered, by identity


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
        shown["labels"] = labels_json(task.labels)
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
    return Fragments(lambda task: encode_value(task_json(task)))


def _status_json(status: TaskStatus) -> Json:
    shown: Json = {"state": status.state.value, "timestamp": status.timestamp or 0.0}
    if status.labels is not None:
        shown["labels"] = labels_json(status.labels)
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
            entry["labels"] = labels_json(info.labels)
        infos.append(entry)
    if infos:
        shown["network_infos"] = infos
    return shown


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
        shown["labels"] = labels_json(info.labels)
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


def labels_json(labels: Labels) -> list[Json]:
    """Return labels as the plain list that old tools know."""
    return [to_json(label) for label in labels.labels]
