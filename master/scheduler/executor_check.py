"""Rules of executors, in Mesos' words; pure (reference mesos §1.4 rule 9)."""

from collections.abc import Callable

from phalanx.master.event import ExecutorKey
from phalanx.master.scheduler.bench import Bench
from phalanx.master.scheduler.container_check import command_problem, container_problem
from phalanx.master.scheduler.framework_info import id_problem
from phalanx.master.scheduler.resource_check import (
    allocation_problem,
    duplicate_volume,
    revocable_problem,
    sense_problem,
)
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import encode
from phalanx.mesos.v1.mesos import ExecutorInfo

LEAST_CPUS = 10  # thousandths
LEAST_MEM = 32_000  # thousandths of a megabyte


def executor_problem(executor: ExecutorInfo, bench: Bench) -> str | None:
    """Return what is wrong with an executor, whatever it is to run."""
    for rule in RULES:
        if problem := rule(executor, bench):
            return problem
    return None


def key_of_executor(executor: ExecutorInfo, bench: Bench) -> ExecutorKey:
    """Return framework id and executor id."""
    return bench.framework_id, executor.executor_id.value


def _type(executor: ExecutorInfo, _bench: Bench) -> str | None:
    if executor.type == "DEFAULT":
        if executor.command is not None:
            return "'ExecutorInfo.command' must not be set for 'DEFAULT' executor"
        if executor.container is not None:
            if executor.container.type != "MESOS":
                return "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor"
            if executor.container.mesos is not None and executor.container.mesos.image is not None:
                return "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor"
    elif executor.type == "CUSTOM" and executor.command is None:
        return "'ExecutorInfo.command' must be set for 'CUSTOM' executor"
    return None


def _id(executor: ExecutorInfo, _bench: Bench) -> str | None:
    return id_problem(executor.executor_id.value)


def _framework(executor: ExecutorInfo, bench: Bench) -> str | None:
    given = executor.framework_id
    if given is not None and given.value != bench.framework_id:
        return (
            f"ExecutorInfo has an invalid FrameworkID (Actual: {given.value}"
            f" vs Expected: {bench.framework_id})"
        )
    return None


def _grace(executor: ExecutorInfo, _bench: Bench) -> str | None:
    grace = executor.shutdown_grace_period
    if grace is not None and grace.nanoseconds < 0:
        return "ExecutorInfo's 'shutdown_grace_period' must be non-negative"
    return None


def _resources(executor: ExecutorInfo, _bench: Bench) -> str | None:
    if problem := sense_problem(executor.resources):
        return f"Executor uses invalid resources: {problem}"
    if problem := duplicate_volume(executor.resources):
        return f"Executor uses duplicate persistence ID: {problem}"
    if executor.resources and (problem := allocation_problem(executor.resources)):
        return f"Invalid executor resources: {problem}"
    if problem := revocable_problem(executor.resources):
        return f"Executor mixes revocable and non-revocable resources: {problem}"
    return None


def _command(executor: ExecutorInfo, _bench: Bench) -> str | None:
    problem = command_problem(executor.command)
    return None if problem is None else f"Executor's `CommandInfo` is invalid: {problem}"


def _container(executor: ExecutorInfo, _bench: Bench) -> str | None:
    problem = container_problem(executor.container)
    return None if problem is None else f"Executor's `ContainerInfo` is invalid: {problem}"


def _compatible(executor: ExecutorInfo, bench: Bench) -> str | None:
    known = bench.executors.get(key_of_executor(executor, bench))
    if known is None or known == executor:
        return None
    line = "-" * 60
    return (
        "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n"
        f"{line}\nExisting ExecutorInfo:\n{encode(known).decode()}\n{line}\n"
        f"ExecutorInfo:\n{encode(executor).decode()}\n{line}\n"
    )


RULES: tuple[Callable[[ExecutorInfo, Bench], str | None], ...] = (
    _type,
    _id,
    _framework,
    _grace,
    _resources,
    _command,
    _container,
    _compatible,
)


def least_problem(executor: ExecutorInfo) -> str | None:
    """Return what a task group's new executor lacks in resources."""
    scalars = Resources.of(executor.resources).scalars
    name = f"Executor '{executor.executor_id.value}'"
    cpus, mem = scalars.get("cpus"), scalars.get("mem")
    if cpus is None or cpus < LEAST_CPUS:
        had = "None" if cpus is None else f"{cpus / 1000:g}"
        return f"{name} uses less CPUs ({had}) than the minimum required (0.01)"
    if mem is None or mem < LEAST_MEM:
        had = "None" if mem is None else f"{mem // 1000}MB"
        return f"{name} uses less memory ({had}) than the minimum required (32MB)"
    return None if "disk" in scalars else f"{name} uses no disk"
