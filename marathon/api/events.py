"""``/v2/events``: the event stream as server-sent events (reference marathon §2.9)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import web

from phalanx.marathon.api.desk import desk_of
from phalanx.marathon.api.metrics import METERS, Meters
from phalanx.marathon.engine.bus import Bus, Happening

HEARTBEAT_SECONDS = 10.0
_HEAVY = ("original", "target")
# Old clients fail on kinds that they don't know: these are sent only when asked for.
_ONLY_WHEN_ASKED = (
    "scheduler_registered_event", "scheduler_reregistered_event", "scheduler_disconnected_event",
)  # fmt: skip


async def stream_events(request: web.Request) -> web.StreamResponse:
    """Send events as they happen until the client leaves or falls behind."""
    if "text/event-stream" not in request.headers.get("Accept", ""):
        raise web.HTTPMethodNotAllowed(request.method, [])
    kinds = request.query.getall("event_type", [])
    is_light = request.query.get("plan-format") == "light"
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    bus, meters = desk_of(request).board.bus, request.app[METERS]
    with bus.reading(kinds) as reader, _attached(request, bus, meters):
        await response.prepare(request)
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    happening = await reader.next()
            except TimeoutError:
                await response.write(b"\r\n")
                continue
            if happening is None:
                return response
            if not kinds and happening["eventType"] in _ONLY_WHEN_ASKED:
                continue
            await response.write(_framed(happening, is_light=is_light))


@contextmanager
def _attached(request: web.Request, bus: Bus, meters: Meters) -> Iterator[None]:
    """Tell that a client listens, and in the end that it no longer does."""
    meters.streams += 1
    bus.publish("event_stream_attached", remoteAddress=request.remote or "")
    try:
        yield
    finally:
        meters.streams -= 1
        bus.publish("event_stream_detached", remoteAddress=request.remote or "")


def _framed(happening: Happening, *, is_light: bool) -> bytes:
    body: dict[str, Any] = dict(happening)
    if is_light and isinstance(body.get("plan"), dict):
        body["plan"] = {k: v for k, v in body["plan"].items() if k not in _HEAVY}
    kind = str(body["eventType"]).encode()
    return b"event: %b\r\ndata: %b\r\n\r\n" % (kind, msgspec.json.encode(body))
