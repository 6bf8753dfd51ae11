"""Values of any length over a store of small ones: compressed, and in parts where that is too long.

A deployment of thousands of apps is one value, and ZooKeeper takes no node of more than 1 MiB.
"""

import asyncio
import zlib
from collections.abc import Collection, Mapping
from uuid import uuid4

import msgspec

from phalanx.core.error import UnavailableError
from phalanx.core.store.store import Store, Stored

LEAST_COMPRESSED = 2048
PART_BYTES = 512 * 1024
SLICE_ROWS = 100  # in a row
PARTS = "parts"  # the first segment of the parts' keys
_COMPRESSED = b"\x00z"  # JSON and ids begin with no zero, so that other values stay as they are
_SPLIT = b"\x00p"


class Head(msgspec.Struct, frozen=True):
    """What stands under the key of a value in parts: their place below ``parts``, how many."""

    id: str
    count: int


class LongStore:
    """A Store that puts long values as several; parts are there before what names them.

    The parts of one value never change: who replaces the value writes others.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heads: dict[str, Head] = {}  # of every value in parts that was seen

    async def get(self, key: str) -> Stored | None:
        """Return what is under *key*, or None; raise UnavailableError if parts are missing."""
        found = await self._store.get(key)
        return None if found is None else await self._whole(key, found)

    async def list(self, prefix: str) -> Mapping[str, Stored]:
        """Return everything under *prefix* + ``/``, by full key."""
        whole: dict[str, Stored] = {}
        for number, (key, stored) in enumerate((await self._store.list(prefix)).items()):
            if not number % SLICE_ROWS:
                await asyncio.sleep(0)  # tens of thousands take a while; others have turns, too
            whole[key] = await self._whole(key, stored)
        return whole

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        """Write *value*; return its new version; ConflictError if *version* is not the current."""
        before = self._heads.get(key)
        short, head = value, None
        if len(value) >= LEAST_COMPRESSED:
            packed = zlib.compress(value, 1)
            short = _COMPRESSED + packed
            if len(short) > PART_BYTES:
                head = await self._put_parts(packed)
                short = _SPLIT + msgspec.json.encode(head)
        number = await self._store.put(key, short, version=version)
        if head is not None:
            self._heads[key] = head
        if before is not None:
            if head is None:
                self._heads.pop(key, None)
            await self._remove_parts(before)
        return number

    async def remove(self, key: str) -> None:
        """Remove *key* if it is there."""
        await self._store.remove(key)
        head = self._heads.pop(key, None)
        if head is not None:
            await self._remove_parts(head)

    async def close(self) -> None:
        """Close the store below."""
        await self._store.close()

    async def tidy(self, unseen: Collection[str]) -> None:
        """Remove parts that a crash left; *unseen* are the prefixes that nobody has listed yet."""
        found = (await self._store.list(PARTS)).keys()
        if found - self._named():
            for prefix in unseen:
                await self.list(prefix)
        await asyncio.gather(*(self._store.remove(key) for key in found - self._named()))

    def _named(self) -> set[str]:
        return {f"{PARTS}/{head.id}/{n}" for head in self._heads.values() for n in _of(head)}

    async def _whole(self, key: str, stored: Stored) -> Stored:
        value = stored.value
        if not value.startswith((_COMPRESSED, _SPLIT)):
            return stored
        try:
            packed = value[len(_COMPRESSED) :]
            if value.startswith(_SPLIT):
                head = msgspec.json.decode(packed, type=Head)
                packed = await self._parts(head)
                self._heads[key] = head
            return Stored(zlib.decompress(packed), stored.version)
        except (msgspec.MsgspecError, zlib.error) as error:
            raise UnavailableError(f"state: {key} can't be read: {error}") from error

    async def _put_parts(self, packed: bytes) -> Head:
        spans = range(0, len(packed), PART_BYTES)
        head = Head(uuid4().hex, len(spans))
        await asyncio.gather(
            *(
                self._store.put(f"{PARTS}/{head.id}/{n}", packed[at : at + PART_BYTES])
                for n, at in enumerate(spans)
            )
        )
        return head

    async def _parts(self, head: Head) -> bytes:
        found = await asyncio.gather(
            *(self._store.get(f"{PARTS}/{head.id}/{n}") for n in _of(head))
        )
        # One that is missing leaves a stream that zlib refuses.
        return b"".join(b"" if part is None else part.value for part in found)

    async def _remove_parts(self, head: Head) -> None:
        await asyncio.gather(*(self._store.remove(f"{PARTS}/{head.id}/{n}") for n in _of(head)))


def _of(head: Head) -> range:
    return range(head.count)
