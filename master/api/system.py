"""Pages of the daemon itself: health, version, flags, metrics (reference mesos §3.4)."""

from html import escape

from aiohttp import web

from phalanx.core.error import InvalidError
from phalanx.master.api.door import SEAT, base_of, leader_of
from phalanx.master.operator.metrics import follower_metrics
from phalanx.master.operator.registry import registry_json
from phalanx.mesos.api.answer import json_answer
from phalanx.mesos.api.route import PAGES, Page
from phalanx.mesos.build import build_info
from phalanx.mesos.duration import parse_duration
from phalanx.mesos.v1.codec import to_json


def pages() -> list[Page]:
    """Return the pages that every master answers, and those that tell of this one."""
    return [
        Page("/health", health, is_open=True, realm=None),
        Page("/version", version, is_open=True, realm=None),
        Page("/flags", flags, is_open=True),
        Page("/metrics/snapshot", metrics, is_open=True),
        Page("/redirect", redirect, is_open=True, is_exact=True, realm=None),
        Page("/registrar(1)/registry", registry),
        Page("/allocator/offer_constraints_debug", constraints),
        Page("/help", help_page, is_open=True, realm=None),
    ]


async def health(_request: web.Request) -> web.Response:
    """Answer that we live."""
    return web.Response()


async def version(_request: web.Request) -> web.Response:
    """Answer the version."""
    return json_answer(to_json(build_info()))


async def flags(request: web.Request) -> web.Response:
    """Answer the settings."""
    return json_answer({"flags": dict(request.app[SEAT].config.flags())})


async def metrics(request: web.Request) -> web.Response:
    """Answer every metric; a master that does not lead has few."""
    timeout = request.query.get("timeout")
    if timeout is not None:
        try:
            parse_duration(timeout)
        except InvalidError as error:
            raise InvalidError(f"Invalid timeout '{timeout}': {error}.\n") from error
    seat = request.app[SEAT]
    if seat.leader is None:
        return json_answer(follower_metrics(uptime=seat.uptime))
    return json_answer(seat.leader.metrics(uptime=seat.uptime))


async def redirect(request: web.Request) -> web.Response:
    """Send the caller to the leader, also when that is us."""
    holder = request.app[SEAT].holder
    if holder is None:
        raise web.HTTPServiceUnavailable(text="No leader elected")
    raise web.HTTPTemporaryRedirect(base_of(holder))


async def registry(request: web.Request) -> web.Response:
    """Answer what is durable."""
    leader = leader_of(request)
    return json_answer(registry_json(leader.cluster, leader.registry.records, leader.info))


async def constraints(request: web.Request) -> web.Response:
    """Answer which agents each framework's offer constraints leave out."""
    return json_answer({"frameworks": leader_of(request).allocator.excluded()})


async def help_page(request: web.Request) -> web.Response:
    """List every page."""
    paths = sorted(page.path for page in request.app[PAGES].all)
    items = "".join(f'<li><a href="{escape(path)}">{escape(path)}</a></li>' for path in paths)
    text = f"<html><head><title>Help</title></head><body><ul>{items}</ul></body></html>"
    return web.Response(text=text, content_type="text/html")
