"""What our resolver and each upstream of it say to a question about a name of others."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from phalanx.core.config import HostPort
from phalanx.dns.answer.query import Query, parse_query
from phalanx.dns.answer.reply import MAX_TCP_BYTES
from phalanx.dns.forward.forwarder import Forwarder

SECONDS = 3.0  # an upstream that is silent for so long is shown as silent


@dataclass(frozen=True, slots=True)
class Reply:
    """What one server said, and after how many milliseconds; without an rcode it said nothing."""

    server: str
    milliseconds: float
    rcode: str = ""
    answers: tuple[str, ...] = ()
    error: str = ""
    from_cache: bool = False


async def explain_foreign(forwarder: Forwarder, name: str, type_: int) -> Sequence[Reply]:
    """Ask our resolver and then each of the name's upstreams, all at once; ours is first.

    *name* is absolute, *type_* the number of a record type.
    """
    message = bytes(DNSRecord.question(name, QTYPE.get(type_)).pack())
    query = parse_query(message)
    assert isinstance(query, Query)
    ours = await _ask_ourselves(forwarder, query)
    upstreams = forwarder.routes.upstreams_of(query.question[:-4].lower())
    theirs = await asyncio.gather(
        *(asyncio.to_thread(_ask_upstream, each, message) for each in upstreams)
    )
    return [ours, *theirs]


def reply_json(reply: Reply) -> Mapping[str, object]:
    """Return a reply as the node API shows it."""
    return {
        "server": reply.server,
        "milliseconds": round(reply.milliseconds, 2),
        "rcode": reply.rcode or None,
        "answers": list(reply.answers),
        "error": reply.error or None,
        "from_cache": reply.from_cache,
    }


async def _ask_ourselves(forwarder: Forwarder, query: Query) -> Reply:
    begin = time.monotonic()
    known = forwarder.known(query, MAX_TCP_BYTES)
    raw = known if known is not None else await forwarder.resolve(query, MAX_TCP_BYTES)
    return _read("this node", begin, raw, from_cache=known is not None)


def _ask_upstream(upstream: HostPort, message: bytes) -> Reply:
    begin = time.monotonic()
    request = DNSRecord.parse(message)
    is_six = ":" in upstream.host
    try:
        raw = request.send(upstream.host, upstream.port, timeout=SECONDS, ipv6=is_six)
        if raw[2] & 2:  # cut short
            raw = request.send(upstream.host, upstream.port, tcp=True, timeout=SECONDS, ipv6=is_six)
    except (OSError, DNSError, IndexError) as error:
        return Reply(str(upstream), _since(begin), error=str(error) or type(error).__name__)
    return _read(str(upstream), begin, raw)


def _read(server: str, begin: float, raw: bytes, *, from_cache: bool = False) -> Reply:
    passed = _since(begin)
    try:
        reply = DNSRecord.parse(raw)
    except DNSError as error:
        return Reply(server, passed, error=f"unreadable: {error}")
    answers = tuple(f"{QTYPE.get(each.rtype)} {each.rdata}" for each in reply.rr)
    return Reply(server, passed, RCODE.get(reply.header.rcode), answers, from_cache=from_cache)


def _since(begin: float) -> float:
    return (time.monotonic() - begin) * 1000
