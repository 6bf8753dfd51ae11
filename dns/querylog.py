"""A log of what clients ask: one query of many, so that it costs little."""

import ipaddress
from collections.abc import Sequence

import structlog
from dnslib import QTYPE

from phalanx.dns.answer.query import Query, Rcode, parse_query
from phalanx.dns.batch import Datagram, packed_of

log = structlog.get_logger()


class QueryLog:
    """Logs every *every*-th query; 0 logs none."""

    def __init__(self, every: int = 0) -> None:
        self._every = every
        self._left = every - 1  # queries until the next to log

    @property
    def is_off(self) -> bool:
        """Tell whether it logs nothing."""
        return not self._every

    def note(self, asked: Sequence[Datagram], replies: Sequence[Datagram]) -> None:
        """Look at the datagrams of one moment and the replies that were known at once."""
        if not self._every:
            return
        at = self._left
        while at < len(asked):
            message, peer = asked[at]
            reply = next(
                (each for each, whose in replies if whose == peer and each[:2] == message[:2]), None
            )
            _log(message, packed_of(peer), reply)
            at += self._every
        self._left = at - len(asked)

    def note_stream(self, message: bytes, client: bytes, reply: bytes | None) -> None:
        """Look at a query that came over TCP and its reply, None when it comes later."""
        if not self._every:
            return
        if self._left <= 0:
            _log(message, client, reply, protocol="tcp")
            self._left = self._every
        self._left -= 1


def _log(message: bytes, client: bytes, reply: bytes | None, *, protocol: str = "udp") -> None:
    query = parse_query(message)
    if not isinstance(query, Query):
        return
    log.info(
        "query_answered",
        client=str(ipaddress.ip_address(client)) if client else "",
        name=query.name.encode("unicode_escape").decode(),  # it may hold any byte
        type=QTYPE.get(query.type),
        protocol=protocol,
        rcode=None if reply is None else _rcode_of(reply),  # None: upstreams are asked
        bytes=None if reply is None else len(reply),
    )


def _rcode_of(reply: bytes) -> str:
    try:
        return Rcode(reply[3] & 0xF).name
    except ValueError:
        return str(reply[3] & 0xF)
