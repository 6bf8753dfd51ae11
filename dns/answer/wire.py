"""Names and records as bytes (RFC 1035 §4.1)."""

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from phalanx.dns.zones.record import Rdata, RecordType, Soa, Srv

HEADER_BYTES = 12
IN = 1
POINTER = 0xC000
MAX_LABEL_BYTES = 63
MAX_NAME_BYTES = 255
INNER_DOT = "\u2024"

_FIXED = struct.Struct("!HHIH")  # type, class, TTL, length of data


def encode_name(name: str) -> bytes:
    """Return an absolute name without compression."""
    labels = name.removesuffix(".").encode("latin-1").split(b".") if name != "." else []
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def decode_name(wire: bytes) -> str | None:
    """Return an uncompressed lower-case name with the dot, or None if *wire* is not exactly one.

    A dot inside a label comes out as INNER_DOT, so such a name never equals one of ours.
    """
    labels: list[str] = []
    at = 0
    while True:
        if at >= len(wire):
            return None
        length = wire[at]
        if length == 0:
            break
        if length > MAX_LABEL_BYTES or at + 1 + length >= len(wire):
            return None
        labels.append(wire[at + 1 : at + 1 + length].decode("latin-1").replace(".", INNER_DOT))
        at += 1 + length
    if at + 1 != len(wire) or len(wire) > MAX_NAME_BYTES:
        return None
    return ".".join(labels) + "."


def skip_name(message: bytes, at: int) -> int | None:
    """Return where the name at *at* ends, compressed or not, or None if it runs out."""
    size = len(message)
    while at < size:
        length = message[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2 if at + 2 <= size else None
        if length > MAX_LABEL_BYTES:
            return None
        at += 1 + length
    return None


def compressed(name: str, question: bytes) -> bytes:
    """Return *name* with the longest tail that it shares with the question's name as a pointer.

    *question* is the name in lower case as it stands at offset 12.
    """
    wire = encode_name(name)
    at = 0
    while wire[at]:
        start = len(question) - (len(wire) - at)
        if start >= 0 and question.endswith(wire[at:]) and _is_label_start(question, start):
            return wire[:at] + struct.pack("!H", POINTER | HEADER_BYTES + start)
        at += 1 + wire[at]
    return wire


def _is_label_start(wire: bytes, start: int) -> bool:
    at = 0
    while at < start:
        at += 1 + wire[at]
    return at == start


def encode_record(owner: bytes, type_: int, data: Rdata, ttl: int) -> bytes:
    """Return one record of class IN; *owner* is a name already encoded."""
    rdata = encode_rdata(data)
    return owner + _FIXED.pack(type_, IN, ttl, len(rdata)) + rdata


def encode_rdata(data: Rdata) -> bytes:
    """Return a record's data; names inside are never compressed (RFC 3597 §4)."""
    if isinstance(data, IPv4Address | IPv6Address):
        return data.packed
    if isinstance(data, Srv):
        return struct.pack("!HHH", data.priority, data.weight, data.port) + encode_name(data.target)
    if isinstance(data, Soa):
        return _encode_soa(data)
    return encode_name(data)


@lru_cache(maxsize=64)  # every denial has one
def _encode_soa(soa: Soa) -> bytes:
    numbers = struct.pack("!IIIII", *soa[2:])
    return encode_name(soa.mname) + encode_name(soa.rname) + numbers


def minimal_any(ttl: int) -> bytes:
    """Return an answer to ANY that gives nothing away (RFC 8482 §4.2): CPU "RFC8482", no OS."""
    owner = struct.pack("!H", POINTER | HEADER_BYTES)
    return owner + _FIXED.pack(RecordType.HINFO, IN, ttl, 9) + b"\x07RFC8482\x00"
