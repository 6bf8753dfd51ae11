"""A test run that is told to end takes down what it made, however it is told."""

import os
import signal
from contextlib import suppress
from types import FrameType

import pytest

with suppress(ModuleNotFoundError):  # not in the guest, where every import costs
    from hypothesis import HealthCheck, settings

    # How long an example takes, or its making, says how busy the machine is.
    settings.register_profile(
        "busy", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("busy")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def pytest_configure(config: pytest.Config) -> None:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does, which runs every fixture's end.

    No test trusts an authority, and to read the machine's takes each daemon of a test 45 ms.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    os.environ["SSL_CERT_FILE"] = os.devnull
