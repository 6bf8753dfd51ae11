"""HTTP basic authentication, realm by realm (reference mesos §0.3)."""

from aiohttp import web

from phalanx.core.api.error import Handler
from phalanx.mesos.api.route import PAGES, page_of
from phalanx.mesos.credential import Doors

PRINCIPAL: web.RequestKey[str] = web.RequestKey("principal", str)
DOORS: web.AppKey[Doors] = web.AppKey("doors", Doors)


def principal_of(request: web.Request) -> str | None:
    """Return who calls, or None where nobody has to say."""
    return request.get(PRINCIPAL)


@web.middleware
async def known_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 403 for closed pages, and 401 to strangers where a page's realm asks who calls.

    Of our own paths below ``/v1/``, what changes something is of the realm
    "readwrite"; agents and planes are not asked.
    """
    doors = request.app.get(DOORS)
    if doors is None:
        return await handler(request)
    if doors.closed and _is_closed(request, doors):
        raise web.HTTPForbidden(text=f"Endpoint '{request.path}' is disabled")
    realm = doors.realms.get(_realm(request) or "")
    if realm is not None:
        principal = doors.principal(request.headers.get("Authorization"))
        if principal is None:
            headers = {"WWW-Authenticate": f'Basic realm="{realm}"'}
            return web.Response(status=401, text="401 Unauthorized.", headers=headers)
        request[PRINCIPAL] = principal
    return await handler(request)


def _is_closed(request: web.Request, doors: Doors) -> bool:
    """Tell whether a path is closed, or whatever page it is another name of."""
    page, pages = page_of(request), request.app[PAGES]
    return request.path in doors.closed or (
        page is not None and any(pages.find(path) is page for path in doors.closed)
    )


def _realm(request: web.Request) -> str | None:
    if not request.path.startswith("/v1/"):
        page = page_of(request)
        return None if page is None else page.realm
    is_read = request.method in ("GET", "HEAD")
    return None if is_read or request.path.startswith("/v1/agent") else "readwrite"
