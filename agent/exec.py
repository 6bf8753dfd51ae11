"""The one place where the agent starts other programs."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from phalanx.core.error import ContainerError

SUPERVISOR = Path(__file__).with_name("supervisor.py")


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ended."""

    status: int
    out: bytes
    err: bytes


async def run(
    command: Sequence[str],
    *,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float | None,
) -> Finished:
    """Run a program to its end; raise ContainerError if it can't start, TimeoutError if too long.

    A program that takes too long, or is no longer wanted, is killed with its children.
    """
    given_file = _file_of(given)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=given_file,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise ContainerError(f"{command[0]}: {error.strerror}") from error
    finally:
        os.close(given_file)
    try:
        async with asyncio.timeout(timeout_seconds):
            out, err = await process.communicate()
    except BaseException:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # a loop may reap in a thread, and hear of it later
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        raise
    return Finished(process.returncode or 0, out, err)


async def open_spawner() -> asyncio.subprocess.Process:
    """Start the process that forks supervisors; it ends when its standard input does."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(SUPERVISOR),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )


async def run_worker(program: Path, given: bytes) -> Finished:
    """Run a program of ours that needs the standard library only, to its end."""
    return await run([sys.executable, "-I", str(program)], given=given, timeout_seconds=None)


def _file_of(content: bytes) -> int:
    """Return a file in memory, at its beginning: unlike a pipe it needs nobody who reads it."""
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def run_blocking(command: Sequence[str], *, timeout_seconds: float) -> int:
    """Run a program to its end, its output thrown away; return its status, -1 if it hung."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_seconds,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return -1
    return done.returncode


async def supervise(
    arguments: Sequence[str], *, timeout_seconds: float, program: Path = SUPERVISOR
) -> bytes:
    """Start a supervisor and return the line that it reports; raise TimeoutError.

    It forks away from us at once, so nothing here waits for its end.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(program),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    if process.stdout is None:
        raise ContainerError("supervisor: has no output")
    async with asyncio.timeout(timeout_seconds):
        line = await process.stdout.readline()
        await process.wait()
    return line
