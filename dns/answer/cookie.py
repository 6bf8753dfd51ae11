"""DNS cookies of a server (RFC 7873, 9018): who shows one is where he says he is; told the time."""

import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from siphash24 import siphash24

from phalanx.core.error import ConfigError
from phalanx.dns.answer.query import COOKIE, Query

CLIENT_BYTES = 8
SERVER_BYTES = 16
SECRET_BYTES = 16
OLDEST_SECONDS = 3600  # RFC 9018 §4.3
RENEWED_SECONDS = 1800
AHEAD_SECONDS = 300  # a node whose clock is ahead of ours made it

_OPTION = struct.Struct("!HH")
_VERSION = struct.Struct("!BxxxI")  # version, reserved, time


@dataclass(frozen=True, slots=True)
class Shown:
    """A query whose reply carries a cookie, and whether it showed a good one of ours itself."""

    query: Query
    is_ours: bool

    @property
    def is_bad(self) -> bool:
        """Tell whether the query showed a server's cookie, and it is not a good one of ours."""
        edns = self.query.edns
        return not self.is_ours and edns is not None and len(edns.cookie) > CLIENT_BYTES


class Cookies:
    """Makes and checks the cookies of one secret; *old* secrets are still good, but not given.

    Servers that share an address share the secret, so that each knows the others' cookies.
    """

    def __init__(self, secret: bytes, old: Sequence[bytes] = ()) -> None:
        self.secrets = (secret, *old)

    def shown(self, query: Query, client: bytes, now: float) -> Shown:
        """Return *query* with what its reply says.

        *client* is a packed address, *now* the time since 1970 in seconds.
        """
        edns = query.edns
        assert edns is not None
        own, server = edns.cookie[:CLIENT_BYTES], edns.cookie[CLIENT_BYTES:]
        time_ = int(now)
        is_ours = self._is_ours(own, server, client, time_)
        if not is_ours or not self._is_fresh(own, server, client, time_):
            head = _VERSION.pack(1, time_ & 0xFFFFFFFF)
            server = head + self._hash(self.secrets[0], own, head, client)
        option = _OPTION.pack(COOKIE, len(own) + len(server)) + own + server
        return Shown(query._replace(edns=edns._replace(echo=edns.echo + option)), is_ours)

    def _is_ours(self, own: bytes, server: bytes, client: bytes, now: int) -> bool:
        if len(server) != SERVER_BYTES or server[0] != 1:
            return False
        if not -AHEAD_SECONDS <= self._age(server, now) <= OLDEST_SECONDS:
            return False
        return any(
            secrets.compare_digest(self._hash(secret, own, server[:8], client), server[8:])
            for secret in self.secrets
        )

    def _is_fresh(self, own: bytes, server: bytes, client: bytes, now: int) -> bool:
        """Tell whether a good cookie need not be replaced: young, and of the newest secret."""
        is_newest = self._hash(self.secrets[0], own, server[:8], client) == server[8:]
        return is_newest and self._age(server, now) <= RENEWED_SECONDS

    @staticmethod
    def _age(server: bytes, now: int) -> int:
        """Return the age in seconds, by serial number arithmetic (RFC 1982)."""
        passed = (now - int.from_bytes(server[4:8], "big")) & 0xFFFFFFFF
        return passed - (1 << 32) if passed >> 31 else passed

    @staticmethod
    def _hash(secret: bytes, own: bytes, head: bytes, client: bytes) -> bytes:
        return bytes(siphash24(own + head + client, key=secret).digest())


def new_secret() -> bytes:
    """Return a random secret."""
    return secrets.token_bytes(SECRET_BYTES)


def parse_secrets(key: str, text: str) -> Cookies:
    """Return the cookies of secrets, 32 hexadecimal digits a line, the newest first.

    Raises ConfigError for what is no secret, and when there is none.
    """
    found = []
    for line in text.split():
        try:
            secret = bytes.fromhex(line)
        except ValueError:
            secret = b""
        if len(secret) != SECRET_BYTES:
            raise ConfigError(f"--{key}: a secret has {2 * SECRET_BYTES} hexadecimal digits")
        found.append(secret)
    if not found:
        raise ConfigError(f"--{key}: there is no secret in it")
    return Cookies(found[0], found[1:])
