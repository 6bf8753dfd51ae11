"""All zones of a node: those that follow the View, and those that need none."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from phalanx.dns.zones.dcos import APEX as DCOS
from phalanx.dns.zones.dcos import ZK
from phalanx.dns.zones.index import NameIndex
from phalanx.dns.zones.ledger import L4LB, HeldVips, Ledger
from phalanx.dns.zones.record import Record, RecordType, address_record
from phalanx.dns.zones.settings import ZoneSettings
from phalanx.dns.zones.zone import RRsets, Zone, build_zone
from phalanx.net.model.view import View

THIS_NODE = "thisnode.thisdcos.directory."
SPARTAN = "spartan."
LOCALHOST = "localhost."
DIRECTORY = "thisdcos.directory."
GLOBAL = "thisdcos.global."
LOOPBACK = IPv4Address("127.0.0.1")
LOOPBACK6 = IPv6Address("::1")

Zones = Mapping[str, Zone | None]  # by apex; None: ours, but no View has come yet


class _Names(Mapping[str, RRsets]):
    """One zone of a ledger as a mapping; the records at a name are drawn when asked for."""

    def __init__(self, ledger: Ledger, apex: str) -> None:
        self._ledger = ledger
        self._index: NameIndex[object] = ledger.indexes[apex]  # type: ignore[assignment]  # only names are read here
        self._apex = apex

    def __getitem__(self, name: str) -> RRsets:
        if name not in self:
            raise KeyError(name)
        return self._ledger.rrsets(self._ledger.indexes[self._apex], name)

    def __contains__(self, name: object) -> bool:
        return name in self._index or name == self._apex

    def __iter__(self) -> Iterator[str]:
        yield from self._index
        if self._apex not in self._index:
            yield self._apex

    def __len__(self) -> int:
        return len(self._index) + (self._apex not in self._index)


def zones_of(ledger: Ledger) -> Zones:
    """Return the ledger's zones; they change with it."""
    return {apex: Zone(apex, _Names(ledger, apex)) for apex in ledger.indexes}


def desired_zones(
    view: View,
    *,
    settings: ZoneSettings,
    held: HeldVips | None = None,
    serial: int = 1,
    servers: Sequence[IPv4Address] = (),
) -> Zones:
    """Return the zones that follow the View, made from nothing."""
    ledger = Ledger(settings, servers, serial)
    ledger.follow(view, held)
    return zones_of(ledger)


def static_zones(*, node: IPv4Address, servers: Sequence[IPv4Address], serial: int) -> Zones:
    """Return the zones that need no View; unknown names below ours end here, not upstream."""
    records = {
        SPARTAN: [
            Record(f"ready.{SPARTAN}", RecordType.A, LOOPBACK),
            *(Record(f"ns.{SPARTAN}", RecordType.A, address) for address in servers),
        ],
        LOCALHOST: [address_record(LOCALHOST, each) for each in (LOOPBACK, LOOPBACK6)],
        THIS_NODE: [Record(THIS_NODE, RecordType.A, node)],
        DIRECTORY: [],
        GLOBAL: [],
    }
    return {apex: build_zone(apex, found, serial=serial) for apex, found in records.items()}


def unknown_zones(settings: ZoneSettings) -> Zones:
    """Return the zones that are ours while no View has come."""
    return dict.fromkeys((settings.apex, DCOS, L4LB, ZK))


def zone_aliases(domain: str) -> Mapping[str, str]:
    """Return other names of our zones, as DC/OS has them, to the apex that each stands for."""
    return {
        "dcos.thisdcos.global.": DCOS,
        "l4lb.thisdcos.global.": L4LB,
        "dclb.thisdcos.directory.": L4LB,
        "dclb.thisdcos.global.": L4LB,
        "thisnode.thisdcos.global.": THIS_NODE,
        "mesos.thisdcos.directory.": f"{domain}.",
        "mesos.thisdcos.global.": f"{domain}.",
    }
