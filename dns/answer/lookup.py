"""From a name and a type to the records that answer (RFC 1034 §4.3.2, 2308, 8482)."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from phalanx.dns.answer.query import Rcode
from phalanx.dns.answer.reply import Body
from phalanx.dns.answer.wire import (
    HEADER_BYTES,
    POINTER,
    compressed,
    encode_record,
    minimal_any,
)
from phalanx.dns.zones.desired import Zones
from phalanx.dns.zones.record import Rdata, RecordType, Srv
from phalanx.dns.zones.settings import ZoneSettings
from phalanx.dns.zones.zone import RRsets, Zone

MAX_TARGETS = 200  # whose addresses a service brings; a client asks for those of the rest

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


@dataclass(frozen=True, slots=True)
class Found:
    """What answers a question, and the names whose change would change it."""

    rcode: Rcode
    body: Body
    names: tuple[str, ...]
    has_soa: bool  # so the next serial changes it, too


def lookup(
    name: str, type_: int, question: bytes, place: Place, zones: Zones, settings: ZoneSettings
) -> Found | None:
    """Return the records for a question; None while its zone is not known.

    *question* is its name as bytes, in lower case.
    """
    zone = zones[place.apex]
    if zone is None:
        return None
    if settings.is_compat and place.apex == settings.apex:
        return _lookup_compat(name, type_, question, place, zone, zones, settings)
    owner = place.canonical(name)
    rrsets = zone.names.get(owner)
    if rrsets is None or type_ == RecordType.ANY:
        if rrsets is not None:
            return Found(Rcode.NOERROR, Body((minimal_any(settings.ttl_seconds),)), (owner,), False)
        return Found(Rcode.NXDOMAIN, _negative(question, place, zone, settings), (owner,), True)
    found = _of_type(rrsets, type_)
    if not found:
        return Found(Rcode.NOERROR, _negative(question, place, zone, settings), (owner,), True)
    return _positive(owner, type_, found, question, zones, settings)


def _lookup_compat(
    name: str,
    type_: int,
    question: bytes,
    place: Place,
    zone: Zone,
    zones: Zones,
    settings: ZoneSettings,
) -> Found:
    """Return what Mesos-DNS would say where that differs from the RFCs (reference dns §1.5).

    A label ``*`` is passed over. SOA and NS are in the authority section at
    any name. A denial's SOA is owned by the name itself, a service that is not
    there has no SOA, and ANY gets all there is.
    """
    owner = place.canonical(name).replace("*.", "")
    rrsets = zone.names.get(owner)
    ttl = settings.ttl_seconds
    soa = encode_record(_OWNER, RecordType.SOA, zone.soa, ttl)
    ns = tuple(encode_record(_OWNER, RecordType.NS, name, ttl) for name in zone.name_servers)
    if type_ == RecordType.SOA:
        return Found(Rcode.NOERROR, Body((), (soa,)), (owner,), True)
    if type_ == RecordType.NS:
        return Found(Rcode.NOERROR, Body((), ns), (owner,), True)
    known = {each: data for each, data in (rrsets or {}).items() if each in _COMPAT_TYPES}
    if type_ == RecordType.ANY and known:
        answers = tuple(
            encode_record(_OWNER, each, item, ttl) for each in known for item in known[each]
        )
        return Found(Rcode.NOERROR, Body(answers, (soa, *ns)), (owner,), True)
    found = _of_type(known, type_)
    if found:
        return _positive(owner, type_, found, question, zones, settings)
    if type_ == RecordType.SRV:
        return Found(Rcode.NOERROR, Body(), (owner,), True)
    return Found(Rcode.NOERROR if known else Rcode.NXDOMAIN, Body((), (soa,)), (owner,), True)


_COMPAT_TYPES = (RecordType.SRV, RecordType.A, RecordType.AAAA, RecordType.PTR)


def _of_type(rrsets: RRsets, type_: int) -> tuple[Rdata, ...]:
    known = _KNOWN_TYPES.get(type_)
    return () if known is None else rrsets.get(known, ())


_KNOWN_TYPES = {int(each): each for each in RecordType}


def _positive(
    owner: str,
    type_: int,
    found: tuple[Rdata, ...],
    question: bytes,
    zones: Zones,
    settings: ZoneSettings,
) -> Found:
    ttl = settings.ttl_seconds
    answers = tuple(encode_record(_OWNER, type_, data, ttl) for data in found)
    targets = sorted({data.target for data in found if isinstance(data, Srv)})
    additional = tuple(
        encode_record(compressed(target, question), family, address, ttl)
        for target in targets[:MAX_TARGETS]
        for family, address in _addresses_of(target, zones)
    )
    body = Body(answers, (), additional)
    return Found(Rcode.NOERROR, body, (owner, *targets), type_ == RecordType.SOA)


def _negative(question: bytes, place: Place, zone: Zone, settings: ZoneSettings) -> Body:
    owner = compressed(place.asked_apex, question)
    ttl = settings.negative_ttl_seconds
    return Body((), (encode_record(owner, RecordType.SOA, zone.soa, ttl),))


def _addresses_of(name: str, zones: Zones) -> Iterator[tuple[RecordType, Rdata]]:
    rrsets = _rrsets_of(name, zones)
    for type_ in (RecordType.A, RecordType.AAAA):
        for address in rrsets.get(type_, ()):
            yield type_, address


def _rrsets_of(name: str, zones: Zones) -> RRsets:
    place = place_of(name, zones, {})
    zone = zones[place.apex] if place else None
    return zone.names.get(name, {}) if zone else {}
