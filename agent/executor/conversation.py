"""What one executor and its agent have told each other (reference mesos §2.1); sans I/O, pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from phalanx.mesos.v1.executor import Acknowledged, Event, EventMessage, Launch, LaunchGroup
from phalanx.mesos.v1.executor import Kill as KillEvent
from phalanx.mesos.v1.mesos import KillPolicy, TaskGroupInfo, TaskID, TaskInfo, TaskState


class Phase(Enum):
    """How far an executor is; it never goes back."""

    REGISTERING = "registering"  # its container is being made, or it has not subscribed yet
    RUNNING = "running"  # it has subscribed once
    TERMINATING = "terminating"  # it has been told to end
    TERMINATED = "terminated"  # its container is no more


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is launched at once: one task, or a group that goes together."""

    tasks: tuple[TaskInfo, ...]
    is_group: bool = False

    @property
    def names(self) -> frozenset[str]:
        """Return the ids of its tasks."""
        return frozenset(task.task_id.value for task in self.tasks)

    def event(self) -> Event:
        """Return what tells an executor to launch it."""
        if self.is_group:
            group = LaunchGroup(task_group=TaskGroupInfo(tasks=self.tasks))
            return Event(type="LAUNCH_GROUP", launch_group=group)
        return Event(type="LAUNCH", launch=Launch(task=self.tasks[0]))


@dataclass(frozen=True, slots=True)
class Send:
    """An event for the executor."""

    event: Event


@dataclass(frozen=True, slots=True)
class End:
    """Tasks that never reached the executor: killed before it had them, or dropped on the way."""

    names: frozenset[str]
    is_kill: bool


@dataclass(frozen=True, slots=True)
class Shut:
    """The executor has to go: its grace begins."""


Effect = Send | End | Shut


@dataclass(frozen=True, slots=True)
class Conversation:
    """One executor's side of things.

    *silent* are the tasks handed over of which it has said nothing yet, *held*
    those of which it has, neither ended. *kills* wait for it to come back.
    """

    phase: Phase = Phase.REGISTERING
    is_connected: bool = False
    queued: tuple[Parcel, ...] = ()
    silent: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    kills: tuple[tuple[str, KillPolicy | None], ...] = ()
    has_had_tasks: bool = False

    @property
    def names(self) -> frozenset[str]:
        """Return every task that has not ended."""
        return frozenset().union(self.silent, self.held, *(item.names for item in self.queued))

    def launch(self, parcel: Parcel) -> "tuple[Conversation, tuple[Effect, ...]]":
        """Hand over a parcel, now or once the executor is there; too late is dropped."""
        if self.phase in (Phase.TERMINATING, Phase.TERMINATED):
            return self, (End(parcel.names, is_kill=False),)
        if not self.is_connected:
            return replace(self, queued=(*self.queued, parcel)), ()
        after = replace(self, silent=self.silent | parcel.names, has_had_tasks=True)
        return after, (Send(parcel.event()),)

    def kill(
        self, name: str, policy: KillPolicy | None
    ) -> "tuple[Conversation, tuple[Effect, ...]]":
        """Kill a task; one that is still queued never runs, nor does the rest of its group."""
        for parcel in self.queued:
            if name in parcel.names:
                left = tuple(other for other in self.queued if other is not parcel)
                after = replace(self, queued=left)
                effects: tuple[Effect, ...] = (End(parcel.names, is_kill=True),)
                if not after.names and not after.has_had_tasks:
                    after, more = after.shut()
                    effects += more
                return after, effects
        if name not in self.names:
            return self, ()
        if not self.is_connected:
            return replace(self, kills=(*self.kills, (name, policy))), ()
        return self, (Send(_kill(name, policy)),)

    def subscribe(
        self, subscribed: Event, unacknowledged: Iterable[str]
    ) -> "tuple[Conversation, tuple[Effect, ...]]":
        """Take a subscription, the first or a later one.

        *unacknowledged* are the tasks that the executor says it has and has
        not heard an acknowledgement for. A task of which neither has any word
        never reached it.
        """
        lost = self.silent - frozenset(unacknowledged)
        effects: list[Effect] = [Send(subscribed)]
        if self.phase in (Phase.TERMINATING, Phase.TERMINATED):
            effects.append(Send(Event(type="SHUTDOWN")))
            return replace(self, is_connected=True), tuple(effects)
        if lost:
            effects.append(End(lost, is_kill=False))
        silent = self.silent - lost
        for parcel in self.queued:
            effects.append(Send(parcel.event()))
            silent |= parcel.names
        effects += [Send(_kill(*kill)) for kill in self.kills if kill[0] in silent | self.held]
        after = replace(
            self,
            phase=Phase.RUNNING,
            is_connected=True,
            queued=(),
            kills=(),
            silent=silent,
            has_had_tasks=self.has_had_tasks or bool(self.queued),
        )
        if not after.names and not after.has_had_tasks:
            after, more = after.shut()
            effects += more
        return after, tuple(effects)

    def lose(self) -> "Conversation":
        """Take that the connection is gone; the executor may come back."""
        return replace(self, is_connected=False)

    def update(self, name: str, *, is_terminal: bool) -> "Conversation":
        """Take that a task's update is safe."""
        silent, held = self.silent - {name}, self.held | {name}
        return replace(self, silent=silent, held=held - {name} if is_terminal else held)

    def forget(self, names: frozenset[str]) -> "Conversation":
        """Take that tasks have ended without the executor's word."""
        return replace(self, silent=self.silent - names, held=self.held - names)

    def say(self, data: bytes) -> tuple[Effect, ...]:
        """Pass a message on, if there is somebody to hear it."""
        if not self.is_connected:
            return ()
        return (Send(Event(type="MESSAGE", message=EventMessage(data=data))),)

    def shut(self) -> "tuple[Conversation, tuple[Effect, ...]]":
        """Tell the executor to end; what it was never given is killed."""
        if self.phase in (Phase.TERMINATING, Phase.TERMINATED):
            return self, ()
        queued = frozenset().union(*(parcel.names for parcel in self.queued))
        effects: list[Effect] = [End(queued, is_kill=True)] if queued else []
        if self.is_connected:
            effects.append(Send(Event(type="SHUTDOWN")))
        after = replace(self, phase=Phase.TERMINATING, queued=(), kills=())
        return after, (*effects, Shut())

    def end(self) -> "Conversation":
        """Take that the container is no more."""
        return replace(self, phase=Phase.TERMINATED, is_connected=False)


def acknowledged(name: str, uuid: bytes) -> Event:
    """Return what tells an executor that an update of its is safe."""
    return Event(
        type="ACKNOWLEDGED", acknowledged=Acknowledged(task_id=TaskID(value=name), uuid=uuid)
    )


def dropped(*, is_partition_aware: bool) -> TaskState:
    """Return the state of a task that was never launched."""
    return TaskState.TASK_DROPPED if is_partition_aware else TaskState.TASK_LOST


def gone(*, is_partition_aware: bool) -> TaskState:
    """Return the state of a task whose executor did not come back."""
    return TaskState.TASK_GONE if is_partition_aware else TaskState.TASK_LOST


def _kill(name: str, policy: KillPolicy | None) -> Event:
    return Event(type="KILL", kill=KillEvent(task_id=TaskID(value=name), kill_policy=policy))
