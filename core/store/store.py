"""The durable store: small values under slash-separated keys, each with a version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from phalanx.core.error import ConflictError

ABSENT = 0  # the version of a key that is not there


@dataclass(frozen=True, slots=True)
class Stored:
    """A value and its version, a number that grows with each put of the key."""

    value: bytes
    version: int


def conflict(key: str, current: int, expected: int) -> ConflictError:
    """Return the error of a put that expected another version than the current one."""
    return ConflictError(f"{key}: version is {current}, not {expected}")


class Store(Protocol):
    """Small durable values; a put that returned is on disk, whatever happens next.

    Keys look like ``networks/dcos``: segments joined by ``/``, none empty.
    Every method raises UnavailableError while the store can't be reached, is
    full, or must not be written by us any more; then nothing has changed.
    """

    async def get(self, key: str) -> Stored | None:
        """Return what is under *key*, or None."""
        ...

    async def list(self, prefix: str) -> Mapping[str, Stored]:
        """Return everything under *prefix* + ``/``, by full key."""
        ...

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        """Write *value*; return its new version.

        With *version* the write happens only if that is the current version
        (ABSENT: the key must not be there), else ConflictError.
        """
        ...

    async def remove(self, key: str) -> None:
        """Remove *key*; nothing happens when it is not there."""
        ...

    async def close(self) -> None:
        """Let go of files and connections."""
        ...
