"""The checks of a v1 call, in the order and the words of Mesos (reference mesos §0.3)."""

import asyncio
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from phalanx.mesos.api.route import not_allowed
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.media import RECORDIO, Media, accepts, decode_as

M = TypeVar("M", bound=Message)

BODY_SECONDS = 60.0
CONTENT = "Message-Content-Type"
ACCEPT = "Message-Accept"
EITHER = f"{Media.JSON} or {Media.PROTOBUF}"
ANY = f"{EITHER} or {RECORDIO}"


@dataclass(frozen=True, slots=True)
class Terms:
    """How caller and callee speak: media of what comes and of what goes, framed or not."""

    content: Media
    accept: Media
    is_streaming_request: bool = False
    is_streaming_answer: bool = False

    def stream(self, id: str) -> Stream:
        """Return a stream that speaks as agreed."""
        return Stream(id, media=self.accept, is_recordio=self.is_streaming_answer)


async def read_call(request: web.Request, kind: type[M], *, only_json: bool = False) -> M:
    """Return the body of a call; raise what reference mesos §0.3 answers instead.

    *only_json* is for our own messages, which have no protobuf form.
    """
    header = _content_type(request)
    try:
        media = Media(header)
    except ValueError:
        raise web.HTTPUnsupportedMediaType(text=f"Expecting 'Content-Type' of {EITHER}") from None
    if only_json and media is not Media.JSON:
        raise web.HTTPUnsupportedMediaType(text=f"Expecting 'Content-Type' of {Media.JSON}")
    return decode_as(media, kind, await read_body(request))


async def read_body(request: web.Request) -> bytes:
    """Return the body, unpacked if it came as gzip; raise 408 when it does not come."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        text = f"The body did not come within {BODY_SECONDS:.0f} seconds"
        raise web.HTTPRequestTimeout(text=text) from None


def accepted(request: web.Request) -> Media:
    """Return the media to answer with, JSON where there is a choice; raise 406."""
    found = _accepted(request, "Accept")
    if found is None:
        text = f"Expecting 'Accept' to allow '{Media.PROTOBUF}' or '{Media.JSON}'"
        raise web.HTTPNotAcceptable(text=text)
    return found


def agree(request: web.Request) -> Terms:
    """Return the terms of an agent's operator call, where both ways can be streams.

    Raises 405, 400, 415 and 406.
    """
    header = _content_type(request)
    if header != RECORDIO and header not in list(Media):
        raise web.HTTPUnsupportedMediaType(text=f"Expecting 'Content-Type' of {ANY}")
    is_streaming_request = header == RECORDIO
    given = request.headers.get(CONTENT)
    if is_streaming_request:
        if given is None:
            text = f"Expecting '{CONTENT}' to be set for streaming requests"
            raise web.HTTPBadRequest(text=text)
        if given not in list(Media):
            raise web.HTTPUnsupportedMediaType(text=f"Expecting '{CONTENT}' of {EITHER}")
        header = given
    elif given is not None:
        text = f"Expecting '{CONTENT}' to be not set for non-streaming requests"
        raise web.HTTPUnsupportedMediaType(text=text)
    accept = _accepted(request, "Accept")
    is_streaming_answer = accept is None
    if accept is None:
        if not accepts(joined(request, "Accept"), RECORDIO):
            raise web.HTTPNotAcceptable(text=f"Expecting 'Accept' to allow {ANY}")
        accept = _accepted(request, ACCEPT)
        if accept is None:
            raise web.HTTPNotAcceptable(text=f"Expecting '{ACCEPT}' to allow {EITHER}")
    elif ACCEPT in request.headers:
        text = f"Expecting '{ACCEPT}' to be not set for non-streaming responses"
        raise web.HTTPNotAcceptable(text=text)
    return Terms(Media(header), accept, is_streaming_request, is_streaming_answer)


def joined(request: web.Request, header: str) -> str | None:
    """Return a header that lists things, however many times it came; None without it."""
    given = request.headers.getall(header, [])
    return ", ".join(given) if given else None


def _content_type(request: web.Request) -> str:
    if request.method != "POST":
        raise not_allowed(request.method, ["POST"])
    header = request.headers.get("Content-Type")
    if header is None:
        raise web.HTTPBadRequest(text="Expecting 'Content-Type' to be present")
    return header


def _accepted(request: web.Request, header: str) -> Media | None:
    given = joined(request, header)
    return next((media for media in Media if accepts(given, media)), None)
