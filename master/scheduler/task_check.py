"""Validation of a task to launch: the first rule broken, in Mesos' order; pure (§1.4)."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from phalanx.core.error import InvalidError
from phalanx.master.scheduler.framework_info import id_problem
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import CommandInfo, HealthCheck, HealthCheckType, TaskInfo


@dataclass(frozen=True, slots=True)
class Bench:
    """What a task is measured against: its offers and its framework's other tasks."""

    agent_id: str
    role: str
    available: Resources
    taken_ids: Collection[str]
    unreachable_ids: Collection[str]


def task_problem(task: TaskInfo, bench: Bench) -> str | None:
    """Return what is wrong with *task*, None when it may be launched."""
    for rule in RULES:
        if problem := rule(task, bench):
            return problem
    return None


def _id(task: TaskInfo, bench: Bench) -> str | None:
    id = task.task_id.value
    if problem := id_problem(id):
        return f"Task ID '{id}' is invalid: {problem}"
    if id in bench.taken_ids:
        return f"Task has duplicate ID: {id}"
    if id in bench.unreachable_ids:
        return f"Task reuses the ID of an unreachable task: {id}"
    return None


def _agent(task: TaskInfo, bench: Bench) -> str | None:
    if task.agent_id.value != bench.agent_id:
        return f"Task uses invalid agent {task.agent_id.value} while agent {bench.agent_id}" + (
            " is expected"
        )
    return None


def _durations(task: TaskInfo, _bench: Bench) -> str | None:
    grace = task.kill_policy.grace_period if task.kill_policy is not None else None
    if grace is not None and grace.nanoseconds < 0:
        return "Task's 'kill_policy.grace_period' must be non-negative"
    if task.max_completion_time is not None and task.max_completion_time.nanoseconds < 0:
        return "Task's 'max_completion_time' must be non-negative"
    return None


def _health(task: TaskInfo, _bench: Bench) -> str | None:
    if task.health_check is None:
        return None
    problem = health_check_problem(task.health_check)
    return None if problem is None else f"Task uses invalid health check: {problem}"


def health_check_problem(check: HealthCheck) -> str | None:
    """Return what is wrong with a health check, None when it is valid."""
    members = {
        HealthCheckType.COMMAND: check.command,
        HealthCheckType.HTTP: check.http,
        HealthCheckType.TCP: check.tcp,
    }
    kind = check.type or next((kind for kind, member in members.items() if member), None)
    if kind is None or kind not in members:
        return "'type' must be COMMAND, HTTP or TCP"
    if members[kind] is None:
        return f"Expecting '{kind.lower()}' to be set for {kind} health check"
    if kind is HealthCheckType.COMMAND and not _has_command(check.command):
        return "Command health check must contain a command"
    if kind is HealthCheckType.HTTP and check.http is not None:
        if check.http.scheme not in (None, "http", "https"):
            return f"Unsupported HTTP health check scheme: '{check.http.scheme}'"
        if check.http.path and not check.http.path.startswith("/"):
            return f"The path '{check.http.path}' of HTTP health check must start with '/'"
    for field in ("delay", "interval", "timeout", "grace_period"):
        if getattr(check, f"{field}_seconds") < 0:
            return f"Expecting '{field}_seconds' to be non-negative"
    return None


def _resources(task: TaskInfo, bench: Bench) -> str | None:
    if not task.resources:
        return "Task uses no resources"
    for resource in task.resources:
        role = resource.allocation_info.role if resource.allocation_info is not None else None
        if role not in (None, "", bench.role):
            return f"The resources have been allocated to role '{role}', not '{bench.role}'"
        if resource.reservations or resource.role not in (None, "*"):
            return f"Resource '{resource.name}' is reserved, and nothing reserved was offered"
        amount = resource.scalar.value if resource.scalar is not None else 0.0
        if not 0 <= amount < math.inf:
            return f"Resource '{resource.name}' has no valid amount: {amount}"
        if resource.name == "gpus" and amount != int(amount):
            return f"The 'gpus' resource must be an unsigned integer: {amount}"
    try:
        if not Resources.of(task.resources):
            return "Task uses no resources"
    except InvalidError as error:
        return f"Task uses invalid resources: {error}"
    return None


def _environment(task: TaskInfo, _bench: Bench) -> str | None:
    if task.command is None or task.command.environment is None:
        return None
    for variable in task.command.environment.variables:
        if variable.type != "VALUE":
            return f"Environment variable '{variable.name}' of type '{variable.type}'" + (
                " is not supported in this build"
            )
        if variable.value is None:
            return f"Environment variable '{variable.name}' of type 'VALUE' must have a value set"
    return None


def _container(task: TaskInfo, _bench: Bench) -> str | None:
    if task.container is None:
        return None
    if task.container.type == "DOCKER":
        if task.container.docker is None:
            return "DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
        if any(parameter.key == "name" for parameter in task.container.docker.parameters):
            return "Parameter in DockerInfo must not be 'name'"
    return None


def _limits(task: TaskInfo, _bench: Bench) -> str | None:
    requests = Resources.of(task.resources)
    for name, limit in task.limits.items():
        if name not in ("cpus", "mem"):
            return f"Task has a limit for the resource '{name}': only cpus and mem can have one"
        if name not in requests.scalars:
            return f"Task has a limit for '{name}' but no request"
        if math.isinf(limit.value):
            return f"Task has an infinite limit for '{name}', which is not supported in this build"
        if not limit.value >= requests.scalar(name):
            return f"Task's limit for '{name}' is below its request"
    return None


def _command(task: TaskInfo, _bench: Bench) -> str | None:
    if (task.command is None) == (task.executor is None):
        return "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
    if task.executor is not None:
        return "Custom executors are not supported in this build"
    return None


def _fits(task: TaskInfo, bench: Bench) -> str | None:
    wanted = Resources.of(task.resources)
    if wanted not in bench.available:
        return (
            f"Total resources {render(wanted)} required by task and its executor"
            f" is more than available {render(bench.available)}"
        )
    return None


def render(resources: Resources) -> str:
    """Return resources as Mesos writes them into messages."""
    scalars = [f"{name}:{amount / 1000:g}" for name, amount in resources.scalars.items()]
    ranges = [
        f"{name}:[{', '.join(f'{begin}-{end}' for begin, end in spans)}]"
        for name, spans in resources.ranges.items()
    ]
    return "; ".join([*scalars, *ranges]) or "{}"


def _has_command(command: CommandInfo | None) -> bool:
    return command is not None and (
        bool(command.value) or (not command.shell and bool(command.arguments))
    )


RULES: tuple[Callable[[TaskInfo, Bench], str | None], ...] = (
    _id,
    _agent,
    _durations,
    _health,
    _resources,
    _environment,
    _container,
    _limits,
    _command,
    _fits,
)
