"""Answers: messages, JSON pages, errors in words; JSONP and gzip for whoever asks."""

import asyncio
import gzip
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from phalanx.core.api.error import STATUS_OF, Handler, errors_as_json
from phalanx.core.error import PhalanxError
from phalanx.mesos.v1.codec import Message, encode_value
from phalanx.mesos.v1.media import Media, accepts_gzip, encode_as

GZIP_FROM_BYTES = 1024
ASIDE_FROM_BYTES = 64 * 1024  # what is longer is compressed beside the event loop
GZIP_LEVEL = 4


def answer(message: Message, media: Media, *, status: int = 200) -> web.Response:
    """Answer a message in the media that the caller takes (``call.accepted``)."""
    return web.Response(
        body=encode_as(media, message), status=status, headers={"Content-Type": media.value}
    )


def answer_with(kind: type[Message], body: Mapping[str, Any], media: Media) -> web.Response:
    """Answer what *kind* would hold, given as the mapping that its JSON is.

    Values may be messages already. JSON is written without a message in between,
    so that a large answer costs one encoding.
    """
    if media is Media.JSON:
        return json_answer(body)
    return answer(msgspec.convert(body, kind), media)


def json_answer(body: Mapping[str, Any] | list[Any] | bytes) -> web.Response:
    """Answer a page of JSON; bytes are JSON already."""
    raw = body if isinstance(body, bytes) else encode_value(body)
    return web.Response(body=raw, headers={"Content-Type": Media.JSON.value})


@web.middleware
async def dressed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Wrap JSON for ``?jsonp=``, compress what is long; streams and files pass as they are."""
    response = await handler(request)
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    callback = request.query.get("jsonp")
    if callback is not None and response.status == 200 and response.content_type == Media.JSON:
        response.body = b"%b(%b);" % (callback.encode(errors="replace"), response.body)
        response.headers["Content-Type"] = "text/javascript"
    raw = response.body
    if (
        len(raw) >= GZIP_FROM_BYTES
        and "Content-Encoding" not in response.headers
        and accepts_gzip(request.headers.get("Accept-Encoding"))
    ):
        if len(raw) < ASIDE_FROM_BYTES:
            response.body = gzip.compress(raw, GZIP_LEVEL)
        else:
            response.body = await asyncio.to_thread(gzip.compress, raw, GZIP_LEVEL)
        response.headers["Content-Encoding"] = "gzip"
    return response


@web.middleware
async def errors_in_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer our own errors: JSON below ``/v1/``, plain text as Mesos does elsewhere."""
    if request.path.startswith("/v1/"):
        return await errors_as_json(request, handler)
    try:
        response = await handler(request)
    except PhalanxError as error:
        return web.Response(status=STATUS_OF.get(type(error), 500), text=str(error))
    except web.RequestPayloadError:
        return web.Response(status=400, text="Failed to decode body")
    except web.HTTPRedirection as error:
        error.body = b""  # what there is to say is in its Location
        raise
    except web.HTTPException as error:
        if error.status >= 400 and error.text == f"{error.status}: {error.reason}":
            error.text = f"{error.status} {error.reason}."
        raise
    if isinstance(response, web.Response) and response.status >= 400 and not response.body:
        response.text = f"{response.status} {response.reason}."  # as Mesos says the obvious
    return response
