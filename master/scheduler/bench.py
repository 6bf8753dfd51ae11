"""What the parts of an ACCEPT are measured against; values only."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from phalanx.master.event import ExecutorKey
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import ExecutorInfo


@dataclass(frozen=True, slots=True)
class Bench:
    """An agent, a framework's place on it, and what its offers hold.

    *available* is what is left of the offers, *taken_ids* and
    *unreachable_ids* are those of the framework's tasks, *executors* runs on
    the agent. *label* is how messages name the agent, *total* all that it has,
    *used* what runs on it; *groups* tells of each running executor whether its
    task groups share its cgroups.
    """

    agent_id: str
    role: str
    available: Resources
    taken_ids: Container[str]
    unreachable_ids: Container[str]
    framework_id: str = ""
    executors: Mapping[ExecutorKey, ExecutorInfo] = field(default_factory=dict)
    groups: Mapping[ExecutorKey, bool] = field(default_factory=dict)
    label: str = ""
    total: Resources = field(default_factory=Resources)
    used: Resources = field(default_factory=Resources)
    roles: tuple[str, ...] = ()
    principal: str | None = None
    takes_shared: bool = False
    takes_limits: bool = True
