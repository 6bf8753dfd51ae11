"""Changes that are carried through once begun, whoever stops waiting for them."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def carried_through(
    change: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let *change* run to its end even when its caller is cancelled.

    A client that hangs up cancels the handler of its request; what is written
    must be remembered all the same.
    """

    @wraps(change)
    async def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.shield(change(*args, **kwargs))

    return carried
