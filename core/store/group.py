"""Group commit: changes that come while one write is under way go together in the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from phalanx.core.error import ConflictError

MOST_CHANGES = 500
# ZooKeeper takes packets of less than 1 MiB, and keeps the last 500 of them in memory.
MOST_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class Change:
    """Put *value* under *key*, or remove the key for None; only at *version* if one is given."""

    key: str
    value: bytes | None
    version: int | None = None


# The new version of the key, or why this change was left out while the others were made.
Outcome = int | ConflictError
Write = Callable[[Sequence[Change]], Awaitable[Sequence[Outcome]]]


class GroupCommit:
    """Queues changes and writes them in order, as many at once as there are.

    *write* makes a batch durable, all of it or nothing, and returns one outcome
    a change; what it raises is raised to everybody in the batch. No key is twice
    in a batch. A change that was submitted is written even if its caller stops waiting.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: deque[tuple[Change, asyncio.Future[int]]] = deque()
        self._flushing: asyncio.Task[None] | None = None

    async def submit(self, change: Change) -> int:
        """Return the new version of the key once the change is durable."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._flush())
        return await future

    async def drain(self) -> None:
        """Return once everything submitted is written, or was refused."""
        if self._flushing is not None:
            await asyncio.shield(self._flushing)

    async def _flush(self) -> None:
        while self._waiting:
            batch = self._next()
            try:
                outcomes = await self._write([change for change, _ in batch])
            except BaseException as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, ConflictError):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    def _next(self) -> list[tuple[Change, asyncio.Future[int]]]:
        """Take as many changes as fit into one write, each key once, in their order."""
        batch: list[tuple[Change, asyncio.Future[int]]] = []
        keys: set[str] = set()
        size = 0
        while self._waiting and len(batch) < MOST_CHANGES:
            change = self._waiting[0][0]
            size += len(change.key) + len(change.value or b"")
            if change.key in keys or (batch and size > MOST_BYTES):
                break
            keys.add(change.key)
            batch.append(self._waiting.popleft())
        return batch
