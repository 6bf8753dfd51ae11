"""One plane a state directory: a second one by mistake is told so, before it touches anything."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from phalanx.core.error import ConfigError

log = structlog.get_logger()

NAME = "plane.lock"  # in the state directory
WAIT_SECONDS = 10.0  # for one that is on its way out
LOOK_SECONDS = 0.05


@asynccontextmanager
async def alone_in(directory: Path, *, wait_seconds: float = WAIT_SECONDS) -> AsyncIterator[None]:
    """Hold *directory* meanwhile; raise ConfigError if another process does and goes on to.

    The lock ends with the process that has it. A disk that refuses costs a warning.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.warning("state_dir_not_locked", path=str(directory), error=str(error))
        yield
        return
    try:
        await _lock(descriptor, directory, wait_seconds)
        with suppress(OSError):  # a full disk: who it is is not said then
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def _lock(descriptor: int, directory: Path, wait_seconds: float) -> None:
    until = asyncio.get_running_loop().time() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if asyncio.get_running_loop().time() >= until:
                pid = os.pread(descriptor, 32, 0).decode(errors="replace") or "unknown"
                raise ConfigError(
                    f"--state-dir: {str(directory)!r} is another plane's, process {pid}; a node has"
                    " one plane"
                ) from error
            await asyncio.sleep(LOOK_SECONDS)
        else:
            return
