"""Addresses that are in use around this node, as its routes say: its own and its gateways'."""

import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6

from phalanx.net.model.objects import IPAddress
from phalanx.net.overlay.mark import PROTOCOL
from phalanx.net.rtnl.attribute import decode_attributes
from phalanx.net.rtnl.conversation import Conversation

RTM_GETROUTE = 26

# struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RTMSG = struct.Struct("=BBBBBBBBI")
_NEXT_HOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, hops, link
_RTA_DST, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 1, 5, 9, 18
_OWN = (2, 3, 4)  # local, broadcast, anycast
_BITS = {AF_INET: 32, AF_INET6: 128}


def taken_addresses() -> frozenset[IPAddress]:
    """Return the addresses of this node, its links' broadcasts and its gateways, of both families.

    Neither what is local to a link, nor a VIP, though that has a route of ours. Asks the kernel
    of the calling thread's network namespace; raises OSError when that refuses.
    """
    with Conversation() as conversation:
        return frozenset(
            each
            for family in _BITS
            for message in conversation.dump(
                RTM_GETROUTE, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            )
            for each in addresses_of(message)
            if not each.is_link_local
        )


def addresses_of(message: bytes) -> Iterable[IPAddress]:
    """Return what addresses one route of a dump tells to be in use; none if it is ours; pure."""
    family, length, _, _, _, protocol, _, kind, _ = _RTMSG.unpack_from(message)
    if protocol == PROTOCOL:
        return ()
    found = dict(decode_attributes(message[_RTMSG.size :]))
    if kind in _OWN:
        return (_address(found[_RTA_DST]),) if length == _BITS.get(family) else ()
    hops = [found, *_next_hops(found.get(_RTA_MULTIPATH, b""))]
    return [
        _address(packed)
        for hop in hops
        for packed in (hop.get(_RTA_GATEWAY), hop.get(_RTA_VIA, b"")[2:])
        if packed
    ]


def _next_hops(packed: bytes) -> Iterator[dict[int, bytes]]:
    """Yield the attributes of each of a route's several ways."""
    while len(packed) >= _NEXT_HOP.size:
        length = _NEXT_HOP.unpack_from(packed)[0]
        yield dict(decode_attributes(packed[_NEXT_HOP.size : length]))
        packed = packed[max((length + 3) & ~3, _NEXT_HOP.size) :]


def _address(packed: bytes) -> IPAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
