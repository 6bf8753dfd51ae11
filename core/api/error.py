"""Errors of ours as JSON answers."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from phalanx.core.error import (
    ConfigError,
    ConflictError,
    InvalidError,
    NotFoundError,
    PhalanxError,
    UnavailableError,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUS_OF: Mapping[type[PhalanxError], int] = {
    ConfigError: 400,
    InvalidError: 400,
    NotFoundError: 404,
    ConflictError: 409,
    UnavailableError: 503,
}


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer our own errors as ``{"error": text}``; let the rest surface as the bugs they are."""
    try:
        return await handler(request)
    except PhalanxError as error:
        status = STATUS_OF.get(type(error), 500)
        return web.json_response({"error": str(error)}, status=status)
