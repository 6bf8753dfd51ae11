"""Rules of FrameworkInfo (reference mesos §1.2, §5.2); pure."""

import math
from collections.abc import Collection

import msgspec

from phalanx.core.error import InvalidError
from phalanx.master.cluster.task import has_capability, roles_of
from phalanx.mesos.v1.mesos import FrameworkID, FrameworkInfo

GREATEST_SECONDS = 9_223_372_036.0  # what fits into 63 bits of nanoseconds
GREATEST_ID_BYTES = 255
BLANKS = frozenset("\t\n\v\f\r \b")


def id_problem(id: str) -> str | None:
    """Return what is wrong with an id (reference mesos §0.6), None when it is valid."""
    if not id:
        return "ID must not be empty"
    if len(id.encode()) > GREATEST_ID_BYTES:
        return f"ID must not be greater than {GREATEST_ID_BYTES} characters"
    if id in (".", ".."):
        return f"'{id}' is disallowed"
    if any(ord(char) < 32 or ord(char) == 127 or char in "/\\" for char in id):
        return f"'{id}' contains invalid characters"
    return None


def role_problem(role: str) -> str | None:
    """Return what is wrong with a role's name, None when it is valid."""
    if role == "*":
        return None
    for segment in role.split("/"):
        if not segment:
            return f"Role '{role}' has an empty part"
        if segment in (".", "..", "*"):
            return f"Role '{role}' has the part '{segment}'"
        if segment.startswith("-"):
            return f"Role '{role}' has a part that begins with '-'"
        if BLANKS & set(segment):
            return f"Role '{role}' has whitespace"
    return None


def check_info(info: FrameworkInfo, suppressed: Collection[str]) -> None:
    """Raise InvalidError for the first rule that a subscribing framework breaks."""
    is_multi = has_capability(info, "MULTI_ROLE")
    if info.role is not None and info.roles:
        raise InvalidError("Only one of 'role' or 'roles' may be set")
    if is_multi and info.role is not None:
        raise InvalidError("A MULTI_ROLE framework must use 'roles', not 'role'")
    if not is_multi and info.roles:
        raise InvalidError("'roles' needs the MULTI_ROLE capability")
    if len(set(info.roles)) != len(info.roles):
        raise InvalidError("'roles' has duplicates")
    for role in roles_of(info):
        if problem := role_problem(role):
            raise InvalidError(problem)
    if strangers := sorted(set(suppressed) - set(roles_of(info))):
        raise InvalidError(f"Suppressed role '{strangers[0]}' is not among the framework's roles")
    if math.isnan(info.failover_timeout) or not 0 <= info.failover_timeout <= GREATEST_SECONDS:
        raise InvalidError(f"'failover_timeout' {info.failover_timeout} is not a valid duration")
    if info.id is not None and info.id.value and (problem := id_problem(info.id.value)):
        raise InvalidError(f"Invalid framework ID: {problem}")


def renewed(old: FrameworkInfo, new: FrameworkInfo) -> FrameworkInfo:
    """Return the info after a framework subscribed again: user and checkpoint never change.

    Raises InvalidError when the principal changed.
    """
    if old.principal != new.principal:
        raise InvalidError(
            f"Changing framework's principal from '{old.principal}' to '{new.principal}'"
            " is not allowed"
        )
    return msgspec.structs.replace(new, id=old.id, user=old.user, checkpoint=old.checkpoint)


def check_update(old: FrameworkInfo, new: FrameworkInfo) -> None:
    """Raise InvalidError when UPDATE_FRAMEWORK asks for a change that it must not make."""
    for field in ("principal", "user", "checkpoint"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            raise InvalidError(f"Updating 'FrameworkInfo.{field}' is unsupported")


def with_id(info: FrameworkInfo, id: str) -> FrameworkInfo:
    """Return *info* with its id set."""
    return msgspec.structs.replace(info, id=FrameworkID(value=id))
