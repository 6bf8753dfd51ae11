"""Route messages of rtnetlink as bytes; no I/O.

pyroute2 knows no IP encapsulation, and takes a round trip for each route.
"""

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network
from socket import AF_INET, AF_INET6

from phalanx.net.model.objects import IPAddress, node6
from phalanx.net.overlay.mark import PROTOCOL, TUNNEL
from phalanx.net.overlay.route.value import (
    LocalRoute,
    Route,
    RouteKey,
    TunnelRoute,
    UnknownRoute,
    UnreachableRoute,
)
from phalanx.net.rtnl.attribute import decode_attributes, encode_attribute

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

# struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RTMSG = struct.Struct("=BBBBBBBBI")
_U16, _U32, _BE64 = struct.Struct("=H"), struct.Struct("=I"), struct.Struct("!Q")

_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 6, 7, 15
_RTA_ENCAP_TYPE, _RTA_ENCAP = 21, 22
_LWTUNNEL_ENCAP_IP, _LWTUNNEL_IP_ID, _LWTUNNEL_IP_DST, _LWTUNNEL_IP_SRC = 2, 1, 2, 3
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST, _SCOPE_NOWHERE = 0, 253, 254, 255
_UNSPECIFIED, _UNICAST, _LOCAL, _UNREACHABLE = 0, 1, 2, 7

DUMP_REQUESTS = tuple(
    _RTMSG.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0) for family in (AF_INET, AF_INET6)
)


def encode_route(key: RouteKey, route: Route, *, oif: int) -> bytes:
    """Return the message that makes *route*; ValueError for one that we never make."""
    match route:
        case TunnelRoute():
            encap = (
                encode_attribute(_LWTUNNEL_IP_ID, _BE64.pack(route.vni))
                + encode_attribute(_LWTUNNEL_IP_DST, route.remote.packed)
                + encode_attribute(_LWTUNNEL_IP_SRC, route.source.packed)
            )
            inside = route.source if key.destination.version == 4 else node6(route.source)
            way = (
                _source_and_link(inside, oif)
                + encode_attribute(_RTA_ENCAP_TYPE, _U16.pack(_LWTUNNEL_ENCAP_IP))
                + encode_attribute(_RTA_ENCAP, encap)
            )
            return _encode(key, _SCOPE_LINK, _UNICAST) + way
        case LocalRoute():
            return _encode(key, _SCOPE_HOST, _LOCAL) + _source_and_link(route.source, oif)
        case UnreachableRoute():
            return _encode(key, _SCOPE_UNIVERSE, _UNREACHABLE)
        case UnknownRoute():
            raise ValueError(f"not a route that we make: {route.form}")


def encode_key(key: RouteKey) -> bytes:
    """Return the message that names a route of ours at *key*, whatever its form."""
    return _encode(key, _SCOPE_NOWHERE, _UNSPECIFIED)


def decode_route(message: bytes, links: Mapping[int, str]) -> tuple[RouteKey, Route] | None:
    """Return the route that *message* of a dump tells of; None if it is not ours.

    *links* are the names of links by index.
    """
    family, length, _, _, table, protocol, _, kind, _ = _RTMSG.unpack_from(message)
    if protocol != PROTOCOL:
        return None
    found = dict(decode_attributes(message[_RTMSG.size :]))
    key = RouteKey(
        table=_number(found.get(_RTA_TABLE)) or table,
        destination=ip_network(
            (found.get(_RTA_DST, bytes(4 if family == AF_INET else 16)), length)
        ),
        metric=_number(found.get(_RTA_PRIORITY)),
    )
    link = links.get(_number(found.get(_RTA_OIF)), "none")
    return key, _route(kind, link, found)


def _route(kind: int, link: str, found: Mapping[int, bytes]) -> Route:
    if kind == _UNREACHABLE:
        return UnreachableRoute()
    source = _address(found.get(_RTA_PREFSRC, bytes(4)))
    if kind == _LOCAL and link == "lo":
        return LocalRoute(source)
    if kind == _UNICAST and link == TUNNEL and _RTA_ENCAP in found:
        encap = dict(decode_attributes(found[_RTA_ENCAP]))
        outside = IPv4Address(encap.get(_LWTUNNEL_IP_SRC, bytes(4)))
        inside = outside if source.version == 4 else node6(outside)
        if inside == source and {_LWTUNNEL_IP_ID, _LWTUNNEL_IP_DST} <= encap.keys():
            [vni] = _BE64.unpack(encap[_LWTUNNEL_IP_ID])
            return TunnelRoute(IPv4Address(encap[_LWTUNNEL_IP_DST]), vni, outside)
    return UnknownRoute(f"type {kind} dev {link} src {source}")


def _encode(key: RouteKey, scope: int, kind: int) -> bytes:
    table = key.table if key.table < 256 else 0
    family = AF_INET if key.destination.version == 4 else AF_INET6
    head = _RTMSG.pack(family, key.destination.prefixlen, 0, 0, table, PROTOCOL, scope, kind, 0)
    attributes = encode_attribute(_RTA_TABLE, _U32.pack(key.table)) + encode_attribute(
        _RTA_DST, key.destination.network_address.packed
    )
    if key.metric:
        attributes += encode_attribute(_RTA_PRIORITY, _U32.pack(key.metric))
    return head + attributes


def _source_and_link(source: IPAddress, oif: int) -> bytes:
    return encode_attribute(_RTA_PREFSRC, source.packed) + encode_attribute(
        _RTA_OIF, _U32.pack(oif)
    )


def _address(packed: bytes) -> IPAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _number(value: bytes | None) -> int:
    return int(_U32.unpack(value)[0]) if value else 0
