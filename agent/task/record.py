"""What the agent keeps of a task, in files that outlive it (reference mesos §4.7)."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from phalanx.agent.files import checkpointing
from phalanx.core.error import InvalidError
from phalanx.core.files import sync_directory, write_whole
from phalanx.mesos.v1.codec import Message, decode, encode
from phalanx.mesos.v1.mesos import FrameworkInfo, KillPolicy, TaskInfo

M = TypeVar("M", bound=Message)

DEFAULT_GRACE_SECONDS = 3.0
INFO = "task.info"
UPDATES = "task.updates"
KILL = "task.kill"


class TaskRecord(Message, frozen=True, kw_only=True):
    """A task as it was given to us, and the container that it got.

    A task of an executor has the executor's container, one of a pod a nested one;
    *group* are the ids of the tasks that were launched together with it.
    """

    framework_info: FrameworkInfo
    task: TaskInfo
    container_id: str
    executor_id: str | None = None
    group: tuple[str, ...] = ()

    @property
    def framework_id(self) -> str:
        """Return whose task it is."""
        return self.framework_info.id.value if self.framework_info.id else ""

    @property
    def task_id(self) -> str:
        """Return the task's id, unique within its framework on this agent."""
        return self.task.task_id.value

    @property
    def key(self) -> tuple[str, str]:
        """Return framework and task id."""
        return self.framework_id, self.task_id

    def has_capability(self, name: str) -> bool:
        """Tell whether the framework has a capability."""
        return any(item.type == name for item in self.framework_info.capabilities)


class Kill(Message, frozen=True, kw_only=True):
    """Why a task is being killed; kept, so that its end is told right after a restart."""

    message: str | None = None
    reason: str | None = None
    healthy: bool | None = None
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    is_gone: bool = False  # with the agent, for good


def grace_seconds(*policies: KillPolicy | None) -> float:
    """Return how long a task may take to end: the first policy that says so, or 3 seconds."""
    for policy in policies:
        if policy is not None and policy.grace_period is not None:
            return max(policy.grace_period.nanoseconds / 1e9, 0.0)
    return DEFAULT_GRACE_SECONDS


def drain_seconds(
    record: TaskRecord, kill: Kill, seconds: float, *, beside: Iterable[TaskInfo] = ()
) -> float:
    """Return how long a task goes on serving after TASK_KILLING has been told.

    Behind a VIP that is *seconds*: how long every node may take to stop sending
    it new connections. So it is if one of those *beside* it in its pod is behind
    a VIP, and may need it. Nobody is told if the framework does not know
    TASK_KILLING, a task that is unhealthy gets none already, and without a grace
    there is no time.
    """
    is_told = record.has_capability("TASK_KILLING_STATE") and kill.healthy is not False
    is_needed = is_told and kill.grace_seconds > 0 and any(map(_has_vip, (record.task, *beside)))
    return seconds if is_needed else 0.0


def _has_vip(task: TaskInfo) -> bool:
    """Tell whether any label of the task or of its ports declares a VIP, well formed or not."""
    found = [task.labels]
    if task.discovery is not None:
        ports = task.discovery.ports
        found += [port.labels for port in (ports.ports if ports is not None else ())]
    keys = (label.key for labels in found if labels is not None for label in labels.labels or ())
    return any(key.lower().startswith("vip") for key in keys)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The directory of one task's files; what can't be written raises CheckpointError."""

    directory: Path

    @property
    def updates(self) -> Path:
        """Return where the task's updates are logged."""
        return self.directory / UPDATES

    def write_record(self, record: TaskRecord) -> None:
        """Keep the task; it is on disk when this returns."""
        with checkpointing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            write_whole(self.directory / INFO, encode(record), durable=True)
            sync_directory(self.directory.parent)

    def write_kill(self, kill: Kill) -> None:
        """Keep why the task is being killed."""
        with checkpointing(self.directory):
            write_whole(self.directory / KILL, encode(kill))

    def read_record(self) -> TaskRecord | None:
        """Return the task; None when its file is missing or broken."""
        return _read(TaskRecord, self.directory / INFO)

    def read_kill(self) -> Kill | None:
        """Return why the task is being killed, if it is."""
        return _read(Kill, self.directory / KILL)

    def remove(self) -> None:
        """Forget the task, and what only led to it: tasks, run, runs and executor directories."""
        shutil.rmtree(self.directory, ignore_errors=True)
        for parent in self.directory.parents[:4]:
            try:
                parent.rmdir()
            except OSError:
                return


def _read(kind: type[M], path: Path) -> M | None:
    try:
        return decode(kind, path.read_bytes())
    except (FileNotFoundError, InvalidError):
        return None
