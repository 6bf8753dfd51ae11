"""Calls and events between an agent and the master: our own protocol over the v1 messages.

An agent opens one stream with SUBSCRIBE (``POST /v1/agent``, JSON in, RecordIO
of JSON out) and sends every other call in a request of its own, with the
stream's id in the header ``Phalanx-Stream-Id``. A call on a stream that the
master no longer holds is answered 403: the agent subscribes anew. The private
protocol is allowed by reference mesos §4.1; what it must keep is §4.2 to §4.6.
"""

from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import (
    AgentID,
    AgentInfo,
    FrameworkID,
    FrameworkInfo,
    KillPolicy,
    Task,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
)

PATH = "/v1/agent"
STREAM_HEADER = "Phalanx-Stream-Id"
HEARTBEAT_SECONDS = 1.0


class AgentSubscribe(Message, frozen=True, kw_only=True):
    """Register, or register again.

    *agent_info.id* is set once the agent has one; *tasks* is every task that
    the agent still holds, terminal and unacknowledged ones too; *frameworks*
    is who they belong to. *address* is the node's underlay address; without
    it the master takes the address that the request comes from.
    """

    agent_info: AgentInfo
    version: str
    tasks: tuple[Task, ...] = ()
    frameworks: tuple[FrameworkInfo, ...] = ()
    address: str | None = None


class AgentUpdate(Message, frozen=True, kw_only=True):
    """A status update on its way to the framework; *latest_state* may be newer than its state."""

    framework_id: FrameworkID
    status: TaskStatus
    latest_state: TaskState


class AgentCall(Message, frozen=True, kw_only=True):
    """What an agent tells the master: SUBSCRIBE, UPDATE, HEARTBEAT."""

    type: str
    subscribe: AgentSubscribe | None = None
    update: AgentUpdate | None = None


class AgentSubscribed(Message, frozen=True, kw_only=True):
    """The first event of an agent's stream."""

    agent_id: AgentID
    heartbeat_seconds: float


class RunTask(Message, frozen=True, kw_only=True):
    """Launch a task of a framework."""

    framework_info: FrameworkInfo
    task: TaskInfo


class KillTask(Message, frozen=True, kw_only=True):
    """Kill a task."""

    framework_id: FrameworkID
    task_id: TaskID
    kill_policy: KillPolicy | None = None


class AcknowledgeUpdate(Message, frozen=True, kw_only=True):
    """The framework has taken an update."""

    framework_id: FrameworkID
    task_id: TaskID
    uuid: bytes


class ShutdownFramework(Message, frozen=True, kw_only=True):
    """Kill everything of a framework that is gone."""

    framework_id: FrameworkID


class AgentShutdown(Message, frozen=True, kw_only=True):
    """The master refuses this agent; it must end, and why."""

    message: str


class AgentEvent(Message, frozen=True, kw_only=True):
    """What the master tells an agent.

    SUBSCRIBED, RUN_TASK, KILL_TASK, ACKNOWLEDGE_UPDATE, SHUTDOWN_FRAMEWORK,
    SHUTDOWN, HEARTBEAT.
    """

    type: str
    subscribed: AgentSubscribed | None = None
    run_task: RunTask | None = None
    kill_task: KillTask | None = None
    acknowledge_update: AcknowledgeUpdate | None = None
    shutdown_framework: ShutdownFramework | None = None
    shutdown: AgentShutdown | None = None
