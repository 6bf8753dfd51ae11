"""Calls of the v1 operator API of a master (reference mesos §3.1, appendix A)."""

from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import AgentID, FrameworkID

TYPES = frozenset(
    {
        "GET_HEALTH",
        "GET_FLAGS",
        "GET_VERSION",
        "GET_METRICS",
        "GET_LOGGING_LEVEL",
        "SET_LOGGING_LEVEL",
        "LIST_FILES",
        "READ_FILE",
        "GET_STATE",
        "GET_AGENTS",
        "GET_FRAMEWORKS",
        "GET_EXECUTORS",
        "GET_OPERATIONS",
        "GET_TASKS",
        "GET_ROLES",
        "GET_WEIGHTS",
        "UPDATE_WEIGHTS",
        "GET_MASTER",
        "SUBSCRIBE",
        "RESERVE_RESOURCES",
        "UNRESERVE_RESOURCES",
        "CREATE_VOLUMES",
        "DESTROY_VOLUMES",
        "GROW_VOLUME",
        "SHRINK_VOLUME",
        "GET_MAINTENANCE_STATUS",
        "GET_MAINTENANCE_SCHEDULE",
        "UPDATE_MAINTENANCE_SCHEDULE",
        "START_MAINTENANCE",
        "STOP_MAINTENANCE",
        "DRAIN_AGENT",
        "DEACTIVATE_AGENT",
        "REACTIVATE_AGENT",
        "GET_QUOTA",
        "UPDATE_QUOTA",
        "SET_QUOTA",
        "REMOVE_QUOTA",
        "TEARDOWN",
        "MARK_AGENT_GONE",
        "UNKNOWN",
    }
)


class Teardown(Message, frozen=True, kw_only=True):
    """End a framework."""

    framework_id: FrameworkID


class MarkAgentGone(Message, frozen=True, kw_only=True):
    """Declare that an agent never comes back."""

    agent_id: AgentID


class Call(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call``; the members that this build reads."""

    type: str | None = None
    teardown: Teardown | None = None
    mark_agent_gone: MarkAgentGone | None = None
