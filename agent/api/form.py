"""Legacy JSON forms of resources, attributes, statuses and tasks (reference mesos §3.4); pure."""

from collections.abc import Iterable
from typing import Any

from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import to_json
from phalanx.mesos.v1.mesos import Attribute, Resource, Task, TaskStatus

USUAL = ("disk", "mem", "gpus", "cpus")


def resources_form(resources: Iterable[Resource]) -> dict[str, Any]:
    """Return resources as numbers and ``"[a-b]"`` texts, the usual four always among them."""
    return amounts_form(Resources.of(resources))


def amounts_form(resources: Resources) -> dict[str, Any]:
    """Return amounts as numbers and texts; what may be taken back has names of its own."""
    revocable = resources.revocable
    form = _plain_form(resources - revocable)
    for name, value in _plain_form(revocable).items():
        if value:
            form[f"{name}_revocable"] = value
    return form


def _plain_form(total: Resources) -> dict[str, Any]:
    form: dict[str, Any] = {name: total.scalar(name) for name in (*USUAL, *total.scalars)}
    for name, spans in total.ranges.items():
        form[name] = "[" + ", ".join(f"{begin}-{end}" for begin, end in spans) + "]"
    for name, items in total.sets.items():
        form[name] = "{" + ", ".join(sorted(items)) + "}"
    return form


def by_role_form(resources: Resources) -> dict[str, Any]:
    """Return reserved amounts by the role that they are reserved to."""
    roles = {role: part for role, part in resources.reserved.by_role().items() if part}
    return {role: amounts_form(part) for role, part in sorted(roles.items())}


def by_role_full(resources: Resources) -> dict[str, Any]:
    """Return reserved resources, whole, by the role that they are reserved to."""
    roles = {role: part for role, part in resources.reserved.by_role().items() if part}
    return {role: full_form(part) for role, part in sorted(roles.items())}


def full_form(resources: Resources) -> list[dict[str, Any]]:
    """Return resources whole, each with the role of its reservation as old clients read it."""
    found = []
    for message in resources.messages():
        form = to_json(message)
        form.setdefault("role", "*")
        found.append(form)
    return found


def attributes_form(attributes: Iterable[Attribute]) -> dict[str, Any]:
    """Return attributes as plain values."""
    form: dict[str, Any] = {}
    for attribute in attributes:
        if attribute.scalar is not None:
            form[attribute.name] = attribute.scalar.value
        elif attribute.ranges is not None:
            spans = (f"{span.begin}-{span.end}" for span in attribute.ranges.range)
            form[attribute.name] = f"[{', '.join(spans)}]"
        elif attribute.text is not None:
            form[attribute.name] = attribute.text.value
    return form


def status_form(status: TaskStatus) -> dict[str, Any]:
    """Return one status as a task's ``statuses`` has it."""
    form: dict[str, Any] = {"state": status.state, "timestamp": status.timestamp or 0.0}
    if status.container_status is not None:
        form["container_status"] = to_json(status.container_status)
    if status.healthy is not None:
        form["healthy"] = status.healthy
    return form


def task_form(task: Task) -> dict[str, Any]:
    """Return a command task."""
    role = next((r.allocation_info.role for r in task.resources if r.allocation_info), None)
    form: dict[str, Any] = {
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": task.executor_id.value if task.executor_id is not None else "",
        "slave_id": task.agent_id.value,
        "state": task.state,
        "resources": resources_form(task.resources),
        "role": role or "*",
        "statuses": [status_form(status) for status in task.statuses],
    }
    if task.labels is not None:
        form["labels"] = [to_json(label) for label in task.labels.labels]
    for name in ("discovery", "container", "health_check"):
        value = getattr(task, name)
        if value is not None:
            form[name] = to_json(value)
    return form
