"""The JSON that a request to the registry's own API carries."""

from typing import TypeVar

import msgspec
from aiohttp import web

from phalanx.core.error import InvalidError

S = TypeVar("S", bound=msgspec.Struct)


async def read_body(request: web.Request, kind: type[S]) -> S:
    """Return the body as a *kind*; raises InvalidError for what is none."""
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"body: {error}") from error
