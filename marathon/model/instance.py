"""One copy of an app, from the wish for it to its end."""

import enum
from typing import NamedTuple

import msgspec

from phalanx.mesos.v1.mesos import TaskState

APP = "_app"  # stands in task ids where a pod's have a container's name


class Condition(enum.StrEnum):
    """Where an instance stands."""

    SCHEDULED = "Scheduled"
    PROVISIONED = "Provisioned"
    STAGING = "Staging"
    STARTING = "Starting"
    RUNNING = "Running"
    KILLING = "Killing"
    UNREACHABLE = "Unreachable"
    STOPPED = "Stopped"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One container of a launched pod; *exit_status* is there once it ended by itself."""

    name: str
    since: float
    state: TaskState = TaskState.TASK_STAGING
    started_at: float | None = None
    healthy: bool | None = None  # what the agent last said, if it runs a check
    message: str = ""
    exit_status: int | None = None


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """The task of an instance; *host_ports* come from the offer, *ports* are what it is told.

    A pod's are those of all its endpoints, in their order; *members* are its containers.
    """

    agent_id: str
    hostname: str
    agent_ip: str
    host_ports: tuple[int, ...] = ()
    ports: tuple[int, ...] = ()
    staged_at: float
    started_at: float | None = None
    addresses: tuple[str, ...] = ()
    state: TaskState = TaskState.TASK_STAGING
    healthy: bool | None = None  # what the agent last said, if it runs a check
    attributes: dict[str, str] = {}  # of the agent, as constraints see them
    role: str = "*"
    region: str | None = None
    zone: str | None = None
    members: tuple[Member, ...] = ()
    endpoint_ports: tuple[int | None, ...] = ()  # of a pod: each endpoint's host port


class LocalVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A persistent volume of an instance; *size* in MiB."""

    container_path: str
    persistence_id: str
    size: int


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept for an instance on one agent; *is_made* once a task ran on it."""

    agent_id: str
    role: str
    since: float
    volumes: tuple[LocalVolume, ...]
    is_made: bool = False


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One copy of an app; a task that ends is followed by the next incarnation.

    *version* is the app's version that the instance was made for. An instance
    that is *doomed* is to be killed; *is_wanted* says whether another
    incarnation follows. One with a *reservation* that is not wanted is stopped and
    kept, unless it is *wiped*.
    """

    id: str
    app_id: str
    version: str
    since: float
    incarnation: int = 1
    condition: Condition = Condition.SCHEDULED
    is_wanted: bool = True
    doomed: bool = False
    launched: Launched | None = None
    reservation: Reservation | None = None
    wiped: bool = False

    @property
    def task_id(self) -> str:
        """Return the id of the instance's present task; a pod's stands for all its tasks."""
        return f"{self.id}.{APP}.{self.incarnation}"

    @property
    def task_ids(self) -> tuple[str, ...]:
        """Return the ids of the tasks that the master knows; none before the launch."""
        if self.launched is None:
            return ()
        if not self.launched.members:
            return (self.task_id,)
        return tuple(self.member_id(member.name) for member in self.launched.members)

    def member_id(self, container: str) -> str:
        """Return the id of the task of one container of a pod."""
        return f"{self.id}.{container}.{self.incarnation}"

    @property
    def executor_id(self) -> str:
        """Return the id of the executor that holds a pod's containers."""
        return f"instance-{self.id}.{self.incarnation}"


class TaskName(NamedTuple):
    """What a task id says; *container* is ``_app`` for the task of an app."""

    instance_id: str
    incarnation: int
    container: str


def parse_task_id(text: str) -> TaskName | None:
    """Split a task id into its parts; None if it is none of ours."""
    front, _, number = text.rpartition(".")
    instance_id, _, container = front.rpartition(".")
    if not container or not number.isdecimal() or ".instance-" not in instance_id:
        return None
    return TaskName(instance_id, int(number), container)
