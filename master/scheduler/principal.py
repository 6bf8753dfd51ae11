"""Who a framework says it is, and who it was let in as (reference mesos §1.1); pure."""

import msgspec

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.mesos import FrameworkInfo


def check_principal(info: FrameworkInfo, principal: str | None) -> None:
    """Raise InvalidError if the caller was let in as somebody else than *info* says."""
    if principal is not None and info.principal is not None and info.principal != principal:
        raise InvalidError(
            f"Authenticated principal '{principal}' does not match principal"
            f" '{info.principal}' set in `FrameworkInfo`"
        )


def with_principal(info: FrameworkInfo, principal: str | None) -> FrameworkInfo:
    """Return *info* with who the caller was let in as; raise InvalidError if it says another.

    What is not authenticated stays as it is.
    """
    if principal is None:
        return info
    try:
        check_principal(info, principal)
    except InvalidError as error:
        raise InvalidError(f"Failed to validate scheduler::Call: {error}") from error
    return msgspec.structs.replace(info, principal=principal)
