"""A framework as the leading master knows it."""

from collections import deque
from dataclasses import dataclass, field

from phalanx.master.cluster.task import roles_of
from phalanx.mesos.kind import Kind
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.mesos import FrameworkInfo, Task
from phalanx.mesos.v1.scheduler import OfferConstraints


@dataclass(slots=True, eq=False)
class Framework:
    """A framework that is subscribed, waited for, recovered or over.

    *tasks* are those that are not over, and those that are but whose last
    update is not acknowledged yet; *scalars* is what it holds of each role in
    thousandths, *unreserved* the part of it that counts against a quota beside
    reservations; both are kept by the Cluster alone.
    """

    info: FrameworkInfo
    registered: float
    reregistered: float | None = None
    unregistered: float | None = None
    expires: float | None = None  # monotonic: when it is removed unless it comes back
    is_recovered: bool = False  # known from agents only, not subscribed since this leadership
    stream: Stream | None = None
    suppressed: frozenset[str] = frozenset()
    constraints: OfferConstraints | None = None
    tasks: dict[str, Task] = field(default_factory=dict)
    unreachable: dict[str, Task] = field(default_factory=dict)
    completed: deque[Task] = field(default_factory=deque)
    offers: set[str] = field(default_factory=set)
    inverse_offers: set[str] = field(default_factory=set)
    scalars: dict[str, dict[str, int]] = field(default_factory=dict)
    # What its tasks and executors use, by role: amounts of each kind of scalar, by the Cluster.
    held: dict[str, dict[Kind, int]] = field(default_factory=dict)
    unreserved: dict[str, dict[str, int]] = field(default_factory=dict)
    _capabilities: tuple[FrameworkInfo, frozenset[str]] | None = None  # asked for each offer

    @property
    def id(self) -> str:
        """Return the framework's id."""
        assert self.info.id is not None  # set when it entered the cluster
        return self.info.id.value

    @property
    def is_connected(self) -> bool:
        """Tell whether it is subscribed."""
        return self.stream is not None

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the roles that it is subscribed to."""
        return roles_of(self.info)

    def has(self, capability: str) -> bool:
        """Tell whether it declares a capability."""
        known = self._capabilities
        if known is None or known[0] is not self.info:
            names = frozenset(its.type or "" for its in self.info.capabilities)
            known = self._capabilities = (self.info, names)
        return capability in known[1]
