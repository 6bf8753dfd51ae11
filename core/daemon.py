"""Run one daemon: event loop, signals, exit status."""

import asyncio
import resource
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog
import uvloop

from phalanx.core.error import ConfigError, PhalanxError

MOST_FILES = 2**20

log = structlog.get_logger()


def run_daemon(main: Callable[[], Awaitable[None]]) -> int:
    """Run *main* until it ends or SIGTERM or SIGINT arrives; return the exit status.

    0 after a signal or a normal end, 2 for configuration that can't be used
    (its message goes to standard error), 1 for any other error of ours.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signal(main))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except PhalanxError as error:
        log.error("daemon_failed", error=str(error))
        return 1
    return 0


def allow_many_files() -> None:
    """Let this process hold as many files as it may: thousands of clients have a connection each.

    Not for a process that starts others: they would have the limit, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _until_signal(main: Callable[[], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")
    except BaseExceptionGroup as group:
        raise _single(group) from group


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error inside a task group's group if all are ours, or the group itself.

    Two loops may notice the same trouble in the same moment.
    """
    ours, others = group.split(PhalanxError)
    if ours is None or others is not None:
        return group
    inner: BaseException = ours
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner
