"""A Store that forgets: the twin that tests use, under the same contract."""

from collections.abc import Mapping

from phalanx.core.store.store import ABSENT, Stored, conflict


class MemoryStore:
    """A Store in a dictionary."""

    def __init__(self) -> None:
        self._rows: dict[str, Stored] = {}

    async def get(self, key: str) -> Stored | None:
        """Return what is under *key*, or None."""
        return self._rows.get(key)

    async def list(self, prefix: str) -> Mapping[str, Stored]:
        """Return everything under *prefix* + ``/``, by full key."""
        return {key: row for key, row in self._rows.items() if key.startswith(f"{prefix}/")}

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        """Write *value*; return its new version; ConflictError if *version* is not the current."""
        row = self._rows.get(key)
        current = ABSENT if row is None else row.version
        if version is not None and version != current:
            raise conflict(key, current, version)
        self._rows[key] = Stored(value, current + 1)
        return current + 1

    async def remove(self, key: str) -> None:
        """Remove *key* if it is there."""
        self._rows.pop(key, None)

    async def close(self) -> None:
        """Do nothing: there is nothing to let go of."""
