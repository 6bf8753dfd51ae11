"""Calls and events of the v1 scheduler API (reference mesos §1, appendix A)."""

from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import (
    AgentID,
    ExecutorID,
    Filters,
    FrameworkID,
    FrameworkInfo,
    KillPolicy,
    MasterInfo,
    Offer,
    OfferID,
    Operation,
    TaskID,
    TaskStatus,
)


class Subscribe(Message, frozen=True, kw_only=True):
    """Open the event stream of a framework."""

    framework_info: FrameworkInfo
    suppressed_roles: tuple[str, ...] = ()


class Accept(Message, frozen=True, kw_only=True):
    """Use offers."""

    offer_ids: tuple[OfferID, ...] = ()
    operations: tuple[Operation, ...] = ()
    filters: Filters | None = None


class Decline(Message, frozen=True, kw_only=True):
    """Give offers back."""

    offer_ids: tuple[OfferID, ...] = ()
    filters: Filters | None = None


class Roles(Message, frozen=True, kw_only=True):
    """The roles of a REVIVE or SUPPRESS; none means all."""

    roles: tuple[str, ...] = ()


class Kill(Message, frozen=True, kw_only=True):
    """Kill a task."""

    task_id: TaskID
    agent_id: AgentID | None = None
    kill_policy: KillPolicy | None = None


class Shutdown(Message, frozen=True, kw_only=True):
    """Shut an executor down."""

    executor_id: ExecutorID
    agent_id: AgentID


class Acknowledge(Message, frozen=True, kw_only=True):
    """Acknowledge a status update; *uuid* is 16 raw bytes."""

    agent_id: AgentID
    task_id: TaskID
    uuid: bytes


class ReconcileTask(Message, frozen=True, kw_only=True):
    """One task to reconcile."""

    task_id: TaskID
    agent_id: AgentID | None = None


class Reconcile(Message, frozen=True, kw_only=True):
    """Ask for the state of tasks; none asks for all."""

    tasks: tuple[ReconcileTask, ...] = ()


class FrameworkMessage(Message, frozen=True, kw_only=True):
    """Bytes for an executor, or from one."""

    agent_id: AgentID
    executor_id: ExecutorID
    data: bytes


class UpdateFramework(Message, frozen=True, kw_only=True):
    """Change a framework's info in place."""

    framework_info: FrameworkInfo
    suppressed_roles: tuple[str, ...] = ()


class Call(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Call``."""

    framework_id: FrameworkID | None = None
    type: str | None = None
    subscribe: Subscribe | None = None
    accept: Accept | None = None
    decline: Decline | None = None
    revive: Roles | None = None
    suppress: Roles | None = None
    kill: Kill | None = None
    shutdown: Shutdown | None = None
    acknowledge: Acknowledge | None = None
    reconcile: Reconcile | None = None
    message: FrameworkMessage | None = None
    update_framework: UpdateFramework | None = None


class Subscribed(Message, frozen=True, kw_only=True):
    """The first event of a stream."""

    framework_id: FrameworkID
    heartbeat_interval_seconds: float | None = None
    master_info: MasterInfo | None = None


class Offers(Message, frozen=True, kw_only=True):
    """New offers."""

    offers: tuple[Offer, ...] = ()


class Rescind(Message, frozen=True, kw_only=True):
    """An offer is no longer valid."""

    offer_id: OfferID


class Update(Message, frozen=True, kw_only=True):
    """A task's status."""

    status: TaskStatus


class Failure(Message, frozen=True, kw_only=True):
    """An agent is gone, or an executor ended."""

    agent_id: AgentID | None = None
    executor_id: ExecutorID | None = None
    status: int | None = None


class Error(Message, frozen=True, kw_only=True):
    """The stream ends, and why."""

    message: str


class Event(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Event``."""

    type: str | None = None
    subscribed: Subscribed | None = None
    offers: Offers | None = None
    rescind: Rescind | None = None
    update: Update | None = None
    message: FrameworkMessage | None = None
    failure: Failure | None = None
    error: Error | None = None
