"""Read the elements of the table's sets back into entries; pure."""

import struct
import sys
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

import msgspec

from phalanx.lb.nftables.entry import Entry
from phalanx.lb.nftables.ruleset import FAMILIES, Family
from phalanx.lb.service import Endpoint, IPAddress, Vip
from phalanx.lb.slots import LENGTHS
from phalanx.net.model.objects import Protocol

TEXT, STRUCTURE = 1, 2  # keys of the fingerprint map
FINGERPRINT = "fingerprint"
KINDS = ("slots", "weights", "options", "hashed", "refused")
SETS = (
    FINGERPRINT,
    *(family.named(kind) for family in FAMILIES for kind in KINDS),
    *(family.set_of(length) for family in FAMILIES for length in LENGTHS),
)

# Each field of a concatenation is padded to four bytes: a protocol is one byte, a port two.
_PROTOCOL_AND_PORT = struct.Struct("!B3xH2x")
_PORT = struct.Struct("!H2x")
PROTOCOLS = {protocol.number: protocol for protocol in Protocol}

Elements = Mapping[str, Sequence[tuple[bytes, bytes]]]  # key and value, by the set's name


class Listing(msgspec.Struct, frozen=True):
    """What the table holds."""

    entries: Mapping[Vip, Entry]
    fingerprint: Mapping[int, int]  # as it was written when the table was made


class _Draft:
    """An entry in the making."""

    def __init__(self) -> None:
        self.lengths: set[int] = set()
        self.slots: dict[int, Endpoint] = {}
        self.weights: dict[Endpoint, int] = {}
        self.options = 0
        self.is_hashed = False
        self.is_refused = False

    def entry(self) -> Entry:
        return Entry(
            frozenset(self.lengths),
            self.slots,
            self.weights,
            self.options,
            self.is_hashed,
            self.is_refused,
        )


def parse_elements(found: Elements) -> Listing:
    """Return the entries and the fingerprint of the elements of *SETS*.

    Raises ValueError when an element is for a protocol that has no services.
    """
    entries: dict[Vip, Entry] = {}
    for family in FAMILIES:
        for key, draft in _gathered(found, family).items():
            entries[vip_of(key, family)] = draft.entry()
    prints = {_number(key): _number(value) for key, value in found.get(FINGERPRINT, ())}
    return Listing(entries, prints)


def _gathered(found: Elements, family: Family) -> Mapping[bytes, _Draft]:
    """Return drafts by the part of their elements' keys that names the VIP."""
    size = vip_bytes(family)
    drafts: dict[bytes, _Draft] = {}
    endpoints: dict[bytes, Endpoint] = {}

    def of(key: bytes) -> _Draft:
        draft = drafts.get(key[:size])
        if draft is None:
            draft = drafts[key[:size]] = _Draft()
        return draft

    def endpoint(words: bytes) -> Endpoint:
        known = endpoints.get(words)
        if known is None:
            known = endpoints[words] = endpoint_of(words)
        return known

    for length in LENGTHS:
        for key, _ in found.get(family.set_of(length), ()):
            of(key).lengths.add(length)
    for key, value in found.get(family.named("slots"), ()):
        of(key).slots[_number(key[size:])] = endpoint(value)
    for key, value in found.get(family.named("weights"), ()):
        of(key).weights[endpoint(key[size:])] = _number(value)
    for key, value in found.get(family.named("options"), ()):
        of(key).options = _number(value)
    for key, _ in found.get(family.named("hashed"), ()):
        of(key).is_hashed = True
    for key, _ in found.get(family.named("refused"), ()):
        of(key).is_refused = True
    return drafts


def vip_of(key: bytes, family: Family) -> Vip:
    """Return the VIP that a key names; raises ValueError for a protocol that has no services."""
    protocol, port = _PROTOCOL_AND_PORT.unpack(key[-_PROTOCOL_AND_PORT.size :])
    address = key[: -_PROTOCOL_AND_PORT.size]
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol} has no services")
    return Vip(_address(address, family.version), port, PROTOCOLS[protocol])


def vip_bytes(family: Family) -> int:
    """Return how much of a key names the VIP."""
    return (16 if family.version == 6 else 4) + _PROTOCOL_AND_PORT.size


def endpoint_of(words: bytes) -> Endpoint:
    """Return the address and port that the rest of a key, or a value, names."""
    version = 6 if len(words) > 16 else 4
    (port,) = _PORT.unpack(words[-_PORT.size :])
    return Endpoint(_address(words[: -_PORT.size], version), port)


def _address(words: bytes, version: int) -> IPAddress:
    return IPv6Address(words) if version == 6 else IPv4Address(words)


def _number(words: bytes) -> int:
    return int.from_bytes(words, sys.byteorder)
