"""What the kernel holds of ours, kept true by our own changes: nothing is listed for one; pure."""

from collections.abc import Mapping

from phalanx.core.reconcile.delta import Delta
from phalanx.lb.ipvs.layout import (
    CLAIMED,
    REFUSED,
    Pools,
    element,
    elements,
    is_in,
    outside,
)
from phalanx.lb.service import IPAddress, Service, Vip
from phalanx.net.nft.element import Element


class Known:
    """The services in IPVS; the elements of the table follow from them."""

    def __init__(self, services: Mapping[Vip, Service], pools: Pools) -> None:
        self.services = dict(services)
        self._pools = pools
        self._claimed: dict[IPAddress, set[Vip]] = {}
        for vip in services:
            self._claim(vip)

    @property
    def marks(self) -> set[Element]:
        """Return the elements of the table."""
        return elements(self.services, self._pools)

    def growth(self, change: Delta[Vip, Service]) -> int:
        """Return how many services of IPv4 *change* adds, less those that it removes."""
        came = change.upserts.keys() - self.services.keys()
        gone = change.removals & self.services.keys()
        return sum(each.address.version == 4 for each in came) - sum(
            each.address.version == 4 for each in gone
        )

    def marked_by(self, change: Delta[Vip, Service]) -> Delta[Element, None]:
        """Return what *change* does to the elements."""
        upserts: dict[Element, None] = {}
        removals: set[Element] = set()
        came: set[IPAddress] = set()  # addresses outside of the ranges
        for vip, service in change.upserts.items():
            before = self.services.get(vip)
            if before is None and not is_in(vip, self._pools):
                came.add(vip.address)
                upserts[element(CLAIMED, vip)] = None
            was_refused = before is not None and before.is_refused
            if service.is_refused and not was_refused:
                upserts[element(REFUSED, vip)] = None
            elif was_refused and not service.is_refused:
                removals.add(element(REFUSED, vip))
        gone = change.removals & self.services.keys()
        for vip in gone:
            if not is_in(vip, self._pools):
                removals.add(element(CLAIMED, vip))
            if self.services[vip].is_refused:
                removals.add(element(REFUSED, vip))
        upserts.update((outside(each), None) for each in came - self._claimed.keys())
        deserted = {vip.address for vip in gone if self._claimed.get(vip.address, set()) <= gone}
        removals.update(outside(each) for each in (deserted & self._claimed.keys()) - came)
        return Delta(upserts, frozenset(removals))

    def follow(self, change: Delta[Vip, Service]) -> None:
        """Take *change* as made."""
        for vip in change.removals & self.services.keys():
            del self.services[vip]
            claimed = self._claimed.get(vip.address, set())
            claimed.discard(vip)
            if not claimed:
                self._claimed.pop(vip.address, None)
        for vip, service in change.upserts.items():
            self.services[vip] = service
            self._claim(vip)

    def _claim(self, vip: Vip) -> None:
        if not is_in(vip, self._pools):
            self._claimed.setdefault(vip.address, set()).add(vip)
