"""A second plane with one state directory is told whose it is, and waits for one that ends."""

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phalanx.core.error import ConfigError
from phalanx.plane.alone import NAME, alone_in

HOLD = """
import asyncio, sys
from pathlib import Path
from phalanx.plane.alone import alone_in

async def hold():
    async with alone_in(Path(sys.argv[1])):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(hold())
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield another process that holds the directory until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


async def test_a_second_plane_is_refused_and_told_of_the_first(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    with pytest.raises(ConfigError, match=rf"--state-dir: .*process {other.pid}\b"):
        async with alone_in(tmp_path, wait_seconds=0):
            pass


@pytest.mark.parametrize("how", ["ends", "is killed"])
async def test_one_that_is_on_its_way_out_is_waited_for(
    tmp_path: Path, other: subprocess.Popen[str], how: str
) -> None:
    is_alone = asyncio.Event()

    async def begin() -> None:
        async with alone_in(tmp_path, wait_seconds=600):
            is_alone.set()

    begun = asyncio.ensure_future(begin())
    await asyncio.sleep(0)
    assert not is_alone.is_set()
    if how == "ends":
        assert other.stdin is not None
        other.stdin.close()
    else:
        other.kill()
    await begun

    assert is_alone.is_set()
    assert (tmp_path / NAME).read_text() == str(os.getpid())


async def test_one_after_the_other_is_welcome(tmp_path: Path) -> None:
    for _ in range(2):
        async with alone_in(tmp_path / "new", wait_seconds=0):
            descriptor = os.open(tmp_path / "new" / NAME, os.O_RDWR)
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(descriptor)


async def test_a_disk_that_refuses_costs_no_plane(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    held = False

    async with alone_in(tmp_path / "file" / "state", wait_seconds=0):
        held = True

    assert held
