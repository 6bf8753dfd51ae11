"""HTTP basic authentication, realm by realm (reference mesos §0.3): who calls, and who may."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from aiohttp import web

from phalanx.core.api.error import Handler
from phalanx.core.error import ConfigError
from phalanx.mesos.api.route import page_of

PRINCIPAL: web.RequestKey[str] = web.RequestKey("principal", str)


class _Credential(msgspec.Struct, frozen=True):
    principal: str
    secret: str = ""


class _Credentials(msgspec.Struct, frozen=True):
    credentials: tuple[_Credential, ...]


@dataclass(frozen=True, slots=True)
class Doors:
    """The realms that ask who calls, by the name that pages give them, and who is known."""

    realms: Mapping[str, str]  # "readonly" -> "mesos-master-readonly"
    secrets: Mapping[str, str]  # principal -> secret

    def principal(self, header: str | None) -> str | None:
        """Return who an ``Authorization`` header proves to be calling, or None."""
        scheme, _, encoded = (header or "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            text = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            return None
        principal, _, secret = text.partition(":")
        known = self.secrets.get(principal)
        if known is None or not hmac.compare_digest(known.encode(), secret.encode()):
            return None
        return principal


def parse_credentials(text: str) -> dict[str, str]:
    """Return the secret of each principal: Mesos' JSON, or a pair on each line.

    Raises ConfigError; no secret is ever part of the message.
    """
    if text.lstrip().startswith("{"):
        try:
            parsed = msgspec.json.decode(text, type=_Credentials)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            raise ConfigError(f"credentials: {error}") from error
        return {item.principal: item.secret for item in parsed.credentials}
    found: dict[str, str] = {}
    for place, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if len(words) not in (0, 2):
            raise ConfigError(f"credentials: line {place} is no principal and secret")
        if words:
            found[words[0]] = words[1]
    return found


def principal_of(request: web.Request) -> str | None:
    """Return who calls, or None where nobody has to say."""
    return request.get(PRINCIPAL)


DOORS: web.AppKey[Doors] = web.AppKey("doors", Doors)


@web.middleware
async def known_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 401 to strangers where the page's realm asks who calls.

    Of our own paths below ``/v1/``, what changes something is of the realm
    "readwrite"; agents and planes are not asked.
    """
    doors = request.app.get(DOORS)
    if doors is None:
        return await handler(request)
    realm = doors.realms.get(_realm(request) or "")
    if realm is not None:
        principal = doors.principal(request.headers.get("Authorization"))
        if principal is None:
            headers = {"WWW-Authenticate": f'Basic realm="{realm}"'}
            return web.Response(status=401, text="401 Unauthorized.", headers=headers)
        request[PRINCIPAL] = principal
    return await handler(request)


def _realm(request: web.Request) -> str | None:
    if not request.path.startswith("/v1/"):
        page = page_of(request)
        return None if page is None else page.realm
    is_read = request.method in ("GET", "HEAD")
    return None if is_read or request.path.startswith("/v1/agent") else "readwrite"
