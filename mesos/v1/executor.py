"""Calls and events of the v1 executor API (reference mesos §2, appendix A)."""

from typing import Annotated

from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import (
    AgentInfo,
    ContainerID,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    KillPolicy,
    TaskGroupInfo,
    TaskID,
    TaskInfo,
    TaskStatus,
)
from phalanx.mesos.v1.wire import n, names

EventType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "SUBSCRIBED": 1,
            "LAUNCH": 2,
            "LAUNCH_GROUP": 8,
            "KILL": 3,
            "ACKNOWLEDGED": 4,
            "MESSAGE": 5,
            "ERROR": 6,
            "SHUTDOWN": 7,
            "HEARTBEAT": 9,
        }
    ),
]
CallType = Annotated[
    str, names({"UNKNOWN": 0, "SUBSCRIBE": 1, "UPDATE": 2, "MESSAGE": 3, "HEARTBEAT": 4})
]


class Subscribed(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Event.Subscribed``."""

    executor_info: Annotated[ExecutorInfo, n(1)]
    framework_info: Annotated[FrameworkInfo, n(2)]
    agent_info: Annotated[AgentInfo, n(3)]
    container_id: Annotated[ContainerID | None, n(4)] = None


class Acknowledged(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Event.Acknowledged``."""

    task_id: Annotated[TaskID, n(1)]
    uuid: Annotated[bytes, n(2)]


class Launch(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Event.Launch``."""

    task: Annotated[TaskInfo, n(1)]


class LaunchGroup(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Event.LaunchGroup``."""

    task_group: Annotated[TaskGroupInfo, n(1)]


class Kill(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Event.Kill``."""

    task_id: Annotated[TaskID, n(1)]
    kill_policy: Annotated[KillPolicy | None, n(2)] = None


class EventMessage(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Event.Message``."""

    data: Annotated[bytes, n(1)]


class Error(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Event.Error``."""

    message: Annotated[str, n(1)]


class Event(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Event``."""

    type: Annotated[EventType | None, n(1)] = None
    subscribed: Annotated[Subscribed | None, n(2)] = None
    acknowledged: Annotated[Acknowledged | None, n(3)] = None
    launch: Annotated[Launch | None, n(4)] = None
    launch_group: Annotated[LaunchGroup | None, n(8)] = None
    kill: Annotated[Kill | None, n(5)] = None
    message: Annotated[EventMessage | None, n(6)] = None
    error: Annotated[Error | None, n(7)] = None


class Update(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Call.Update``."""

    status: Annotated[TaskStatus, n(1)]


class Subscribe(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Call.Subscribe``."""

    unacknowledged_tasks: Annotated[tuple[TaskInfo, ...], n(1)] = ()
    unacknowledged_updates: Annotated[tuple[Update, ...], n(2)] = ()


class CallMessage(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Call.Message``."""

    data: Annotated[bytes, n(2)]


class Call(Message, frozen=True, kw_only=True):
    """``mesos.v1.executor.Call``."""

    executor_id: Annotated[ExecutorID, n(1)]
    framework_id: Annotated[FrameworkID, n(2)]
    type: Annotated[CallType | None, n(3)] = None
    subscribe: Annotated[Subscribe | None, n(4)] = None
    update: Annotated[Update | None, n(5)] = None
    message: Annotated[CallMessage | None, n(6)] = None
