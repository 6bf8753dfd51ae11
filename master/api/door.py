"""What every request passes first: leadership, then the checks of v1 calls, in Mesos' order."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from phalanx.core.api.error import STATUS_OF, Handler, errors_as_json
from phalanx.core.error import InvalidError, PhalanxError
from phalanx.master.leader import Leader
from phalanx.master.seat import Seat
from phalanx.mesos.v1.codec import Message, decode
from phalanx.mesos.v1.mesos import MasterInfo

M = TypeVar("M", bound=Message)

SEAT: web.AppKey[Seat] = web.AppKey("seat", Seat)

# Answered by every master, leading or not.
OPEN_PATHS = frozenset({"/health", "/flags", "/version", "/metrics/snapshot", "/redirect"})
JSON = "application/json"
PROTOBUF = "application/x-protobuf"


def leader_of(request: web.Request) -> Leader:
    """Return the leading master's parts; past the door this master leads."""
    leader = request.app[SEAT].leader
    if leader is None:
        raise web.HTTPServiceUnavailable(text="Master has not finished recovery")
    return leader


def base_of(master: MasterInfo) -> str:
    """Return the protocol-relative address of a master."""
    ip = master.address.ip if master.address is not None else None
    return f"//{master.hostname or ip}:{master.port}"


@web.middleware
async def leader_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Send the caller to the leader, unless that is us or any master can answer."""
    seat = request.app[SEAT]
    path = request.path.removeprefix("/master").removesuffix(".json")
    if path in OPEN_PATHS:
        return await handler(request)
    if seat.holder is None:
        raise web.HTTPServiceUnavailable(text="No leader elected")
    if not seat.is_mine:
        raise web.HTTPTemporaryRedirect(f"{base_of(seat.holder)}{request.path_qs}")
    if seat.leader is None:
        raise web.HTTPServiceUnavailable(text="Master has not finished recovery")
    return await handler(request)


@web.middleware
async def errors_in_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer our own errors: JSON below ``/v1/``, plain text as Mesos does elsewhere."""
    if request.path.startswith("/v1/"):
        return await errors_as_json(request, handler)
    try:
        return await handler(request)
    except PhalanxError as error:
        return web.Response(status=STATUS_OF.get(type(error), 500), text=str(error))
    except web.HTTPNotFound:
        return web.Response(status=404, text="404 Not Found.")


async def read_call(request: web.Request, kind: type[M]) -> M:
    """Return the body of a v1 call; raise what reference mesos §0.3 answers instead."""
    if request.method != "POST":
        raise web.HTTPMethodNotAllowed(request.method, ["POST"])
    content_type = request.headers.get("Content-Type")
    if content_type is None:
        raise web.HTTPBadRequest(text="Expecting 'Content-Type' to be present")
    if content_type == PROTOBUF:
        raise web.HTTPUnsupportedMediaType(
            text=f"'{PROTOBUF}' is not supported in this build, use '{JSON}'"
        )
    if content_type != JSON:
        raise web.HTTPUnsupportedMediaType(text=f"Expecting 'Content-Type' of {JSON} or {PROTOBUF}")
    raw = await request.read()
    try:
        return decode(kind, raw)
    except RecursionError as error:
        raise InvalidError("Failed to parse body into JSON: nested too deeply") from error


def check_accept(request: web.Request) -> None:
    """Raise 406 unless the caller takes JSON."""
    header = request.headers.get("Accept", "*/*")
    for part in header.split(","):
        kind, *parameters = (item.strip().lower() for item in part.split(";"))
        refuses = any(item.replace(" ", "") in ("q=0", "q=0.0") for item in parameters)
        if kind in (JSON, "application/*", "*/*", "") and not refuses:
            return
    raise web.HTTPNotAcceptable(text=f"Expecting 'Accept' to allow {JSON} or {PROTOBUF}")


def json_response(request: web.Request, body: Mapping[str, Any]) -> web.Response:
    """Answer JSON, compressed where the caller likes it, or JSONP where it asks for it."""
    raw = msgspec.json.encode(body)
    callback = request.query.get("jsonp")
    if callback is not None:
        response = web.Response(
            body=callback.encode() + b"(" + raw + b");", content_type="text/javascript"
        )
    else:
        response = web.Response(body=raw, content_type=JSON)
    if len(raw) > 1024:
        response.enable_compression()
    return response
