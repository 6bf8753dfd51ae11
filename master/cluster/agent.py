"""An agent as the leading master knows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from phalanx.master.event import ExecutorKey, TaskKey
from phalanx.mesos.agent_protocol import KillTask
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.allocator import InverseOfferStatus
from phalanx.mesos.v1.mesos import (
    AgentCapability,
    AgentInfo,
    DrainInfo,
    ExecutorInfo,
    OperationRecord,
    Unavailability,
)
from phalanx.net.model.objects import Liveness


@dataclass(slots=True, eq=False)
class Agent:
    """An admitted agent: registered now, or unreachable.

    *heard* is when it last gave a sign of life (monotonic); *used* and
    *offered* are kept by the Cluster alone.
    """

    id: str
    info: AgentInfo
    address: IPv4Address
    version: str
    total: Resources
    registered: float
    heard: float
    reregistered: float | None = None
    unreachable_since: float | None = None  # wall clock
    stream: Stream | None = None
    liveness: Liveness = Liveness.ALIVE
    tasks: set[TaskKey] = field(default_factory=set)
    used: Resources = field(default_factory=Resources)
    held: Mapping[str, Resources] = field(default_factory=dict)  # the same by role; never changed
    offered: Resources = field(default_factory=Resources)
    offers: set[str] = field(default_factory=set)
    kills: dict[TaskKey, KillTask] = field(default_factory=dict)
    # Running beside tasks, by framework id and executor id; command tasks' own are not among them.
    executors: dict[ExecutorKey, ExecutorInfo] = field(default_factory=dict)
    # By the operation's uuid: not finished, or finished and not acknowledged.
    operations: dict[bytes, OperationRecord] = field(default_factory=dict)
    inverse_offers: set[str] = field(default_factory=set)
    # By framework id: its newest word on leaving before the machine becomes unavailable.
    inverse_statuses: dict[str, InverseOfferStatus] = field(default_factory=dict)
    capabilities: tuple[AgentCapability, ...] = ()
    is_deactivated: bool = False  # by an operator, or because it drains
    drain: DrainInfo | None = None
    drain_started: float | None = None  # wall clock
    unavailability: Unavailability | None = None  # of its machine, by the maintenance schedule
    _free: tuple[Resources, Resources, Resources, Resources] | None = None

    @property
    def free(self) -> Resources:
        """Return what is neither used nor offered."""
        known = self._free
        if (
            known is None
            or known[0] is not self.total
            or known[1] is not self.used
            or known[2] is not self.offered
        ):  # subtracting spans for every agent in every run would be most of the run
            left = self.total - self.used - self.offered
            known = self._free = (self.total, self.used, self.offered, left)
        return known[3]

    @property
    def is_connected(self) -> bool:
        """Tell whether the agent has a stream."""
        return self.stream is not None

    @property
    def is_offerable(self) -> bool:
        """Tell whether its resources may be offered: connected, not suspect, active."""
        return (
            self.stream is not None and self.liveness is Liveness.ALIVE and not self.is_deactivated
        )
