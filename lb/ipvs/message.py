"""Messages of the generic netlink family IPVS, as bytes; pure.

Layout and numbers are the kernel's (include/uapi/linux/ip_vs.h). Netmask and
address family are always said: for IPv6 the kernel has no default that fits.
A table from nothing is tens of thousands of messages, so each is written in one piece.
"""

import socket
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache
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
_U16, _U64, _PORT = (struct.Struct(form) for form in ("=H", "=Q", "!H"))
_FLAGS = struct.Struct("=II")
_FAMILIES = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
_PROTOCOLS = {protocol.number: protocol for protocol in Protocol}

# Of each attribute length, kind and value, padded to four bytes. An address is the kernel's
# union, 16 bytes for both families.
_NESTED = struct.Struct("=HH")
_VIP = struct.Struct("=HHH2x HHH2x HH16s HH2s2x")  # family, protocol, address, port
_FORM = struct.Struct("=HH4s HHII HHI HHI")  # scheduler, flags and their mask, timeout, netmask
_ENDPOINT = "HH16s HH2s2x HHH2x"  # address, port, family
_LOAD = "HHI HHI HHI HHI"  # forwarding, weight, upper and lower limit
# Whole messages: command and version, whose backend, what of it.
_DEL_DEST = struct.Struct(f"=BBH 48s HH {_ENDPOINT}")
_NEW_DEST = struct.Struct(f"=BBH 48s HH {_ENDPOINT} {_LOAD}")


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
    if service is None:
        return _GENL.pack(command, 1, 0) + encode_vip(vip)
    form = _form(service.scheduler, service.affinity_seconds, vip.address.version)
    return _GENL.pack(command, 1, 0) + encode_vip(vip, form)


def encode_vip(vip: Vip, form: bytes = b"") -> bytes:
    """Return the attribute that names a service, for each message about a backend of it."""
    # fmt: off
    return _NESTED.pack(
        _NESTED.size + _VIP.size + len(form), CMD_ATTR_SERVICE | NESTED
    ) + _VIP.pack(
        6, SVC_AF, _FAMILIES[vip.address.version],
        6, SVC_PROTOCOL, vip.protocol.number,
        20, SVC_ADDR, vip.address.packed,
        6, SVC_PORT, _PORT.pack(vip.port),
    ) + form
    # fmt: on


def encode_backend(command: int, whose: bytes, backend: Backend) -> bytes:
    """Return a message about a backend of the service that `encode_vip` named."""
    # fmt: off
    if command == DEL_DEST:
        return _DEL_DEST.pack(
            DEL_DEST, 1, 0, whose,
            40, CMD_ATTR_DEST | NESTED,
            20, DEST_ADDR, backend.address.packed,
            6, DEST_PORT, _PORT.pack(backend.port),
            6, DEST_FAMILY, _FAMILIES[backend.address.version],
        )
    return _NEW_DEST.pack(
        command, 1, 0, whose,
        72, CMD_ATTR_DEST | NESTED,
        20, DEST_ADDR, backend.address.packed,
        6, DEST_PORT, _PORT.pack(backend.port),
        6, DEST_FAMILY, _FAMILIES[backend.address.version],
        8, DEST_FORWARD, FORWARD_NAT,
        8, DEST_WEIGHT, backend.weight,
        8, DEST_UPPER, 0,
        8, DEST_LOWER, 0,
    )
    # fmt: on


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
        held.flags == flags_of(service.scheduler, service.affinity_seconds)
        and held.netmask == netmask_of(held.vip.address.version)
        and all(destination.is_plain for destination in found)
    ):
        return service
    return Service(backends, is_whole=False, scheduler=scheduler, affinity_seconds=affinity)


def flags_of(scheduler: Scheduler, affinity_seconds: int) -> int:
    """Return the flags that a service is written with."""
    fallback = FALLBACK if scheduler in HASHED else 0
    return fallback | (PERSISTENT if affinity_seconds else 0)


def netmask_of(version: int) -> int:
    """Return what affinity takes for one source: a whole address, as the kernel spells it."""
    return 128 if version == 6 else 0xFFFFFFFF


@lru_cache(maxsize=256)
def _form(scheduler: Scheduler, affinity_seconds: int, version: int) -> bytes:
    """Return the attributes that say of which form a service is."""
    name = scheduler.encode() + b"\0"
    # fmt: off
    return _FORM.pack(
        4 + len(name), SVC_SCHED, name,
        12, SVC_FLAGS, flags_of(scheduler, affinity_seconds), CHOSEN_FLAGS,
        8, SVC_TIMEOUT, affinity_seconds,
        8, SVC_NETMASK, netmask_of(version),
    )
    # fmt: on


def _counters(stats: dict[int, bytes]) -> tuple[int, int, int]:
    """Return connections, bytes in and bytes out of 64-bit statistics."""
    kinds = (STATS_CONNECTIONS, STATS_IN_BYTES, STATS_OUT_BYTES)
    found = [int(_U64.unpack(stats[kind])[0]) if kind in stats else 0 for kind in kinds]
    return found[0], found[1], found[2]


def _read_address(family: int, data: bytes) -> IPAddress | None:
    if family == socket.AF_INET:
        return IPv4Address(data[:4])
    return IPv6Address(data[:16]) if family == socket.AF_INET6 else None


def _number(words: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(words.get(kind, b""), sys.byteorder)


def _nested(payload: bytes, kind: int) -> dict[int, bytes]:
    return dict(decode_attributes(dict(decode_attributes(payload[4:])).get(kind, b"")))
