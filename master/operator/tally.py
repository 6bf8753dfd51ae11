"""Sums of resources as operators see them; pure."""

from collections.abc import Iterable, Mapping

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.offer import Outstanding
from phalanx.master.cluster.task import resources_of, role_of
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Resource, Task

SHOWN = ("disk", "mem", "gpus", "cpus")  # always in a summary, even when there is none


def summed(parts: Iterable[Resources]) -> Resources:
    """Return the sum."""
    total = Resources()
    for part in parts:
        total += part
    return total


def used_by_role(framework: Framework) -> Mapping[str, Resources]:
    """Return what a framework's tasks hold, by role."""
    return _by_role((role_of(task, framework.info), task) for task in framework.tasks.values())


def agent_used_by_role(agent: Agent, cluster: Cluster) -> Mapping[str, Resources]:
    """Return what the tasks on an agent hold, by role."""
    found = (
        (cluster.frameworks[framework_id], cluster.frameworks[framework_id].tasks[task_id])
        for framework_id, task_id in agent.tasks
    )
    return _by_role((role_of(task, framework.info), task) for framework, task in found)


def offered_by_role(offers: Iterable[Outstanding]) -> Mapping[str, Resources]:
    """Return what offers hold, by role."""
    total: dict[str, Resources] = {}
    for offer in offers:
        total[offer.role] = total.get(offer.role, Resources()) + offer.resources
    return total


def messages(by_role: Mapping[str, Resources]) -> list[Resource]:
    """Return v1 resources, each allocated to its role."""
    return [
        message
        for role, resources in sorted(by_role.items())
        for message in resources.messages(role=role)
    ]


def summary(resources: Resources) -> dict[str, float | str]:
    """Return the legacy summary: cpus, gpus, mem and disk always, ranges as text."""
    shown: dict[str, float | str] = {name: resources.scalar(name) for name in SHOWN}
    return shown | sparse_summary(resources)


def sparse_summary(resources: Resources) -> dict[str, float | str]:
    """Return the legacy summary of only what is there."""
    shown: dict[str, float | str] = {name: resources.scalar(name) for name in resources.scalars}
    for name, spans in resources.ranges.items():
        shown[name] = f"[{', '.join(f'{begin}-{end}' for begin, end in spans)}]"
    return shown


def _by_role(tasks: Iterable[tuple[str, Task]]) -> Mapping[str, Resources]:
    total: dict[str, Resources] = {}
    for role, task in tasks:
        if held := resources_of(task):
            total[role] = total.get(role, Resources()) + held
    return total
