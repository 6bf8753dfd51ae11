"""What a daemon ends with: one clear error when all of them are ours, else the whole truth."""

import asyncio
import resource
from collections.abc import Awaitable, Callable

import pytest

from phalanx.core.daemon import MOST_FILES, allow_many_files, run_daemon
from phalanx.core.error import ConfigError, UnavailableError


def failing(*errors: Exception) -> Callable[[], Awaitable[None]]:
    async def fail(error: Exception) -> None:
        raise error

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for error in errors:
                group.create_task(fail(error))

    return main


def test_errors_of_ours_end_with_status_1_however_many_there_are() -> None:
    assert run_daemon(failing(UnavailableError("a"))) == 1
    assert run_daemon(failing(UnavailableError("a"), UnavailableError("b"))) == 1


def test_bad_configuration_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_daemon(failing(ConfigError("--port: 'x'"))) == 2
    assert capsys.readouterr().err == "--port: 'x'\n"


def test_as_many_files_are_allowed_as_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, MOST_FILES), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_bug_is_not_hidden_behind_an_error_of_ours() -> None:
    with pytest.raises(ExceptionGroup):
        run_daemon(failing(UnavailableError("a"), ZeroDivisionError()))
