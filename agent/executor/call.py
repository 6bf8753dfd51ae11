"""What an executor's calls must have (reference mesos §2.1); pure."""

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.executor import Call, Update
from phalanx.mesos.v1.mesos import TaskState, TaskStatus

UUID_BYTES = 16
PREFIX = "Failed to validate executor::Call: "


def check_call(call: Call) -> None:
    """Raise InvalidError unless a call has what its type needs."""
    if call.type is None or call.type == "UNKNOWN":
        raise InvalidError(f"{PREFIX}Expecting 'type' to be present")
    for kind, part in (
        ("SUBSCRIBE", call.subscribe),
        ("UPDATE", call.update),
        ("MESSAGE", call.message),
    ):
        if call.type == kind and part is None:
            raise InvalidError(f"{PREFIX}Expecting '{kind.lower()}' to be present")
    if call.type == "UPDATE" and call.update is not None:
        check_status(call, call.update.status)
    if call.type == "SUBSCRIBE" and call.subscribe is not None:
        for update in call.subscribe.unacknowledged_updates:
            check_status(call, update.status)


def check_status(call: Call, status: TaskStatus) -> None:
    """Raise InvalidError unless a status can be taken from this executor."""
    name = f"{call.executor_id.value!r} of framework {call.framework_id.value!r}"
    if status.uuid is None:
        raise InvalidError(f"{PREFIX}Expecting 'uuid' to be present")
    if len(status.uuid) != UUID_BYTES:
        raise InvalidError(f"{PREFIX}uuid: {len(status.uuid)} bytes, not {UUID_BYTES}")
    if not status.task_id.value:
        raise InvalidError(f"{PREFIX}task_id: '': is not allowed")
    if status.executor_id is not None and status.executor_id != call.executor_id:
        raise InvalidError(
            f"{PREFIX}ExecutorID in Call: {call.executor_id.value}"
            f" does not match ExecutorID in TaskStatus: {status.executor_id.value}"
        )
    if status.source not in (None, "SOURCE_EXECUTOR"):
        raise InvalidError(
            f"{PREFIX}Received Call from executor {name}"
            " with invalid source, expecting 'SOURCE_EXECUTOR'"
        )


def is_staging(update: Update) -> bool:
    """Tell whether an executor breaks the rules by saying that its task is staging."""
    return update.status.state == TaskState.TASK_STAGING
