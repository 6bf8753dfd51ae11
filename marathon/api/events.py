"""``/v2/events``: the event stream as server-sent events (reference marathon §2.9)."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aiohttp import web

from phalanx.marathon.api.desk import desk_of
from phalanx.marathon.api.metrics import METERS, Meters
from phalanx.marathon.engine.bus import Bus

HEARTBEAT_SECONDS = 10.0
STALL_SECONDS = 30.0  # for which a client may take nothing at all, however little happens
PART_BYTES = 16 * 1024  # written at once: what a client that does not read costs us
_BEAT = b"\r\n"
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

    def hang_up() -> None:
        # Who does not read would let us wait for ever to say good-bye.
        if request.transport is not None:
            request.transport.abort()

    with bus.reading(kinds, drop=hang_up) as reader, _attached(request, bus, meters):
        await response.prepare(request)
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    happenings = await reader.next()
            except TimeoutError:
                happenings = ()
            if happenings is None:
                return response
            wanted = [h for h in happenings if kinds or h.kind not in _ONLY_WHEN_ASKED]
            for part in _parts([h.framed(is_light=is_light) for h in wanted] or [_BEAT]):
                try:
                    async with asyncio.timeout(STALL_SECONDS):
                        await response.write(part)
                except TimeoutError:
                    hang_up()
                    return response


def _parts(frames: Sequence[bytes]) -> Iterator[bytes]:
    """Yield all that is to be sent, small events together."""
    waiting: list[bytes] = []
    size = 0
    for frame in frames:
        waiting.append(frame)
        size += len(frame)
        if size >= PART_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


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
