"""From a name and a type to the records that answer (RFC 1034 §4.3.2, 2308, 8482)."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from phalanx.dns.answer.query import Rcode
from phalanx.dns.answer.reply import Body
from phalanx.dns.answer.wire import (
    HEADER_BYTES,
    MINIMAL_ANY,
    POINTER,
    compressed,
    encode_record,
)
from phalanx.dns.zones.desired import Zones
from phalanx.dns.zones.record import NEGATIVE_TTL_SECONDS, RecordType, Srv
from phalanx.dns.zones.zone import RRsets, Zone

_OWNER = struct.pack("!H", POINTER | HEADER_BYTES)  # the question's own name


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name lies: the apex as it was asked for, and the zone that this stands for."""

    asked_apex: str
    apex: str

    def canonical(self, name: str) -> str:
        """Return *name* as the zone itself has it."""
        return name[: len(name) - len(self.asked_apex)] + self.apex


def place_of(name: str, zones: Zones, aliases: Mapping[str, str]) -> Place | None:
    """Return the deepest zone that *name* lies in, or None when it is none of ours."""
    suffix = name
    while suffix:
        if suffix in aliases:
            return Place(suffix, aliases[suffix])
        if suffix in zones:
            return Place(suffix, suffix)
        suffix = suffix.partition(".")[2]
    return None


def lookup(
    name: str, type_: int, question: bytes, place: Place, zone: Zone, zones: Zones
) -> tuple[Rcode, Body]:
    """Return the records for a question in *zone*; *question* is its name as bytes, lower case."""
    rrsets = zone.names.get(place.canonical(name))
    if rrsets is None:
        return Rcode.NXDOMAIN, _negative(question, place, zone)
    if type_ == RecordType.ANY:
        return Rcode.NOERROR, Body((MINIMAL_ANY,))
    found = rrsets.get(RecordType(type_)) if type_ in RecordType.__members__.values() else None
    if not found:
        return Rcode.NOERROR, _negative(question, place, zone)
    answers = tuple(encode_record(_OWNER, type_, data) for data in found)
    targets = sorted({data.target for data in found if isinstance(data, Srv)})
    additional = tuple(
        encode_record(compressed(target, question), RecordType.A, address)
        for target in targets
        for address in _rrsets_of(target, zones).get(RecordType.A, ())
    )
    return Rcode.NOERROR, Body(answers, (), additional)


def _negative(question: bytes, place: Place, zone: Zone) -> Body:
    owner = compressed(place.asked_apex, question)
    return Body((), (encode_record(owner, RecordType.SOA, zone.soa, ttl=NEGATIVE_TTL_SECONDS),))


def _rrsets_of(name: str, zones: Zones) -> RRsets:
    place = place_of(name, zones, {})
    zone = zones[place.apex] if place else None
    return zone.names.get(name, {}) if zone else {}
