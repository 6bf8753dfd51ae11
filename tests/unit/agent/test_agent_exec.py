"""Programs that the agent runs, and gives up."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from phalanx.agent.exec import run
from phalanx.agent.process import start_time
from phalanx.labs.wait import wait_until


def children() -> set[int]:
    """Return the processes that this one has started."""
    return {
        int(pid)
        for file in Path("/proc/self/task").glob("*/children")
        for pid in file.read_text().split()
    }


async def test_a_program_that_ends_as_it_is_given_up_is_given_up() -> None:
    """A loop may have reaped it, in a thread, and not have told us yet."""
    before = children()
    running = asyncio.create_task(run(["sleep", "60"], timeout_seconds=None))
    while not (started := children() - before):  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)  # it comes to wait for the program

    [pid] = started
    running.cancel()
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: start_time(pid) is None, seconds=30)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), seconds=1)  # where a thread reaps

    with pytest.raises(asyncio.CancelledError):
        await running
