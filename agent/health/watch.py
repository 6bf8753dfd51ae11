"""Probe a task again and again, and say what follows."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from phalanx.agent.health.verdict import Health, Verdict, judge
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import HealthCheck

log = structlog.get_logger()

Probe = Callable[[], Awaitable[None]]
Tell = Callable[[Health, Verdict, str], Awaitable[None]]


async def watch_health(
    check: HealthCheck,
    health: Health,
    *,
    probe: Probe,
    tell: Tell,
    age_seconds: Callable[[], float],
) -> None:
    """Probe until a verdict kills the task.

    *probe* raises ContainerError, OSError or TimeoutError when the task is not
    well; *tell* gets every verdict that says something, with the probe's words.
    """
    await asyncio.sleep(max(check.delay_seconds - age_seconds(), 0.0))
    while True:
        words = ""
        try:
            async with asyncio.timeout(check.timeout_seconds or None):
                await probe()
        except TimeoutError:
            words = f"timed out after {check.timeout_seconds:g} s"
        except (ContainerError, OSError) as error:
            words = str(error)
        health, verdict = judge(check, health, passed=not words, age_seconds=age_seconds())
        if verdict.tell:
            await tell(health, verdict, words)
        if verdict.kill:
            return
        await asyncio.sleep(max(check.interval_seconds, 0.05))
