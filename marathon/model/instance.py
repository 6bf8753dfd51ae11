"""One copy of an app, from the wish for it to its end."""

import enum

import msgspec

from phalanx.mesos.v1.mesos import TaskState


class Condition(enum.StrEnum):
    """Where an instance stands."""

    SCHEDULED = "Scheduled"
    PROVISIONED = "Provisioned"
    STAGING = "Staging"
    STARTING = "Starting"
    RUNNING = "Running"
    KILLING = "Killing"
    UNREACHABLE = "Unreachable"


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """The task of an instance; *host_ports* come from the offer, *ports* are what it is told."""

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


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One copy of an app; a task that ends is followed by the next incarnation.

    *version* is the app's version that the instance was made for. An instance
    that is *doomed* is to be killed; *is_wanted* says whether another
    incarnation follows.
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

    @property
    def task_id(self) -> str:
        """Return the id of the instance's present task."""
        return f"{self.id}._app.{self.incarnation}"


def parse_task_id(text: str) -> tuple[str, int] | None:
    """Split a task id into instance id and incarnation; None if it is none of ours."""
    instance_id, separator, number = text.rpartition("._app.")
    if not separator or not number.isdecimal() or ".instance-" not in instance_id:
        return None
    return instance_id, int(number)
