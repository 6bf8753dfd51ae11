"""Bodies in and out, errors and headers, as Marathon's clients expect them (reference §2.1)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from phalanx.core.error import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PhalanxError,
    UnavailableError,
)
from phalanx.marathon.api.desk import SEAT
from phalanx.marathon.api.guard import cross_origin
from phalanx.marathon.definition.problem import DefinitionError
from phalanx.marathon.engine.orders import LockedError, Origin, TooManyError
from phalanx.marathon.model.deployment import Deployment
from phalanx.marathon.model.path import ROOT

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUS_OF: Mapping[type[PhalanxError], int] = {
    DefinitionError: 422,
    InvalidError: 422,
    NotFoundError: 404,
    LockedError: 409,
    ConflictError: 409,
    TooManyError: 403,
    UnavailableError: 503,
}
HEADERS = {
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Expires": "0",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
}


LEAST_COMPRESSED = 1024
BODY_SECONDS = 60.0  # for which a client may send one: 8 MiB at 140 kB/s


class BadRequestError(PhalanxError):
    """A request that makes no sense, whatever it is about (status 400)."""


class MalformedError(BadRequestError):
    """A body that is not JSON."""


@web.middleware
async def compressed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Send bodies of some length gzipped to whoever takes that."""
    response = await handler(request)
    if (
        isinstance(response, web.Response)
        and "gzip" in request.headers.get("Accept-Encoding", "")
        and "Content-Encoding" not in response.headers
        and isinstance(response.body, bytes)
        and len(response.body) >= LEAST_COMPRESSED
    ):
        response.enable_compression(web.ContentCoding.gzip)
        response.headers["Vary"] = "Accept-Encoding"
    return response


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors as ``{"message": …}``; let bugs surface as what they are."""
    try:
        return await handler(request)
    except MalformedError as error:
        return as_json({"message": "Invalid JSON", "details": str(error)}, status=400)
    except BadRequestError as error:
        return as_json({"message": str(error)}, status=400)
    except DefinitionError as error:
        return as_json(error.body(), status=422)
    except LockedError as error:
        ids = [{"id": deployment_id} for deployment_id in error.deployments]
        return as_json({"message": str(error), "deployments": ids}, status=409)
    except PhalanxError as error:
        return as_json({"message": str(error)}, status=STATUS_OF.get(type(error), 500))
    except web.HTTPNotFound:
        return as_json({"message": "URI not found"}, status=404)
    except web.HTTPError as error:
        headers = {k: v for k, v in error.headers.items() if k == "Allow"}
        if request.method == "OPTIONS" and error.status == 405:
            headers["Allow"] = ",".join(sorted({"OPTIONS", *headers["Allow"].split(",")} - {""}))
            return web.Response(status=200, headers=headers)
        message = HTTPStatus(error.status).phrase
        return as_json({"message": message}, status=error.status, headers=headers)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers of every reply on *response*."""
    response.headers.update(HEADERS)
    leader = request.app[SEAT].leader
    if leader is not None:
        response.headers["X-Marathon-Leader"] = f"http://{leader}"
    response.headers.update(cross_origin(request, response.headers.get("Allow", "")))


def as_json(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return *value* as a JSON answer."""
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        headers=headers,
        content_type="application/json",
    )


async def raw_body(request: web.Request) -> bytes:
    """Return the body as it came; raise HTTPRequestTimeout for one that takes its time."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error


async def body_of(request: web.Request) -> Any:  # noqa: ANN401 - any JSON
    """Return the parsed body; raise MalformedError when it is not JSON."""
    try:
        return msgspec.json.decode(await raw_body(request))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedError(str(error)) from error


def flag(request: web.Request, name: str, *, default: bool = False) -> bool:
    """Return a boolean of the query, in any case of letters; raise BadRequestError."""
    text = request.query.get(name)
    if text is None:
        return default
    if text.lower() not in ("true", "false", ""):
        raise BadRequestError(f"{name}: {text!r} is neither true nor false")
    return text.lower() != "false"


def origin_of(request: web.Request, group: str = ROOT) -> Origin:
    """Return who asks to change something in *group*, for the event stream."""
    return Origin(request.remote or "", request.path, group)


def deployed(
    deployment: Deployment, *, status: int = 200, location: str | None = None
) -> web.Response:
    """Answer that a deployment began."""
    headers = {"Marathon-Deployment-Id": deployment.id}
    if location is not None:
        headers["Location"] = location
    body = {"version": deployment.version, "deploymentId": deployment.id}
    return as_json(body, status=status, headers=headers)
