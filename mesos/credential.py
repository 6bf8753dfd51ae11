"""Who may come in: principals, secrets, realms that ask for them, pages closed to all (§0.3)."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from phalanx.core.error import ConfigError


class _Credential(msgspec.Struct, frozen=True):
    principal: str
    secret: str = ""


class _Endpoints(msgspec.Struct, frozen=True):
    paths: tuple[str, ...] = ()


class _Firewall(msgspec.Struct, frozen=True):
    disabled_endpoints: _Endpoints = _Endpoints()


class _Credentials(msgspec.Struct, frozen=True):
    credentials: tuple[_Credential, ...]


@dataclass(frozen=True, slots=True)
class Doors:
    """The realms that ask who calls, by the name that pages give them, and who is known.

    The pages of the *closed* paths are for nobody.
    """

    realms: Mapping[str, str]  # "readonly" -> "mesos-master-readonly"
    secrets: Mapping[str, str]  # principal -> secret
    closed: tuple[str, ...] = ()

    @classmethod
    def read(
        cls, realms: Mapping[str, str], file: Path | None, closed: tuple[str, ...] = ()
    ) -> Self:
        """Return the doors of *realms* for the principals of *file*; raise ConfigError."""
        if not realms:
            return cls({}, {}, closed)
        if file is None:
            raise ConfigError("http-credentials: nobody could come in without them")
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"http-credentials: {str(file)!r}: can't be read") from error
        return cls(realms, parse_credentials(text), closed)

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


def parse_firewall(text: str) -> tuple[str, ...]:
    """Return the paths that ``--firewall_rules`` closes; raise ConfigError."""
    if not text.strip():
        return ()
    try:
        return msgspec.json.decode(text, type=_Firewall).disabled_endpoints.paths
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise ConfigError(f"--firewall-rules: {error}") from error


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
