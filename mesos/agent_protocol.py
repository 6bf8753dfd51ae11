"""Calls and events between an agent and the master: our own protocol over the v1 messages.

An agent opens one stream with SUBSCRIBE (``POST /v1/agent``, JSON in, RecordIO
of JSON out) and sends every other call in a request of its own, with the
stream's id in the header ``Phalanx-Stream-Id``; or, cheaper where there are
many, as RecordIO in one long request to ``POST /v1/agent/calls``. A call on a
stream that the master no longer holds is answered 403: the agent subscribes anew. The private
protocol is allowed by reference mesos §4.1; what it must keep is §4.2 to §4.6.
"""

from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import (
    AgentCapability,
    AgentID,
    AgentInfo,
    DrainConfig,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    KillPolicy,
    Operation,
    OperationRecord,
    OperationStatus,
    Resource,
    Task,
    TaskGroupInfo,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
)

PATH = "/v1/agent"
CALLS_PATH = "/v1/agent/calls"
STREAM_HEADER = "Phalanx-Stream-Id"
HEARTBEAT_SECONDS = 1.0


class AgentSubscribe(Message, frozen=True, kw_only=True):
    """Register, or register again.

    *agent_info.id* is set once the agent has one; *agent_info.resources* is
    what it was started with and *total_resources* what became of that by
    reservations and volumes (the same when empty). *tasks* is every task that
    the agent still holds, terminal and unacknowledged ones too; *executors*
    are those that run beside them, command tasks' own left out; *frameworks*
    is who they belong to. *operations* are those whose last status nobody has
    acknowledged. *drain* is set while the agent drains. *address* is the
    node's underlay address; without it the master takes the address that the
    request comes from.
    """

    agent_info: AgentInfo
    version: str
    tasks: tuple[Task, ...] = ()
    executors: tuple[ExecutorInfo, ...] = ()
    frameworks: tuple[FrameworkInfo, ...] = ()
    total_resources: tuple[Resource, ...] = ()
    operations: tuple[OperationRecord, ...] = ()
    capabilities: tuple[AgentCapability, ...] = ()
    drain: DrainConfig | None = None
    address: str | None = None


class AgentUpdate(Message, frozen=True, kw_only=True):
    """A status update on its way to the framework; *latest_state* may be newer than its state."""

    framework_id: FrameworkID
    status: TaskStatus
    latest_state: TaskState


class AgentMessage(Message, frozen=True, kw_only=True):
    """Bytes between a framework and one of its executors, in either direction; best effort."""

    framework_id: FrameworkID
    executor_id: ExecutorID
    data: bytes


class ExecutorExited(Message, frozen=True, kw_only=True):
    """An executor, no command task's own, has ended; *status* is its raw wait status."""

    framework_id: FrameworkID
    executor_id: ExecutorID
    status: int


class OperationUpdate(Message, frozen=True, kw_only=True):
    """What became of an operation.

    *status.uuid* is set when the framework named the operation: the agent
    repeats it until ACKNOWLEDGE_OPERATION. An operator's operation has no
    *framework_id*.
    """

    operation_uuid: bytes
    status: OperationStatus
    framework_id: FrameworkID | None = None


class AgentCall(Message, frozen=True, kw_only=True):
    """What an agent tells the master.

    SUBSCRIBE, UPDATE, MESSAGE, EXECUTOR_EXITED, OPERATION_UPDATE, HEARTBEAT,
    and UNREGISTER when an operator ends it for good.
    """

    type: str
    subscribe: AgentSubscribe | None = None
    update: AgentUpdate | None = None
    message: AgentMessage | None = None
    executor_exited: ExecutorExited | None = None
    operation_update: OperationUpdate | None = None


class AgentSubscribed(Message, frozen=True, kw_only=True):
    """The first event of an agent's stream."""

    agent_id: AgentID
    heartbeat_seconds: float


class RunTask(Message, frozen=True, kw_only=True):
    """Launch a task of a framework: a command task, or one for the custom *task.executor*."""

    framework_info: FrameworkInfo
    task: TaskInfo


class RunTaskGroup(Message, frozen=True, kw_only=True):
    """Launch a group of tasks, all or none, under one executor."""

    framework_info: FrameworkInfo
    executor: ExecutorInfo
    task_group: TaskGroupInfo


class KillTask(Message, frozen=True, kw_only=True):
    """Kill a task."""

    framework_id: FrameworkID
    task_id: TaskID
    kill_policy: KillPolicy | None = None


class ShutdownExecutor(Message, frozen=True, kw_only=True):
    """Shut an executor down: SHUTDOWN, its grace, then its container is destroyed."""

    framework_id: FrameworkID
    executor_id: ExecutorID


class AcknowledgeUpdate(Message, frozen=True, kw_only=True):
    """The framework has taken an update."""

    framework_id: FrameworkID
    task_id: TaskID
    uuid: bytes


class ShutdownFramework(Message, frozen=True, kw_only=True):
    """Kill everything of a framework that is gone."""

    framework_id: FrameworkID


class UpdateFramework(Message, frozen=True, kw_only=True):
    """A framework's info has changed."""

    framework_info: FrameworkInfo


class ApplyOperation(Message, frozen=True, kw_only=True):
    """Carry out what the master has applied to its own books (``phalanx.mesos.operation``)."""

    operation_uuid: bytes
    operation: Operation
    framework_id: FrameworkID | None = None


class AcknowledgeOperation(Message, frozen=True, kw_only=True):
    """The framework has taken an operation's status."""

    operation_uuid: bytes
    status_uuid: bytes


class Drain(Message, frozen=True, kw_only=True):
    """Kill every task and take no more; without *config* the agent is active again."""

    config: DrainConfig | None = None


class AgentShutdown(Message, frozen=True, kw_only=True):
    """The master refuses this agent; it must end, and why."""

    message: str


class AgentEvent(Message, frozen=True, kw_only=True):
    """What the master tells an agent.

    SUBSCRIBED, RUN_TASK, RUN_TASK_GROUP, KILL_TASK, SHUTDOWN_EXECUTOR,
    MESSAGE, ACKNOWLEDGE_UPDATE, SHUTDOWN_FRAMEWORK, UPDATE_FRAMEWORK,
    APPLY_OPERATION, ACKNOWLEDGE_OPERATION, DRAIN, SHUTDOWN, HEARTBEAT.
    """

    type: str
    subscribed: AgentSubscribed | None = None
    run_task: RunTask | None = None
    run_task_group: RunTaskGroup | None = None
    kill_task: KillTask | None = None
    shutdown_executor: ShutdownExecutor | None = None
    message: AgentMessage | None = None
    acknowledge_update: AcknowledgeUpdate | None = None
    shutdown_framework: ShutdownFramework | None = None
    update_framework: UpdateFramework | None = None
    apply_operation: ApplyOperation | None = None
    acknowledge_operation: AcknowledgeOperation | None = None
    drain: Drain | None = None
    shutdown: AgentShutdown | None = None
