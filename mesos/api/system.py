"""Pages of the daemon itself: log level and load (reference mesos §3.4)."""

import asyncio

from aiohttp import web

from phalanx.core.error import InvalidError
from phalanx.core.verbosity import Verbosity
from phalanx.mesos.api.answer import json_answer
from phalanx.mesos.api.route import Page
from phalanx.mesos.duration import parse_duration
from phalanx.mesos.machine import machine_metrics

VERBOSITY: web.AppKey[Verbosity] = web.AppKey("verbosity", Verbosity)


def pages(*, is_open: bool = False) -> list[Page]:
    """Return the pages of the daemon; open ones are answered by masters that do not lead, too."""
    return [
        Page("/logging/toggle", toggle, is_open=is_open, is_exact=True, realm="readwrite"),
        Page("/system/stats.json", stats, is_open=is_open, is_exact=True, realm=None),
    ]


async def toggle(request: web.Request) -> web.Response:
    """Tell the level of the log, or raise it for a while."""
    verbosity = request.app[VERBOSITY]
    level, duration = request.query.get("level"), request.query.get("duration")
    if level is None and duration is None:
        return web.Response(text=f"{verbosity.level}\n")
    if level is None:
        raise InvalidError("Expecting 'level=value' in query.\n")
    if duration is None:
        raise InvalidError("Expecting 'duration=value' in query.\n")
    try:
        number = int(level)
    except ValueError as error:
        raise InvalidError(f"Failed to convert '{level}' to number.\n") from error
    if number < 0:
        raise InvalidError(f"Invalid level '{number}'.\n")
    try:
        seconds = parse_duration(duration)
    except InvalidError as error:
        raise InvalidError(f"{error}.\n") from error
    verbosity.set(number, seconds)
    return web.Response()


async def stats(_request: web.Request) -> web.Response:
    """Answer load, processors and memory of this machine."""
    found = await asyncio.to_thread(machine_metrics)
    return json_answer(
        {
            "avg_load_15min": found["system/load_15min"],
            "avg_load_1min": found["system/load_1min"],
            "avg_load_5min": found["system/load_5min"],
            "cpus_total": int(found["system/cpus_total"]),
            "mem_free_bytes": int(found["system/mem_free_bytes"]),
            "mem_total_bytes": int(found["system/mem_total_bytes"]),
        }
    )
