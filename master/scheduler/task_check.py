"""Validation of tasks to launch: the first rule broken, in Mesos' order; pure (§1.4)."""

from collections.abc import Callable, Iterable, Sequence

from phalanx.master.scheduler.bench import Bench
from phalanx.master.scheduler.container_check import (
    check_problem,
    command_problem,
    container_problem,
    health_check_problem,
    type_of,
)
from phalanx.master.scheduler.executor_check import (
    executor_problem,
    key_of_executor,
    least_problem,
)
from phalanx.master.scheduler.framework_info import id_problem
from phalanx.master.scheduler.resource_check import (
    allocation_problem,
    duplicate_volume,
    form_problem,
    revocable_problem,
    sense_problem,
)
from phalanx.master.scheduler.wording import words_of, words_of_messages
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import ContainerInfo, ExecutorInfo, HealthCheckType, Resource, TaskInfo


def task_form_problem(task: TaskInfo) -> str | None:
    """Return which resource of a task, or of its executor, can't be counted at all."""
    problem = form_problem(task.resources)
    if problem is None and task.executor is not None:
        problem = form_problem(task.executor.resources)
    return problem


def task_problem(task: TaskInfo, bench: Bench) -> str | None:
    """Return what is wrong with the *task* of a LAUNCH, None when it may be launched.

    Its resources are well formed, and roles filled in (``accept.prepared``).
    """
    for rule in (*RULES, *LAUNCH_RULES):
        if problem := rule(task, bench):
            return problem
    return None


def _id(task: TaskInfo, bench: Bench) -> str | None:
    id = task.task_id.value
    if problem := id_problem(id):
        return problem
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
        return "Task's `max_completion_time` must be non-negative"
    return None


def _checks(task: TaskInfo, _bench: Bench) -> str | None:
    if task.check is not None and (problem := check_problem(task.check)):
        return f"Task uses invalid check: {problem}"
    if task.health_check is not None and (problem := health_check_problem(task.health_check)):
        return f"Task uses invalid health check: {problem}"
    return None


def _resources(task: TaskInfo, _bench: Bench) -> str | None:
    if not task.resources:
        return "Task uses no resources"
    if problem := sense_problem(task.resources):
        return f"Task uses invalid resources: {problem}"
    if problem := duplicate_volume(task.resources):
        return f"Task uses duplicate persistence ID: {problem}"
    if problem := allocation_problem(task.resources):
        return f"Invalid task resources: {problem}"
    if problem := revocable_problem(task.resources):
        return f"Task mixes revocable and non-revocable resources: {problem}"
    return None


def _command(task: TaskInfo, _bench: Bench) -> str | None:
    problem = command_problem(task.command)
    return None if problem is None else f"Task's `CommandInfo` is invalid: {problem}"


def _container(task: TaskInfo, _bench: Bench) -> str | None:
    problem = container_problem(task.container)
    return None if problem is None else f"Task's `ContainerInfo` is invalid: {problem}"


def _limits(task: TaskInfo, bench: Bench) -> str | None:
    if not task.limits:
        return None
    if not bench.takes_limits:
        return "Agent is not capable of handling task resource limits"
    if not task.limits.keys() <= {"cpus", "mem"}:
        return "Only cpus and mem may be included in a task's resource limits"
    requests = Resources.of(task.resources).scalars
    for name, short, long in (("cpus", "CPU", "cpu"), ("mem", "memory", "memory")):
        limit = task.limits.get(name)
        if limit is None:
            continue
        if name not in requests:
            return f"When a {short} limit is specified, a {short} request must also be specified"
        if not limit.value * 1000 >= requests[name] - 0.5:
            return f"The {long} limit must be greater than or equal to the {long} request"
    return None


RULES: tuple[Callable[[TaskInfo, Bench], str | None], ...] = (
    _id,
    _agent,
    _durations,
    _checks,
    _resources,
    _command,
    _container,
    _limits,
)


# A LAUNCH's own


def _what_runs(task: TaskInfo, _bench: Bench) -> str | None:
    if (task.command is None) == (task.executor is None):
        return "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
    if _share_of(task.container) is False:
        return "Only tasks in a task group may have 'share_cgroups' set to 'false'"
    return None


def _executor(task: TaskInfo, bench: Bench) -> str | None:
    executor = task.executor
    if executor is None:
        return None
    if problem := executor_problem(executor, bench):
        return problem
    if executor.type not in (None, "CUSTOM"):
        return "'ExecutorInfo.type' must be 'CUSTOM'"
    if executor.command is None:
        return "'ExecutorInfo.command' must be set"
    both = (*task.resources, *executor.resources)
    if problem := duplicate_volume(both):
        return f"Task and its executor use duplicate persistence ID: {problem}"
    if problem := revocable_problem(both):
        return f"Task and its executor mix revocable and non-revocable resources: {problem}"
    return None


def _fits(task: TaskInfo, bench: Bench) -> str | None:
    messages = list(task.resources)
    if task.executor is not None and key_of_executor(task.executor, bench) not in bench.executors:
        messages += task.executor.resources
    problem = _excess(messages, bench)
    return problem and f"Total resources {problem[0]} required by task and its executor" + (
        f" is more than available {problem[1]}"
    )


def _excess(messages: Sequence[Resource], bench: Bench) -> tuple[str, str] | None:
    """Return what is wanted and what there is, in words, when the one is not in the other."""
    wanted = Resources.of(messages)
    strange = any(
        item.allocation_info is not None and item.allocation_info.role != bench.role
        for item in messages
    )
    if not strange and wanted in bench.available:
        return None
    words = words_of_messages(messages) if strange else words_of(wanted, bench.role)
    return words, words_of(bench.available, bench.role)


LAUNCH_RULES: tuple[Callable[[TaskInfo, Bench], str | None], ...] = (_what_runs, _executor, _fits)


# Groups


def group_problem(executor: ExecutorInfo, tasks: Sequence[TaskInfo], bench: Bench) -> str | None:
    """Return what is wrong with a task group, None when all of it may be launched.

    Resources are well formed, and roles filled in.
    """
    for task in tasks:
        if problem := _member(task, bench):
            return f"Task '{task.task_id.value}' is invalid: {problem}"
    ids = [task.task_id.value for task in tasks]
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        return f"Task '{twice[0]}' is invalid: Task has duplicate ID: {twice[0]}"
    if problem := executor_problem(executor, bench):
        return problem
    return _together(executor, tasks, bench)


def _member(task: TaskInfo, bench: Bench) -> str | None:
    for rule in RULES:
        if problem := rule(task, bench):
            return problem
    container = task.container
    if container is not None and container.type == "DOCKER":
        return "Docker ContainerInfo is not supported on the task"
    if container is not None and container.network_infos and task.health_check is not None:
        kind = type_of(task.health_check)
        if kind in (HealthCheckType.HTTP, HealthCheckType.TCP):
            return (
                "HTTP and TCP health checks are not supported for nested containers not joining"
                " parent's network"
            )
    if task.limits and _share_of(container) is not False:
        return (
            "Resource limits may only be set for tasks within a task group when the"
            " 'share_cgroups' field is set to 'false'."
        )
    return None


def _together(executor: ExecutorInfo, tasks: Sequence[TaskInfo], bench: Bench) -> str | None:
    if executor.type is None:
        return "'ExecutorInfo.type' must be set"
    if executor.type == "UNKNOWN":
        return "Unknown executor type"
    if executor.container is not None and executor.container.type == "DOCKER":
        return "Docker ContainerInfo is not supported on the executor"
    is_new = key_of_executor(executor, bench) not in bench.executors
    if is_new and (problem := least_problem(executor)):
        return problem
    for task in tasks:
        if task.executor is not None and task.executor != executor:
            return (
                f"The `ExecutorInfo` of task '{task.task_id.value}' is different from executor"
                f" '{executor.executor_id.value}'"
            )
    messages = [item for task in tasks for item in task.resources]
    everything = (*messages, *executor.resources)
    if problem := duplicate_volume(_without_shared(everything)):
        return f"Task group and executor use duplicate persistence ID: {problem}"
    if problem := revocable_problem(everything):
        return f"Task group and executor mix revocable and non-revocable resources: {problem}"
    if excess := _excess(everything if is_new else messages, bench):
        return (
            f"Total resources {excess[0]} required by task group and its executor are more than"
            f" available {excess[1]}"
        )
    known = bench.groups.get(key_of_executor(executor, bench))
    shares = {_share_of(task.container) is not False for task in tasks}
    if len(shares) > 1 or (known is not None and shares and known not in shares):
        return (
            "If set, the value of 'share_cgroups' must be the same for all tasks in each task"
            " group and under a single executor"
        )
    return None


def group_form_problem(executor: ExecutorInfo, tasks: Iterable[TaskInfo]) -> str | None:
    """Return which resource of a group can't be counted at all."""
    problems = (form_problem(executor.resources), *(task_form_problem(task) for task in tasks))
    return next((problem for problem in problems if problem is not None), None)


def _without_shared(resources: Iterable[Resource]) -> list[Resource]:
    return [resource for resource in resources if resource.shared is None]


def _share_of(container: ContainerInfo | None) -> bool | None:
    info = container.linux_info if container is not None else None
    return None if info is None else info.share_cgroups
