"""The rows of the network registry in a store."""

from collections.abc import Mapping
from typing import Any

import msgspec

from phalanx.core.error import ConflictError
from phalanx.core.store.store import Store
from phalanx.master.row import understood

NETWORKS = "networks"
SUBNETS = "subnets"
VIPS = "vips"
POLICIES = "policies"


class Rows:
    """Reads, writes and erases objects by kind and name.

    A row that nobody can read is left where it is and left out. When the store fails, a
    change of a row may be made or not: it is doubted until it is settled, or changed again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unread: set[str] = set()
        self._doubted: set[tuple[str, str]] = set()

    async def read(self, kind: str, of: type[Any]) -> dict[str, Any]:
        """Return the objects of one kind by their keys."""
        values = {}
        self._unread = {key for key in self._unread if not key.startswith(f"{kind}/")}
        for key, row in (await self._store.list(kind)).items():
            value: Any = understood(key, row, of, dec_hook=_from_text)
            if value is None:
                self._unread.add(key)
            else:
                values[value.key] = value
        return values

    async def read_one(self, key: str, of: type[Any]) -> Any:  # noqa: ANN401 - a value of *of*
        """Return what a row holds, None if it is not there or nobody can read it."""
        return understood(key, await self._store.get(key), of, dec_hook=_from_text)

    async def write(self, kind: str, name: str, value: msgspec.Struct) -> None:
        """Put an object in the place of what is there."""
        self._doubted.add((kind, name))
        await self._store.put(f"{kind}/{name}", _encoded(value))
        self._doubted.discard((kind, name))

    async def erase(self, kind: str, name: str) -> None:
        """Remove an object, if it is there."""
        self._doubted.add((kind, name))
        await self._store.remove(f"{kind}/{name}")
        self._doubted.discard((kind, name))

    async def settle(self, kind: str, remembered: Mapping[str, msgspec.Struct]) -> None:
        """Make the doubted rows of one kind what is *remembered* of them by their names."""
        for name in [name for doubted, name in self._doubted if doubted == kind]:
            value = remembered.get(name)
            row = await self._store.get(f"{kind}/{name}")
            if (row and row.value) == (value and _encoded(value)):
                self._doubted.discard((kind, name))
            elif value is None:
                await self.erase(kind, name)
            else:
                await self.write(kind, name, value)

    def is_unread(self, kind: str, name: str) -> bool:
        """Tell whether there is one that nobody can read."""
        return f"{kind}/{name}" in self._unread

    def check_unread(self, kind: str, name: str) -> None:
        """Raise ConflictError for a row that another version wrote, maybe."""
        if self.is_unread(kind, name):
            raise ConflictError(f"{kind}/{name}: the registry holds one that can't be read")


def _encoded(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value, enc_hook=str)


def _from_text(kind: type[Any], value: object) -> object:
    return kind(value)
