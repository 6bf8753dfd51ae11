"""Rows of the registry that may have been written by another version of us, or by nobody sane."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import structlog

from phalanx.core.store.store import Stored

log = structlog.get_logger()

T = TypeVar("T")


def understood(
    key: str,
    row: Stored | None,
    kind: type[T],
    *,
    dec_hook: Callable[[type[Any], object], object] | None = None,
) -> T | None:
    """Return the value of a row, None for a row that is not there or that nobody can read.

    The latter stays where it is, and is told of in the log: one bad row must not
    keep a cluster without a leader.
    """
    if row is None:
        return None
    try:
        return msgspec.json.decode(row.value, type=kind, dec_hook=dec_hook)
    except (msgspec.MsgspecError, ValueError) as error:
        log.error("registry_row_not_understood", key=key, error=str(error))
        return None
