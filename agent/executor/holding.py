"""What the container of an executor is held to: its own resources and its tasks'; pure."""

from collections.abc import Iterable, Mapping

from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import ExecutorInfo, Scalar, TaskInfo


def held_resources(executor: ExecutorInfo, tasks: Iterable[TaskInfo]) -> Resources:
    """Return the sum of what an executor and its tasks have."""
    total = Resources.of(executor.resources)
    for task in tasks:
        total += Resources.of(task.resources)
    return total


def held_limits(executor: ExecutorInfo, tasks: Iterable[TaskInfo]) -> Mapping[str, Scalar]:
    """Return the sum of the limits; whoever has none counts with what it asked for.

    A resource that nobody limits has no limit of its own here.
    """
    every = tuple(tasks)
    limits = {}
    for name in sorted({name for task in every for name in task.limits}):
        total = Resources.of(executor.resources).scalar(name)
        for task in every:
            asked = Resources.of(task.resources).scalar(name)
            total += task.limits[name].value if name in task.limits else asked
        limits[name] = Scalar(value=total)
    return limits
