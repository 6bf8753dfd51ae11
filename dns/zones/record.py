"""Resource records as values; names are absolute, lower case, with the dot."""

import enum
import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

_LABELS = re.compile(r"[^.]{1,63}(?:\.[^.]{1,63})*+\.?", re.DOTALL)

TTL_SECONDS = 5  # of every record of ours: what a client may keep after a change
NEGATIVE_TTL_SECONDS = 1  # of "no such name": a task that has just started is looked for at once


class RecordType(enum.IntEnum):
    """The types of record that our zones hold, and those that a question may name specially."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    HINFO = 13
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    IXFR = 251
    AXFR = 252
    ANY = 255


class Srv(NamedTuple):
    """Where a service listens; every record of ours has the same priority and weight."""

    target: str
    port: int
    priority: int = 0
    weight: int = 1


class Soa(NamedTuple):
    """The start of a zone."""

    mname: str
    rname: str
    serial: int
    refresh_seconds: int = 60
    retry_seconds: int = 60
    expire_seconds: int = 86400
    minimum_seconds: int = NEGATIVE_TTL_SECONDS


Rdata = IPv4Address | IPv6Address | str | Srv | Soa  # of A; AAAA; NS and PTR; SRV; SOA


class Record(NamedTuple):
    """One record of one name; all of a server's have one TTL."""

    name: str
    type: RecordType
    data: Rdata


def is_encodable(name: str) -> bool:
    """Tell whether *name* fits into a message: labels of 1 to 63 bytes, 255 bytes in all."""
    return len(name) <= 254 and name.isascii() and _LABELS.fullmatch(name) is not None


def address_record(name: str, address: IPv4Address | IPv6Address) -> Record:
    """Return the record of *address* at *name*."""
    is_six = isinstance(address, IPv6Address)
    return Record(name, RecordType.AAAA if is_six else RecordType.A, address)
