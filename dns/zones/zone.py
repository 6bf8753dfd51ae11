"""One zone: its records grouped by name and type."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from phalanx.dns.zones.record import Rdata, Record, RecordType, Soa, Srv, is_encodable

NAME_SERVER = "ns.spartan."
RESPONSIBLE = "hostmaster.ns.spartan."

RRsets = Mapping[RecordType, tuple[Rdata, ...]]


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone's RRsets by name; a name that only has names below it is there without RRsets."""

    apex: str
    names: Mapping[str, RRsets]

    @property
    def soa(self) -> Soa:
        """Return the record that starts the zone."""
        soa = self.names[self.apex][RecordType.SOA][0]
        assert isinstance(soa, Soa)
        return soa

    @property
    def name_servers(self) -> tuple[str, ...]:
        """Return the names of the zone's servers."""
        return tuple(str(data) for data in self.names[self.apex][RecordType.NS])

    def records(self) -> Iterable[Record]:
        """Return every record, by name."""
        for name in sorted(self.names):
            for type_, rrset in sorted(self.names[name].items()):
                for data in rrset:
                    yield Record(name, type_, data)


def build_zone(apex: str, records: Iterable[Record], *, serial: int) -> Zone:
    """Group *records* into a zone with SOA and NS.

    What can't be encoded or does not lie in the zone is left out; records
    that say the same are one. The order of *records* makes no difference.
    """
    grouped: dict[str, dict[RecordType, set[Rdata]]] = {}
    tail = f".{apex}"
    for name, type_, data in records:
        found = grouped.get(name)
        if found is None:
            if not is_encodable(name) or not (name == apex or name.endswith(tail)):
                continue
            found = grouped[name] = {}
        if isinstance(data, Srv) and not is_encodable(data.target):
            continue
        found.setdefault(type_, set()).add(data)
    names: dict[str, RRsets] = {
        name: {type_: ordered(rrset) for type_, rrset in found.items()}
        for name, found in grouped.items()
    }
    names[apex] = {**names.get(apex, {}), **zone_start(serial)}
    _add_empty_non_terminals(names, apex)
    return Zone(apex, names)


def zone_start(serial: int) -> RRsets:
    """Return what is at every apex."""
    return {
        RecordType.NS: (NAME_SERVER,),
        RecordType.SOA: (Soa(NAME_SERVER, RESPONSIBLE, serial),),
    }


def ordered(rrset: set[Rdata]) -> tuple[Rdata, ...]:
    """Return one RRset in the order that follows from its data alone."""
    return tuple(rrset) if len(rrset) == 1 else tuple(sorted(rrset, key=_order))


def _order(data: Rdata) -> tuple[str, int]:
    """Return what sorts the RRset of any one type."""
    if isinstance(data, Srv):
        return data.target, data.port
    if isinstance(data, IPv4Address | IPv6Address):
        return "", int(data)
    return str(data), 0


def _add_empty_non_terminals(names: dict[str, RRsets], apex: str) -> None:
    for name in list(names):
        parent = name
        while parent != apex:
            parent = parent[parent.index(".") + 1 :]
            if parent in names:
                break
            names[parent] = {}
