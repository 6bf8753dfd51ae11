"""How often Python looks for cycles: with a large heap a full look stops the loop for long.

The master's tables hold millions of objects that make no cycles; looking through
all of them takes 0.4 s at 100,000 tasks, and the interpreter's own settings do
so whenever a large answer is written. What is young is still looked through
often; the rest at times of our own choice.
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 5_000  # objects made, less those freed, before the young ones are looked through
MIDDLE = 3  # such looks before those that stayed are looked through again: 20 ms with them all
NEVER = 1_000_000
FULL_SECONDS = 900.0
ASIDE_SECONDS = 60.0


def calm_collector() -> None:
    """Leave full looks to ``collect_now_and_then``; what a process begins with is left out."""
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    gc.collect()
    gc.freeze()


@contextmanager
def without_collector() -> Iterator[None]:
    """Look for no cycles meanwhile, nor later among what is made: for a start whose all stays.

    Looks at all that is read of a View of 50,000 tasks cost as much as half of the reading.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def collect_now_and_then(every_seconds: float = FULL_SECONDS) -> None:
    """Look for cycles everywhere now and then, until cancelled."""
    while True:
        await asyncio.sleep(every_seconds)
        gc.collect()


async def set_aside_now_and_then(every_seconds: float = ASIDE_SECONDS) -> None:
    """Take what has stayed out of every later look, until cancelled.

    For a daemon that must answer within milliseconds whatever it holds: a full
    look never comes. A cycle that forms later among what was set aside stays for ever.
    """
    while True:
        await asyncio.sleep(every_seconds)
        gc.collect(1)
        gc.freeze()
