"""A Marathon that does not lead passes requests on to the one that does (reference §2.1)."""

from collections.abc import Mapping

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from phalanx.marathon.api.answer import Handler, as_json, raw_body
from phalanx.marathon.api.desk import SEAT

VIA = "X-Marathon-Via"
LEADER_SECONDS = 2.5
CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
# Every Marathon answers these for itself.
OWN_PATHS = frozenset({"/", "/ui", "/help", "/ping", "/metrics", "/metrics/prometheus", "/logging"})
# They belong to one connection, not to the message (RFC 9110 section 7.6.1).
HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te"),
        *("trailer", "transfer-encoding", "upgrade", "host", "content-length"),
    }
)
SESSION: web.AppKey[aiohttp.ClientSession] = web.AppKey("session", aiohttp.ClientSession)


@web.middleware
async def leader_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a request ourselves if we lead, else through the leader."""
    seat = request.app[SEAT]
    if seat.desk is not None or (request.path.rstrip("/") or "/") in OWN_PATHS:
        return await handler(request)
    if not await seat.filled(LEADER_SECONDS):
        return _refused("Could not determine the current leader")
    if seat.desk is not None:
        return await handler(request)
    assert seat.leader is not None  # somebody leads, and it is not us
    if "text/event-stream" in request.headers.get("Accept", ""):
        raise web.HTTPFound(f"http://{seat.leader}{request.path_qs}")
    if seat.me in request.headers.get(VIA, "").split(", "):
        return _refused("Detected proxying loop.")
    return await _ask(request, seat.leader, seat.me)


async def _ask(request: web.Request, leader: str, me: str) -> web.StreamResponse:
    url = URL(f"http://{leader}{request.raw_path}", encoded=True)
    headers = _passed_on(request.headers)
    headers.setdefault("Accept-Encoding", "identity")  # else aiohttp asks for more than the client
    headers[VIA] = ", ".join(filter(None, (headers.get(VIA), me)))
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
    )
    try:
        async with request.app[SESSION].request(
            request.method,
            url,
            headers=headers,
            data=await raw_body(request) if request.can_read_body else None,
            timeout=timeout,
            allow_redirects=False,
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        ) as answer:
            return web.Response(
                status=answer.status,
                reason=answer.reason,
                headers=_passed_on(answer.headers),
                body=await answer.read(),
            )
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        words = str(error)
        return _refused(f"The leader {leader} does not answer: {words or type(error).__name__}")


def _passed_on(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP
    )


def _refused(message: str) -> web.Response:
    body: Mapping[str, str] = {"message": message}
    return as_json(body, status=502)
