"""The one place where a master runs a command."""

import asyncio

from phalanx.core.error import ConfigError

SECONDS = 30.0


async def output_of(command: str) -> str:
    """Return what a shell command prints; raise ConfigError unless it ends well and in time."""
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SECONDS):
            printed, _ = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise ConfigError(f"{command!r}: did not end within {SECONDS:g} s") from error
    if process.returncode != 0:
        raise ConfigError(f"{command!r}: ended with status {process.returncode}")
    return printed.decode(errors="replace").strip()
