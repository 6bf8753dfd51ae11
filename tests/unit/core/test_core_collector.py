"""What Python's look for cycles passes over."""

import asyncio
import gc

from phalanx.core.collector import set_aside_now_and_then, without_collector


async def test_what_stays_is_set_aside() -> None:
    before = gc.get_freeze_count()
    task = asyncio.create_task(set_aside_now_and_then(0.001))
    try:
        async with asyncio.timeout(5):
            while gc.get_freeze_count() <= before:  # noqa: ASYNC110 - a count tells nobody
                await asyncio.sleep(0.001)
    finally:
        task.cancel()
        gc.unfreeze()


def test_what_is_made_without_the_collector_is_set_aside() -> None:
    before = gc.get_freeze_count()
    try:
        with without_collector():
            was_on = gc.isenabled()
            made = [[number] for number in range(1000)]
        frozen = gc.get_freeze_count()

        assert (was_on, gc.isenabled()) == (False, True)
        assert frozen - before >= len(made)
    finally:
        gc.unfreeze()
