"""``/v2/events``: the event stream as server-sent events (reference marathon §2.9)."""

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from phalanx.marathon.api.desk import desk_of
from phalanx.marathon.engine.bus import Happening

HEARTBEAT_SECONDS = 10.0
_HEAVY = ("original", "target")
# Old clients fail on kinds that they don't know: these are sent only when asked for.
_ONLY_WHEN_ASKED = ("scheduler_registered_event", "scheduler_reregistered_event")


async def stream_events(request: web.Request) -> web.StreamResponse:
    """Send events as they happen until the client leaves or falls behind."""
    if "text/event-stream" not in request.headers.get("Accept", ""):
        raise web.HTTPMethodNotAllowed(request.method, [])
    kinds = request.query.getall("event_type", [])
    is_light = request.query.get("plan-format") == "light"
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    bus = desk_of(request).board.bus
    with bus.reading(kinds) as reader:
        await response.prepare(request)
        bus.publish("event_stream_attached", remoteAddress=request.remote or "")
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    happening = await reader.queue.get()
            except TimeoutError:
                await response.write(b"\r\n")
                continue
            if happening is None:
                return response
            if not kinds and happening["eventType"] in _ONLY_WHEN_ASKED:
                continue
            await response.write(_framed(happening, is_light=is_light))


def _framed(happening: Happening, *, is_light: bool) -> bytes:
    body: dict[str, Any] = dict(happening)
    if is_light and isinstance(body.get("plan"), dict):
        body["plan"] = {k: v for k, v in body["plan"].items() if k not in _HEAVY}
    kind = str(body["eventType"]).encode()
    return b"event: %b\r\ndata: %b\r\n\r\n" % (kind, msgspec.json.encode(body))
