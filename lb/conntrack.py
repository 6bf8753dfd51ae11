"""Tracked connections by netlink (linux/netfilter/nfnetlink_conntrack.h)."""

import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple

from phalanx.lb.service import Endpoint, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.rtnl.attribute import decode_attributes, encode_attribute
from phalanx.net.rtnl.conversation import Conversation, Request

NETLINK_NETFILTER = 12
CT_GET, CT_DELETE = (1 << 8) + 1, (1 << 8) + 2
ORIGINAL, REPLY = 1, 2  # tuples of a connection
ADDRESSES, PROTOCOL = 1, 2  # parts of a tuple
NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3
STATUS, PROTOCOL_INFO, STATUS_MASK = 3, 4, 26  # beside the tuples
DESTINATION_TRANSLATED = 1 << 5
TCP_INFO, TCP_STATE, ESTABLISHED = 1, 1, 3
NESTED = 0x8000
TYPE_MASK = 0x3FFF

_HEAD_BYTES = 4  # of an nfnetlink message: family, version, resource
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOLS = {protocol.number: protocol for protocol in Protocol}

# Source, destination, protocol and ports of a tuple that has ports, by its length: the kernel
# writes the attributes in one order. To decode them one by one takes four times as long.
_TUPLES = {
    52: struct.Struct("=4x4x4x4s4x4s4x4xB3x4x4x4x2s2x"),
    76: struct.Struct("=4x4x4x16s4x16s4x4xB3x4x4x4x2s2x"),
}
_REPLIES = {
    52: struct.Struct("=4x4x4x4s4x4s4x4xB3x4x2s2x4x4x"),
    76: struct.Struct("=4x4x4x16s4x16s4x4xB3x4x2s2x4x4x"),
}
_ATTRIBUTE = struct.Struct("=HH")

# Kernels before 5.18 pass over the filter and tell of all flows.
_BITS = struct.pack("!I", DESTINATION_TRANSLATED)
_TRANSLATED = encode_attribute(STATUS, _BITS) + encode_attribute(STATUS_MASK, _BITS)

Key = tuple[bytes, int, int, bytes, int]  # of VIP and backend, as packets spell them
Pools = tuple[IPv4Network, IPv6Network]


class Flow(NamedTuple):
    """A connection: where its packets go, where its replies come from, and its name."""

    key: Key
    original: bytes  # the tuple that names it


def forget(pairs: Collection[tuple[Vip, Endpoint]]) -> int:
    """Delete the flows from each VIP to the endpoint beside it; return how many there were.

    Costs one look at all flows of the thread's network namespace, however many
    pairs there are; IPVS does not mark its own as translated. Raises OSError when
    the kernel refuses.
    """
    wanted = {_key(vip, endpoint) for vip, endpoint in pairs}
    return _delete({vip.address.version for vip, _ in pairs}, wanted.__contains__)


def forget_strays(services: Mapping[Vip, Collection[Endpoint]], pools: Pools) -> int:
    """Delete translated UDP flows whose VIP is not served by where they go; return their number.

    Whoever was to forget them may have died between a change and that. VIPs are those of
    *services*, with all their backends, and whatever lies in *pools*. Costs a look at the
    translated flows, raises as `forget`.
    """
    kept = {_key(vip, endpoint) for vip, found in services.items() for endpoint in found}
    vips = {(vip.address.packed, vip.protocol.number, vip.port) for vip in services}
    ranges = [(each.network_address.packed, each.broadcast_address.packed) for each in pools]

    def is_stray(key: Key) -> bool:
        destination, number, port, source, source_port = key
        if number != socket.IPPROTO_UDP or (destination, port) == (source, source_port):
            return False
        is_vip = (destination, number, port) in vips or any(
            len(low) == len(destination) and low <= destination <= high for low, high in ranges
        )
        return is_vip and key not in kept

    return _delete(_FAMILIES, is_stray, among=_TRANSLATED)


def _delete(
    versions: Iterable[int], is_wanted: Callable[[Key], bool], *, among: bytes = b""
) -> int:
    deleted = 0
    with Conversation(NETLINK_NETFILTER) as conversation:
        for version in versions:
            head = bytes((_FAMILIES[version], 0, 0, 0))
            found = [
                Request(CT_DELETE, 0, head + encode_attribute(ORIGINAL | NESTED, flow.original))
                for answer in conversation.dump(CT_GET, head + among)
                if (flow := decode_flow(answer)) is not None and is_wanted(flow.key)
            ]
            for error in conversation.ask(found):
                if error not in (0, errno.ENOENT):
                    raise OSError(error, os.strerror(error))
            deleted += len(found)
    return deleted


def count_open() -> Mapping[tuple[Vip, Endpoint], int]:
    """Return how many connections are open from each VIP to each backend.

    TCP that is established, and UDP that is tracked. Costs one look at the flows
    of the thread's network namespace whose destination was translated, by others,
    too. Raises OSError when the kernel refuses.
    """
    found: Counter[Key] = Counter()
    with Conversation(NETLINK_NETFILTER) as conversation:
        for family in _FAMILIES.values():
            answers = conversation.dump(CT_GET, bytes((family, 0, 0, 0)) + _TRANSLATED)
            found.update(key for each in answers if (key := decode_open(each)) is not None)
    counts: dict[tuple[Vip, Endpoint], int] = {}
    for (address, number, port, source, source_port), count in found.items():
        vip = Vip(ip_address(address), port, _PROTOCOLS[number])
        counts[vip, Endpoint(ip_address(source), source_port)] = count
    return counts


def decode_open(answer: bytes) -> Key | None:
    """Return whence and where an open connection goes; None for one that is not; pure."""
    length, kind = _ATTRIBUTE.unpack_from(answer, _HEAD_BYTES)
    there, back = _TUPLES.get(length), _REPLIES.get(length)
    if there is None or back is None or kind & TYPE_MASK != ORIGINAL:
        return None  # a protocol without ports
    _, destination, number, port = there.unpack_from(answer, _HEAD_BYTES)
    offset = _HEAD_BYTES + length
    if number not in _PROTOCOLS or _ATTRIBUTE.unpack_from(answer, offset)[0] != length:
        return None
    source, _, _, source_port = back.unpack_from(answer, offset)
    if source == destination and source_port == port:
        return None  # not translated
    if number == Protocol.TCP.number and not _is_established(answer, offset + length):
        return None
    return destination, number, int.from_bytes(port), source, int.from_bytes(source_port)


def _is_established(answer: bytes, offset: int) -> bool:
    while offset < len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, offset)
        if kind & TYPE_MASK == PROTOCOL_INFO:
            outer = dict(decode_attributes(answer[offset + 4 : offset + length]))
            inner = dict(decode_attributes(outer.get(TCP_INFO, b"")))
            return inner.get(TCP_STATE) == bytes((ESTABLISHED,))
        offset += (length + 3) & ~3
    return False


def decode_flow(answer: bytes) -> Flow | None:
    """Return the flow of one message, None for a protocol without ports; pure."""
    tuples = dict(decode_attributes(answer[_HEAD_BYTES:]))
    there, back = (_ends(tuples.get(kind, b"")) for kind in (ORIGINAL, REPLY))
    if there is None or back is None:
        return None
    _, destination, number, _, port = there
    source, _, _, source_port, _ = back
    return Flow((destination, number, port, source, source_port), tuples[ORIGINAL])


def _ends(data: bytes) -> tuple[bytes, bytes, int, int, int] | None:
    """Return source, destination, protocol number and both ports of a tuple."""
    parts = dict(decode_attributes(data))
    addresses = [value for _, value in sorted(decode_attributes(parts.get(ADDRESSES, b"")))]
    protocol = dict(decode_attributes(parts.get(PROTOCOL, b"")))
    try:
        source, destination = addresses  # the source's attribute has the lower number
        number, *ports = (
            int.from_bytes(protocol[kind], "big")
            for kind in (NUMBER, SOURCE_PORT, DESTINATION_PORT)
        )
    except (KeyError, ValueError):
        return None
    return source, destination, number, ports[0], ports[1]


def _key(vip: Vip, endpoint: Endpoint) -> Key:
    return (
        vip.address.packed,
        vip.protocol.number,
        vip.port,
        endpoint.address.packed,
        endpoint.port,
    )
