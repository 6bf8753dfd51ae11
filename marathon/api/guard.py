"""Whom the REST API answers: HTTP basic authentication, and pages of other origins."""

import hmac
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from phalanx.marathon.policy import Policy

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REALM = "Mesosphere"
OPEN_PATHS = frozenset({"/ping", "/ping/"})  # load balancers ask it without a password


POLICY: web.AppKey[Policy] = web.AppKey("policy", Policy)


@web.middleware
async def authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 401 to whoever does not give the credentials that are asked for."""
    credentials = request.app[POLICY].credentials
    if credentials is None or request.path in OPEN_PATHS:
        return await handler(request)
    if _proves(request.headers.get("Authorization", ""), credentials):
        return await handler(request)
    return web.json_response(
        {"message": "Invalid username or password."},
        status=401,
        headers={"WWW-Authenticate": f'Basic realm="{REALM}",charset="UTF-8"'},
    )


def _proves(header: str, credentials: str) -> bool:
    scheme, _, token = header.partition(" ")
    try:
        given = b64decode(token.strip(), validate=True)
    except ValueError:
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(given, credentials.encode())


def cross_origin(request: web.Request, allow: str) -> Mapping[str, str]:
    """Return the headers that let a page of another origin read the answer; *allow*: methods."""
    allowed, origin = request.app[POLICY].origins, request.headers.get("Origin")
    if origin is None or not allowed & {"*", origin}:
        return {}
    headers = {"Access-Control-Allow-Origin": "*" if "*" in allowed else origin}
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = allow
        headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
    return headers
