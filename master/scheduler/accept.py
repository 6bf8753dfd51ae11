"""What an ACCEPT comes to: steps in order, refusals, and what is left; pure (§1.4)."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ParamSpec

import msgspec

from phalanx.core.error import InvalidError
from phalanx.master.cluster.offer import Outstanding
from phalanx.master.cluster.task import allocated_to, lost_or, master_status
from phalanx.master.event import ExecutorKey
from phalanx.master.scheduler.bench import Bench
from phalanx.master.scheduler.operation_check import (
    MEMBERS,
    check_form,
    conversion_for,
    with_role,
)
from phalanx.master.scheduler.task_check import (
    group_form_problem,
    group_problem,
    task_form_problem,
    task_problem,
)
from phalanx.mesos.kind import Kind
from phalanx.mesos.operation import Conversion
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    OfferID,
    Operation,
    OperationStatus,
    TaskInfo,
    TaskState,
    TaskStatus,
)

P = ParamSpec("P")

INVALID = "REASON_TASK_INVALID"
GROUP_INVALID = "REASON_TASK_GROUP_INVALID"
LAUNCHES = frozenset({"LAUNCH", "LAUNCH_GROUP"})


@dataclass(frozen=True, slots=True)
class Run:
    """Launch a task: its own command, or under its custom executor."""

    task: TaskInfo


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Launch tasks together, under one executor."""

    executor: ExecutorInfo
    tasks: tuple[TaskInfo, ...]


@dataclass(frozen=True, slots=True)
class Convert:
    """Carry out an operation on resources."""

    operation: Operation
    conversion: Conversion


Step = Run | RunGroup | Convert


@dataclass(frozen=True, slots=True)
class Outcome:
    """Steps in order, the statuses of tasks and operations refused, and what nobody used.

    *refused* holds the statuses of both in the order of the operations.
    *unused* is what was offered and is left, *converted* what operations made
    and nobody used: that is offered again at once.
    """

    steps: tuple[Step, ...]
    refused: tuple[TaskStatus | OperationStatus, ...]
    unused: Resources
    converted: Resources

    @property
    def refusals(self) -> tuple[TaskStatus, ...]:
        """Return the statuses of refused tasks."""
        return tuple(each for each in self.refused if isinstance(each, TaskStatus))

    @property
    def failures(self) -> tuple[OperationStatus, ...]:
        """Return the statuses of refused operations that are named."""
        return tuple(each for each in self.refused if isinstance(each, OperationStatus))

    @property
    def launches(self) -> tuple[TaskInfo, ...]:
        """Return every task to launch."""
        return tuple(
            task
            for step in self.steps
            if not isinstance(step, Convert)
            for task in ((step.task,) if isinstance(step, Run) else step.tasks)
        )


def offers_problem(
    ids: Sequence[OfferID], offers: Mapping[str, Outstanding], framework_id: str
) -> str | None:
    """Return what is wrong with the offers of an ACCEPT, None when they can be used together."""
    values = [id.value for id in ids]
    if not values:
        return "No offers specified"
    if len(values) == 1:
        value = values[0]
        if value not in offers or offers[value].framework_id != framework_id:
            return f"Offer {value} is no longer valid"
        return None
    for place, value in enumerate(values):
        if value in values[:place]:
            return f"Duplicate offer {value} in offer list"
    for value in values:
        if value not in offers or offers[value].framework_id != framework_id:
            return f"Offer {value} is no longer valid"
    first = offers[values[0]]
    for value in values[1:]:
        other = offers[value]
        if other.agent_id != first.agent_id:
            return (
                f"Aggregated offers must belong to one single agent. Offer {value} uses agent"
                f" {other.agent_id} and agent {first.agent_id}"
            )
        if other.role != first.role:
            return (
                f"Aggregated offers must be allocated to the same role. Offer {value} uses role"
                f" '{other.role}' but another is using role '{first.role}'"
            )
    return None


def tasks_of(operations: Sequence[Operation]) -> list[TaskInfo]:
    """Return every task that the operations want to launch."""
    tasks: list[TaskInfo] = []
    for operation in operations:
        if operation.launch is not None:
            tasks += operation.launch.task_infos
        if operation.launch_group is not None:
            tasks += operation.launch_group.task_group.tasks
    return tasks


def dropped(
    operations: Sequence[Operation],
    info: FrameworkInfo,
    *,
    message: str,
    reason: str,
    wall: float,
) -> tuple[TaskStatus, ...]:
    """Return the statuses of an ACCEPT whose offers, or whose agent, can't be used."""
    return tuple(
        master_status(
            task.task_id.value,
            lost_or(TaskState.TASK_DROPPED, info),
            wall=wall,
            reason=reason,
            message=message,
            agent_id=task.agent_id.value,
        )
        for task in tasks_of(operations)
    )


def failed(operations: Sequence[Operation], *, message: str) -> tuple[OperationStatus, ...]:
    """Return the statuses of those of such an ACCEPT's operations that are named."""
    return tuple(
        OperationStatus(operation_id=operation.id, state="OPERATION_ERROR", message=message)
        for operation in operations
        if operation.id is not None and operation.type not in LAUNCHES
    )


def prepared(task: TaskInfo, executor: ExecutorInfo | None, role: str) -> TaskInfo:
    """Return *task* with *executor* in it, and the role where its resources have none."""
    resources = allocated_to(task.resources, role)
    if executor is None:
        return msgspec.structs.replace(task, resources=resources)
    return msgspec.structs.replace(task, resources=resources, executor=executor)


def prepared_executor(
    executor: ExecutorInfo | None, framework_id: str, role: str
) -> ExecutorInfo | None:
    """Return *executor* with its framework's id and the role where there are none."""
    if executor is None:
        return None
    return msgspec.structs.replace(
        executor,
        framework_id=executor.framework_id or FrameworkID(value=framework_id),
        resources=allocated_to(executor.resources, role),
    )


def outcome(operations: Sequence[Operation], bench: Bench, *, wall: float) -> Outcome:
    """Return what *operations* come to against *bench.available*, the resources of valid offers.

    Operations apply in order, each against what those before it left; one that
    is refused changes nothing.
    """
    return _Sequence(bench, wall).run(operations)


@dataclass
class _Sequence:
    """The evolving offer of one ACCEPT."""

    bench: Bench
    wall: float
    steps: list[Step] = field(default_factory=list)
    refused: list[TaskStatus | OperationStatus] = field(default_factory=list)

    def run(self, operations: Sequence[Operation]) -> Outcome:
        offered = self.bench.available
        self._new_ids: set[str] = set()
        taken = _Either(self._new_ids, self.bench.taken_ids)
        self.bench = replace(self.bench, taken_ids=taken)
        for operation in operations:
            if operation.type == "LAUNCH" and operation.launch is not None:
                self._launch(operation, operation.launch.task_infos)
            elif operation.type == "LAUNCH_GROUP" and operation.launch_group is not None:
                group = operation.launch_group
                self._launch_group(operation, group.executor, group.task_group.tasks)
            elif operation.type in MEMBERS:  # others are passed over, as in Mesos
                self._convert(operation)
        left = self.bench.available
        made = _gained(left, offered) if self._has_converted else Resources()
        return Outcome(
            tuple(self.steps),
            tuple(self.refused),
            left - made,
            made,
        )

    @property
    def _has_converted(self) -> bool:
        return any(isinstance(step, Convert) for step in self.steps)

    def _launch(self, operation: Operation, tasks: Sequence[TaskInfo]) -> None:
        for given in tasks:
            if operation.id is not None:
                problem = "The `id` field cannot be set on LAUNCH operations"
                self._refuse((given,), problem, INVALID)
                continue
            if problem_of_form := task_form_problem(given):
                self._refuse((given,), problem_of_form, INVALID)
                continue
            executor = prepared_executor(given.executor, self.bench.framework_id, self.bench.role)
            task = prepared(given, executor, self.bench.role)
            if wrong := _in_words(task_problem, task, self.bench):
                self._refuse((given,), wrong, INVALID)
                continue
            self._use(executor, (task,))
            self.steps.append(Run(task))

    def _launch_group(
        self, operation: Operation, given: ExecutorInfo, tasks: Sequence[TaskInfo]
    ) -> None:
        executor = prepared_executor(given, self.bench.framework_id, self.bench.role)
        assert executor is not None
        role, framework_id = self.bench.role, self.bench.framework_id
        problem: str | None
        if operation.id is not None:
            problem = "The `id` field cannot be set on LAUNCH_GROUP operations"
        elif (problem := group_form_problem(given, tasks)) is None:
            own = tuple(
                prepared(task, prepared_executor(task.executor, framework_id, role), role)
                for task in tasks
            )
            problem = _in_words(group_problem, executor, own, self.bench)
        if problem is not None:
            self._refuse(tasks, problem, GROUP_INVALID)
            return
        if not tasks:
            return
        group = tuple(prepared(task, executor, role) for task in tasks)
        self._use(executor, group)
        self.steps.append(RunGroup(executor, group))

    def _use(self, executor: ExecutorInfo | None, tasks: Sequence[TaskInfo]) -> None:
        """Take what tasks and their executor, if it is new, need of the offer."""
        used = Resources.of(resource for task in tasks for resource in task.resources)
        executors: Mapping[ExecutorKey, ExecutorInfo] = self.bench.executors
        if executor is not None:
            key = (self.bench.framework_id, executor.executor_id.value)
            if key not in executors:
                used += Resources.of(executor.resources)
                executors = {**executors, key: executor}
        self._new_ids.update(task.task_id.value for task in tasks)
        self.bench = replace(
            self.bench,
            available=self.bench.available - used.where(_is_exclusive),
            used=self.bench.used + used if self.bench.label else self.bench.used,
            executors=executors,
        )

    def _convert(self, given: Operation) -> None:
        operation = with_role(given, self.bench.role)
        try:
            check_form(given)
            conversion = conversion_for(operation, self.bench)
        except InvalidError as error:
            if given.id is not None:
                self.refused.append(
                    OperationStatus(
                        operation_id=given.id, state="OPERATION_ERROR", message=str(error)
                    )
                )
            return
        self.steps.append(Convert(operation, conversion))
        self.bench = replace(
            self.bench,
            available=conversion.apply(self.bench.available),
            total=conversion.apply(self.bench.total),
        )

    def _refuse(self, tasks: Sequence[TaskInfo], problem: str, reason: str) -> None:
        for task in tasks:
            self.refused.append(
                master_status(
                    task.task_id.value,
                    TaskState.TASK_ERROR,
                    wall=self.wall,
                    reason=reason,
                    message=problem,
                    agent_id=task.agent_id.value,
                )
            )


def _in_words(rule: Callable[P, str | None], *args: P.args, **kwargs: P.kwargs) -> str | None:
    """Return a rule's problem, and in its place that of resources that don't add up."""
    try:
        return rule(*args, **kwargs)
    except InvalidError as error:
        return str(error)


def _gained(now: Resources, before: Resources) -> Resources:
    """Return what there is more than before; a volume of another size is another one."""
    old = dict(before.items())
    gained = dict((now - before).items())
    for kind, amount in now.items():
        if kind.is_whole and old.get(kind) != amount:
            gained[kind] = amount
    return Resources(gained)


def _is_exclusive(kind: Kind) -> bool:
    """Tell whether what one task uses is not there for another."""
    return not kind.is_shared


@dataclass(frozen=True, slots=True)
class _Either:
    """What is in one of two containers; neither is copied."""

    one: Container[str]
    other: Container[str]

    def __contains__(self, item: object) -> bool:
        return item in self.one or item in self.other
