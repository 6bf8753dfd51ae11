"""Messages of the generic netlink family IPVS, as bytes; pure.

Layout and numbers are the kernel's (include/uapi/linux/ip_vs.h). Netmask and
address family are always said: for IPv6 the kernel has no default that fits.
"""

import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import msgspec

from phalanx.lb.service import Backend, IPAddress, Scheduler, Service, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.rtnl.attribute import decode_attributes, encode_attribute

GENL_ID_CTRL, CTRL_CMD_GETFAMILY = 16, 3
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 1, 2
FAMILY_NAME = "IPVS"

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
CMD_ATTR_SERVICE, CMD_ATTR_DEST = 1, 2

SVC_AF, SVC_PROTOCOL, SVC_ADDR, SVC_PORT, SVC_FWMARK = 1, 2, 3, 4, 5
SVC_SCHED, SVC_FLAGS, SVC_TIMEOUT, SVC_NETMASK, SVC_STATS64 = 6, 7, 8, 9, 12
DEST_ADDR, DEST_PORT, DEST_FORWARD, DEST_WEIGHT = 1, 2, 3, 4
DEST_UPPER, DEST_LOWER, DEST_ACTIVE, DEST_INACTIVE = 5, 6, 7, 8
DEST_FAMILY, DEST_STATS64 = 11, 12
STATS_CONNECTIONS, STATS_IN_BYTES, STATS_OUT_BYTES = 1, 4, 5

NESTED = 0x8000
FORWARD_MASK, FORWARD_NAT = 0x7, 0
PERSISTENT = 0x1
# The first flag of sh and mh: a backend of weight 0 is passed over, not refused.
FALLBACK = 0x8
CHOSEN_FLAGS = 0x1 | 0x4 | 0x8 | 0x10 | 0x20  # all but "hashed", which the kernel adds itself
HASHED = (Scheduler.SH, Scheduler.MH)

_GENL = struct.Struct("=BBH")
_U16, _U32, _U64, _PORT = (struct.Struct(form) for form in ("=H", "=I", "=Q", "!H"))
_FLAGS = struct.Struct("=II")
_PROTOCOLS = {protocol.number: protocol for protocol in Protocol}


class Held(msgspec.Struct, frozen=True):
    """A service of the kernel without its backends."""

    vip: Vip
    scheduler: str
    flags: int
    timeout_seconds: int
    netmask: int
    connections: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Destination(msgspec.Struct, frozen=True):
    """A backend as the kernel holds it, and what went to it."""

    backend: Backend
    is_plain: bool  # reached by address translation, without limits on its connections
    active: int = 0
    inactive: int = 0
    connections: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


def encode_family_question() -> bytes:
    """Return the question for the number of the family."""
    name = encode_attribute(CTRL_ATTR_FAMILY_NAME, FAMILY_NAME.encode() + b"\0")
    return _GENL.pack(CTRL_CMD_GETFAMILY, 1, 0) + name


def encode_question(command: int) -> bytes:
    """Return a question that needs no words."""
    return _GENL.pack(command, 1, 0)


def decode_family(payload: bytes) -> int:
    """Return the number of the family from the answer; raises KeyError if it has none."""
    return int(_U16.unpack(dict(decode_attributes(payload[4:]))[CTRL_ATTR_FAMILY_ID])[0])


def encode_service(command: int, vip: Vip, service: Service | None = None) -> bytes:
    """Return a message about a VIP; NEW_SERVICE and SET_SERVICE say of which *service*."""
    return _GENL.pack(command, 1, 0) + _service(vip, service)


def encode_backend(command: int, vip: Vip, backend: Backend) -> bytes:
    """Return a message about a backend of a VIP."""
    words = _address(DEST_ADDR, backend.address) + encode_attribute(
        DEST_PORT, _PORT.pack(backend.port)
    )
    words += _u16(DEST_FAMILY, _family(backend.address))
    if command != DEL_DEST:
        words += _u32(DEST_FORWARD, FORWARD_NAT) + _u32(DEST_WEIGHT, backend.weight)
        words += _u32(DEST_UPPER, 0) + _u32(DEST_LOWER, 0)
    return (
        _GENL.pack(command, 1, 0)
        + _service(vip, None)
        + encode_attribute(CMD_ATTR_DEST | NESTED, words)
    )


def decode_service(payload: bytes) -> Held | None:
    """Return a service of GET_SERVICE's answer; None for one that has no VIP of our kind."""
    words = _nested(payload, CMD_ATTR_SERVICE)
    protocol = _PROTOCOLS.get(_number(words, SVC_PROTOCOL))
    if protocol is None or SVC_ADDR not in words:
        return None
    address = _read_address(_number(words, SVC_AF), words[SVC_ADDR])
    if address is None:
        return None
    stats = dict(decode_attributes(words.get(SVC_STATS64, b"")))
    flags = _FLAGS.unpack(words[SVC_FLAGS])[0] if SVC_FLAGS in words else 0
    return Held(
        Vip(address, _PORT.unpack(words[SVC_PORT])[0], protocol),
        words[SVC_SCHED].rstrip(b"\0").decode(),
        flags & CHOSEN_FLAGS,
        _number(words, SVC_TIMEOUT),
        _number(words, SVC_NETMASK),
        *_counters(stats),
    )


def decode_backend(payload: bytes, family: int) -> Destination | None:
    """Return a backend of GET_DEST's answer; *family* is its service's, for kernels before 3.18."""
    words = _nested(payload, CMD_ATTR_DEST)
    known = _number(words, DEST_FAMILY) if DEST_FAMILY in words else family
    address = _read_address(known, words[DEST_ADDR])
    if address is None:
        return None
    stats = dict(decode_attributes(words.get(DEST_STATS64, b"")))
    return Destination(
        Backend(address, _PORT.unpack(words[DEST_PORT])[0], _number(words, DEST_WEIGHT)),
        _number(words, DEST_FORWARD) & FORWARD_MASK == FORWARD_NAT
        and not _number(words, DEST_UPPER)
        and not _number(words, DEST_LOWER),
        _number(words, DEST_ACTIVE),
        _number(words, DEST_INACTIVE),
        *_counters(stats),
    )


def service_of(held: Held, destinations: Iterable[Destination]) -> Service:
    """Return the service that the kernel holds, not whole when we would not write it so."""
    found = tuple(destinations)
    backends = tuple(sorted(destination.backend for destination in found))
    try:
        scheduler = Scheduler(held.scheduler)
    except ValueError:
        return Service(backends, is_whole=False)
    affinity = held.timeout_seconds if held.flags & PERSISTENT else 0
    service = Service(backends, scheduler=scheduler, affinity_seconds=affinity)
    if (
        held.flags == flags_of(service)
        and held.netmask == netmask_of(held.vip.address)
        and all(destination.is_plain for destination in found)
    ):
        return service
    return Service(backends, is_whole=False, scheduler=scheduler, affinity_seconds=affinity)


def flags_of(service: Service) -> int:
    """Return the flags that a service is written with."""
    fallback = FALLBACK if service.scheduler in HASHED else 0
    return fallback | (PERSISTENT if service.affinity_seconds else 0)


def netmask_of(address: IPAddress) -> int:
    """Return what affinity takes for one source: a whole address, as the kernel spells it."""
    return 128 if address.version == 6 else 0xFFFFFFFF


def _service(vip: Vip, service: Service | None) -> bytes:
    words = _u16(SVC_AF, _family(vip.address)) + _u16(SVC_PROTOCOL, vip.protocol.number)
    words += _address(SVC_ADDR, vip.address) + encode_attribute(SVC_PORT, _PORT.pack(vip.port))
    if service is not None:
        words += encode_attribute(SVC_SCHED, service.scheduler.encode() + b"\0")
        words += encode_attribute(SVC_FLAGS, _FLAGS.pack(flags_of(service), CHOSEN_FLAGS))
        words += _u32(SVC_TIMEOUT, service.affinity_seconds)
        words += _u32(SVC_NETMASK, netmask_of(vip.address))
    return encode_attribute(CMD_ATTR_SERVICE | NESTED, words)


def _counters(stats: dict[int, bytes]) -> tuple[int, int, int]:
    """Return connections, bytes in and bytes out of 64-bit statistics."""
    kinds = (STATS_CONNECTIONS, STATS_IN_BYTES, STATS_OUT_BYTES)
    found = [int(_U64.unpack(stats[kind])[0]) if kind in stats else 0 for kind in kinds]
    return found[0], found[1], found[2]


def _family(address: IPAddress) -> int:
    return int(socket.AF_INET6 if address.version == 6 else socket.AF_INET)


def _address(kind: int, address: IPAddress) -> bytes:
    """Return an address attribute: the kernel's union, 16 bytes for both families."""
    return encode_attribute(kind, address.packed.ljust(16, b"\0"))


def _read_address(family: int, data: bytes) -> IPAddress | None:
    if family == socket.AF_INET:
        return IPv4Address(data[:4])
    return IPv6Address(data[:16]) if family == socket.AF_INET6 else None


def _u16(kind: int, number: int) -> bytes:
    return encode_attribute(kind, _U16.pack(number))


def _u32(kind: int, number: int) -> bytes:
    return encode_attribute(kind, _U32.pack(number))


def _number(words: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(words.get(kind, b""), sys.byteorder)


def _nested(payload: bytes, kind: int) -> dict[int, bytes]:
    return dict(decode_attributes(dict(decode_attributes(payload[4:])).get(kind, b"")))
