"""What every request to a master passes first: leadership."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from yarl import URL

from phalanx.core.api.error import Handler
from phalanx.master.leader import Leader
from phalanx.master.seat import Seat
from phalanx.mesos.api.answer import json_answer
from phalanx.mesos.api.route import page_of
from phalanx.mesos.v1.mesos import MasterInfo

SEAT: web.AppKey[Seat] = web.AppKey("seat", Seat)


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
    """Send the caller to the leader, unless that is us or any master can answer (§0.4)."""
    seat = request.app[SEAT]
    if not request.path.startswith("/v1/"):
        page = page_of(request)
        if page is None or page.is_open:
            return await handler(request)
    if seat.holder is None:
        raise web.HTTPServiceUnavailable(text="No leader elected")
    if not seat.is_mine:
        where = f"{base_of(seat.holder)}{request.rel_url.raw_path_qs}"
        raise web.HTTPTemporaryRedirect(URL(where, encoded=True))
    if seat.leader is None:
        raise web.HTTPServiceUnavailable(text="Master has not finished recovery")
    return await handler(request)


def json_response(_request: web.Request, body: Mapping[str, Any]) -> web.Response:
    """Answer a page of JSON."""
    return json_answer(body)
