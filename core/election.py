"""Who leads: the protocol of an election, and the election of a daemon that is alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol


class Election(Protocol):
    """Contends for leadership and tells who has it."""

    def watch(self, me: bytes) -> AsyncIterator[bytes | None]:
        """Contend with the payload *me*; yield the leader's payload at each change.

        None means that nobody leads. Contending begins with the first
        iteration and ends when the iterator is closed.
        """
        ...

    def is_certain(self) -> bool:
        """Tell whether what *watch* yielded last is certainly still so.

        A leader asks before each thing that others can see: a process that was
        stopped for a while has had no chance to hear that it was deposed.
        """
        ...


class Standalone:
    """The election of a daemon that has no peers: it leads at once and for ever."""

    async def watch(self, me: bytes) -> AsyncIterator[bytes | None]:
        """Yield *me*, then wait for ever."""
        yield me
        await asyncio.Event().wait()

    def is_certain(self) -> bool:
        """Return True."""
        return True
