"""Writes that go together: who hears of a failure knows that none of them is under way any more."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def together(writes: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Wait for all of *writes*, then raise the first error that there was."""
    for result in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
