"""Structural rules of scheduler calls: what is answered 400 before anything is looked up; pure."""

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.scheduler import Call

CALLS = (
    "SUBSCRIBE",
    "TEARDOWN",
    "ACCEPT",
    "DECLINE",
    "ACCEPT_INVERSE_OFFERS",
    "DECLINE_INVERSE_OFFERS",
    "REVIVE",
    "SUPPRESS",
    "KILL",
    "SHUTDOWN",
    "ACKNOWLEDGE",
    "ACKNOWLEDGE_OPERATION_STATUS",
    "RECONCILE",
    "RECONCILE_OPERATIONS",
    "MESSAGE",
    "REQUEST",
    "UPDATE_FRAMEWORK",
)
TYPES = frozenset({*CALLS, "UNKNOWN"})
# Calls that stand without a message of their own name.
BARE = frozenset({"TEARDOWN", "REVIVE", "SUPPRESS", "UNKNOWN"})
UUID_BYTES = 16


def check_call(call: Call) -> None:
    """Raise InvalidError with Mesos' words unless the call is well formed."""
    if call.type is None or call.type not in TYPES:
        raise _invalid("Expecting 'type' to be present")
    if call.type == "SUBSCRIBE":
        _check_subscribe(call)
        return
    if call.framework_id is None:
        raise _invalid("Expecting 'framework_id' to be present")
    if call.type not in BARE and getattr(call, call.type.lower()) is None:
        raise _invalid(f"Expecting '{call.type.lower()}' to be present")
    if call.acknowledge is not None and call.type == "ACKNOWLEDGE":
        if len(call.acknowledge.uuid) != UUID_BYTES:
            raise _invalid("Not a valid UUID")
    elif call.type == "ACKNOWLEDGE_OPERATION_STATUS":
        its = call.acknowledge_operation_status
        if its is None or len(its.uuid) != UUID_BYTES:
            raise _invalid("Not a valid UUID")
        if its.agent_id is None:
            raise _invalid("Expecting 'agent_id' to be present")
    elif call.update_framework is not None and call.type == "UPDATE_FRAMEWORK":
        info = call.update_framework.framework_info
        if info.id != call.framework_id:
            raise _invalid("'framework_id' differs from 'update_framework.framework_info.id'")


def _check_subscribe(call: Call) -> None:
    if call.subscribe is None:
        raise _invalid("Expecting 'subscribe' to be present")
    # An empty id is none, as in protobuf.
    ids = (call.framework_id, call.subscribe.framework_info.id)
    if len({id.value if id is not None else "" for id in ids}) > 1:
        raise _invalid("'framework_id' differs from 'subscribe.framework_info.id'")


def _invalid(why: str) -> InvalidError:
    return InvalidError(f"Failed to validate scheduler::Call: {why}")
