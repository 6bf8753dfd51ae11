"""Loops that ask tasks something, one for each thing that is asked, so many at a time."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Hashable
from contextlib import suppress
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

MAX_AT_ONCE = 256


class Loops(Generic[K]):
    """A loop a key; whoever asks in one holds one of the *slots* meanwhile."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._tasks: dict[K, asyncio.Task[None]] = {}

    def settle(self, wanted: Collection[K], loop: Callable[[K], Coroutine[Any, Any, None]]) -> None:
        """End the loops of keys that are not *wanted*, and begin a *loop* for those that lack one.

        A loop that has ended by itself is not begun again while its key is wanted.
        """
        wanted = frozenset(wanted)
        for key in self._tasks.keys() - wanted:
            self._tasks.pop(key).cancel()
        for key in wanted - self._tasks.keys():
            self._tasks[key] = asyncio.create_task(loop(key))

    async def close(self) -> None:
        """End every loop."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
