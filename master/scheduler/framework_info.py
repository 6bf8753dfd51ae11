"""Rules of FrameworkInfo (reference mesos §1.2, §5.2); pure."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from phalanx.core.error import InvalidError
from phalanx.master.allocator.constraint import RegexLimits
from phalanx.master.cluster.task import has_capability, roles_of
from phalanx.mesos.role import role_problem
from phalanx.mesos.v1.mesos import FrameworkID, FrameworkInfo

GREATEST_SECONDS = 9_223_372_036.0  # what fits into 63 bits of nanoseconds
GREATEST_ID_BYTES = 255
_INVALID = re.compile(r"[\x00-\x1f\x7f/\\]")


def id_problem(id: str) -> str | None:
    """Return what is wrong with an id (reference mesos §0.6), None when it is valid."""
    if not id:
        return "ID must not be empty"
    if len(id.encode()) > GREATEST_ID_BYTES:
        return f"ID must not be greater than {GREATEST_ID_BYTES} characters"
    if id in (".", ".."):
        return f"'{id}' is disallowed"
    if _INVALID.search(id):
        return f"'{id}' contains invalid characters"
    return None


@dataclass(frozen=True, slots=True)
class Policy:
    """What a master allows: only some roles (``--roles``), root or not, constraints at a cost."""

    roles: frozenset[str] | None = None
    takes_root: bool = True
    regex_limits: RegexLimits = field(default_factory=RegexLimits)


def check_info(
    info: FrameworkInfo, suppressed: Collection[str], policy: Policy | None = None
) -> None:
    """Raise InvalidError, in Mesos' words, for the first rule that a framework breaks."""
    policy = policy or Policy()
    _check_roles(info)
    if info.id is not None and info.id.value and (problem := id_problem(info.id.value)):
        raise InvalidError(problem)
    _check_filters(info)
    if strangers := sorted(set(suppressed) - set(roles_of(info))):
        raise InvalidError(
            f"Suppressed role '{strangers[0]}' is not contained in the list of roles"
        )
    if policy.roles is not None and (unknown := sorted(set(roles_of(info)) - policy.roles)):
        roles = ", ".join(unknown)
        raise InvalidError(f"Framework roles {{ {roles} }} are not present in the master's --roles")
    if info.user == "root" and not policy.takes_root:
        raise InvalidError(
            "User 'root' is not allowed to run frameworks without --root_submissions set"
        )
    if math.isnan(info.failover_timeout) or not 0 <= info.failover_timeout <= GREATEST_SECONDS:
        raise InvalidError(f"The framework failover_timeout ({info.failover_timeout:g}) is invalid")


def _check_roles(info: FrameworkInfo) -> None:
    is_multi = has_capability(info, "MULTI_ROLE")
    if is_multi and info.role is not None:
        raise InvalidError(
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
        )
    if not is_multi and info.roles:
        raise InvalidError(
            "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"
        )
    if not is_multi:
        if problem := None if info.role is None else role_problem(info.role):
            raise InvalidError(f"'FrameworkInfo.role' is not a valid role: {problem}")
        return
    if twice := sorted({role for role in info.roles if info.roles.count(role) > 1}):
        raise InvalidError(
            f"'FrameworkInfo.roles' contains duplicate items: {{ {', '.join(twice)} }}"
        )
    for role in info.roles:
        if problem := role_problem(role):
            raise InvalidError(f"'FrameworkInfo.roles' contains invalid role: {problem}")


def _check_filters(info: FrameworkInfo) -> None:
    for filters in info.offer_filters.values():
        least = filters.min_allocatable_resources
        for item in least.quantities if least is not None else ():
            if not item.quantities:
                raise InvalidError("Resource quantities must contain at least one quantity")
            for name, scalar in item.quantities.items():
                if problem := _quantity_problem(scalar.value):
                    raise InvalidError(f"Invalid resource quantity for '{name}': {problem}")


def _quantity_problem(value: float) -> str | None:
    if math.isnan(value):
        return "NaN not supported"
    if math.isinf(value):
        return "Infinite values not supported"
    return "Negative values not supported" if value < 0 else None


def renewed(old: FrameworkInfo, new: FrameworkInfo) -> FrameworkInfo:
    """Return the info after a framework subscribed again: user and checkpoint never change.

    Raises InvalidError when the principal changed.
    """
    _check_principal(old, new)
    return msgspec.structs.replace(new, id=old.id, user=old.user, checkpoint=old.checkpoint)


def _check_principal(old: FrameworkInfo, new: FrameworkInfo) -> None:
    if old.principal != new.principal:
        raise InvalidError("Changing framework's principal is not allowed.")


def check_update(old: FrameworkInfo, new: FrameworkInfo) -> None:
    """Raise InvalidError when UPDATE_FRAMEWORK asks for a change that it must not make."""
    _check_principal(old, new)
    for name in ("user", "checkpoint"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            change = f"from '{_text(before)}' to '{_text(after)}'"
            raise InvalidError(
                f"Updating 'FrameworkInfo.{name}' is unsupported; attempted to update {change}"
            )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def with_id(info: FrameworkInfo, id: str) -> FrameworkInfo:
    """Return *info* with its id set."""
    return msgspec.structs.replace(info, id=FrameworkID(value=id))
