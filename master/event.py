"""What can change in the cluster: one frozen event a kind, told on one bus.

Events tell that something changed; whoever needs more reads the cluster.
"""

from collections.abc import Callable
from dataclasses import dataclass

from phalanx.mesos.v1.mesos import FrameworkInfo, Task, TaskState, TaskStatus

TaskKey = tuple[str, str]  # framework id and task id
ExecutorKey = tuple[str, str]  # framework id and executor id


@dataclass(frozen=True, slots=True)
class TaskAdded:
    """A task is new here."""

    task: Task


@dataclass(frozen=True, slots=True)
class TaskUpdated:
    """A task has a new status; *before* is the state that it had until then."""

    key: TaskKey
    status: TaskStatus
    state: TaskState
    before: TaskState | None = None


@dataclass(frozen=True, slots=True)
class TaskRemoved:
    """A task is no longer among the active ones."""

    key: TaskKey


@dataclass(frozen=True, slots=True)
class TasksKilled:
    """Active tasks ended all at once with their framework; *status_of* tells each one's end."""

    tasks: tuple[Task, ...]
    status_of: Callable[[Task], TaskStatus]


@dataclass(frozen=True, slots=True)
class AgentAdded:
    """An agent registered, for the first time with this leader or after being unreachable."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class AgentUpdated:
    """An agent's liveness or connection changed."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class AgentRemoved:
    """An agent is gone for good."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class FrameworkAdded:
    """A framework is new here."""

    framework_id: str


@dataclass(frozen=True, slots=True)
class FrameworkUpdated:
    """A framework's info changed, or it subscribed again."""

    framework_id: str


@dataclass(frozen=True, slots=True)
class FrameworkDisconnected:
    """A framework's stream broke."""

    framework_id: str


@dataclass(frozen=True, slots=True)
class FrameworkRemoved:
    """A framework is over."""

    info: FrameworkInfo


@dataclass(frozen=True, slots=True)
class NetworkChanged:
    """A network, a subnet lease or a policy changed."""


@dataclass(frozen=True, slots=True)
class MastersChanged:
    """A master joined, or came back as another."""


Change = (
    TaskAdded
    | TaskUpdated
    | TaskRemoved
    | TasksKilled
    | AgentAdded
    | AgentUpdated
    | AgentRemoved
    | FrameworkAdded
    | FrameworkUpdated
    | FrameworkDisconnected
    | FrameworkRemoved
    | NetworkChanged
    | MastersChanged
)

Subscriber = Callable[[Change], None]


class Bus:
    """Tells every subscriber of every change, in order."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> None:
        """Add a subscriber; it must neither raise nor wait."""
        self._subscribers.append(subscriber)

    def publish(self, change: Change) -> None:
        """Tell *change* to all."""
        for subscriber in self._subscribers:
            subscriber(change)
