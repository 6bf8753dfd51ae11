"""Netlink attributes as bytes: length, type, value, padded to four; no I/O."""

import struct
from collections.abc import Iterator

_HEADER = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # the two bits above are flags


def encode_attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute."""
    return _HEADER.pack(_HEADER.size + len(value), kind) + value + bytes(-len(value) % 4)


def decode_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute; what is cut off at the end is left out."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind = _HEADER.unpack_from(data, offset)
        if not _HEADER.size <= length <= len(data) - offset:
            return
        yield kind & _TYPE_MASK, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3
