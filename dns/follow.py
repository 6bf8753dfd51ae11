"""Upstreams that change while we run: those that a resolv.conf names."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.forward.route import parse_routes
from phalanx.dns.publish import ZoneTable

log = structlog.get_logger()

SECONDS = 2.0  # between two looks


async def follow_upstreams(
    name_servers: Callable[[], Sequence[str]],
    forwarder: Forwarder,
    zones: ZoneTable,
    *,
    zone_upstreams: Sequence[str] = (),
    seconds: float = SECONDS,
) -> None:
    """Ask whom *name_servers* names now, until cancelled; nobody named is an outage: all stay."""
    while True:
        await asyncio.sleep(seconds)
        follow_once(name_servers(), forwarder, zones, zone_upstreams=zone_upstreams)


def follow_once(
    found: Sequence[str],
    forwarder: Forwarder,
    zones: ZoneTable,
    *,
    zone_upstreams: Sequence[str] = (),
) -> None:
    """Ask *found* from now on, if they are others than before and any at all."""
    if not found or parse_routes(found, zone_upstreams) == forwarder.routes:
        return
    forwarder.reroute(found, zone_upstreams)
    zones.set_forwards(forwarder.forwards)
    log.info("upstreams_changed", upstreams=found)
