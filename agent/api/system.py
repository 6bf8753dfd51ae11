"""Pages of the daemon itself: log level and load (reference mesos §3.4)."""

import asyncio
import os
from pathlib import Path

from aiohttp import web

from phalanx.core.error import InvalidError
from phalanx.core.verbosity import Verbosity
from phalanx.mesos.api.answer import json_answer
from phalanx.mesos.api.route import Page
from phalanx.mesos.duration import parse_duration

VERBOSITY: web.AppKey[Verbosity] = web.AppKey("verbosity", Verbosity)
MEMORY = Path("/proc/meminfo")


def pages() -> list[Page]:
    """Return the pages of the daemon."""
    return [
        Page("/logging/toggle", toggle, is_exact=True, realm="readwrite"),
        Page("/system/stats.json", stats, is_exact=True, realm=None),
    ]


def machine_metrics() -> dict[str, float]:
    """Return load, processors and memory of this machine."""
    one, five, fifteen = os.getloadavg()
    memory = {}
    for line in MEMORY.read_text().splitlines():
        key, _, value = line.partition(":")
        memory[key] = int(value.split()[0]) * 1024
    return {
        "system/cpus_total": float(os.cpu_count() or 1),
        "system/load_1min": one,
        "system/load_5min": five,
        "system/load_15min": fifteen,
        "system/mem_free_bytes": float(memory["MemFree"]),
        "system/mem_total_bytes": float(memory["MemTotal"]),
    }


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
    if not level.isdecimal():
        raise InvalidError(f"Failed to convert '{level}' to number.\n")
    try:
        seconds = parse_duration(duration)
    except InvalidError as error:
        raise InvalidError(f"{error}.\n") from error
    verbosity.set(int(level), seconds)
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
