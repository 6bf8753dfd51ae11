"""Services in the kernel's IPVS, and the table that goes with them."""

from collections.abc import Callable, Mapping, Set
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import msgspec
import structlog

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs import kernel
from phalanx.lb.ipvs.layout import (
    CLAIMED,
    NAME,
    REFUSED,
    SAME_LINK,
    elements,
    elements_after,
    is_in,
    layout_of,
    vips_of,
)
from phalanx.lb.ipvs.message import service_of
from phalanx.lb.service import Service, Vip
from phalanx.net.model.lease import VIP_POOL, VIP_POOL6
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.element import RULES, Element, parse_elements
from phalanx.net.nft.library import Nft
from phalanx.net.nft.set_table import KernelSetTable

log = structlog.get_logger()

FEW = 64  # changes before which only what they are about is read back, in two questions each


class Found(msgspec.Struct, frozen=True):
    """What the kernel holds of ours."""

    held: Mapping[Vip, Service]  # in IPVS
    services: Mapping[Vip, Service]  # what they make together with the table
    marks: Set[Element]  # the table's elements


class IpvsServices:
    """A Dataplane of the services in one network namespace, that of *nft*.

    Ours is what lies in *pool* and *pool6*, and what our table claims. *node* lends its
    address to clients from outside whose backend is elsewhere. A removed
    backend's connections end at once; a drained one's go on.
    """

    name = "services"

    def __init__(
        self,
        nft: Nft,
        *,
        pool: IPv4Network = VIP_POOL,
        pool6: IPv6Network = VIP_POOL6,
        node: IPv4Address | None = None,
        flows: Flows | None = None,
    ) -> None:
        self._nft = nft
        self._flows = flows or Flows()
        self._pools = pool, pool6
        self._table = KernelSetTable(nft, layout_of(self._pools, node))
        self._claimed: frozenset[Vip] = frozenset()  # by us; the table may have been deleted

    async def read(self) -> Mapping[Vip, Service]:
        """Return the services; none of them is whole when table or settings are not as we want."""
        return (await self._look()).services

    async def apply(self, change: Delta[Vip, Service]) -> None:
        """Claim, change IPVS, then refuse what has no backend; connections of the others go on.

        A refused VIP does not hold up the others. What a change is about is read
        back before it: the read that it follows from may be long ago.
        """
        touched = change.removals | change.upserts.keys()
        found = await self._look(touched if len(touched) <= FEW else None)
        if not change.upserts and not found.services:
            return
        wanted = elements_after(found.marks, change, self._pools)
        claims = {each for each in wanted if not each.set_name.startswith(REFUSED)}
        self._claimed |= vips_of(claims, CLAIMED)
        await self._correct(claims, is_removing=False)
        changes = [
            *((vip, found.held.get(vip), None) for vip in change.removals),
            *((vip, found.held.get(vip), new) for vip, new in change.upserts.items()),
        ]
        try:
            refusals = await self._nft.open(lambda: kernel.change(changes))
            await self._nft.open(kernel.set_settings)
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error
        await self._correct(wanted, is_removing=not refusals)
        if not refusals:
            self._claimed = frozenset(vips_of(wanted, CLAIMED))
        for vip, before, new in changes:
            if vip.protocol is Protocol.UDP and before is not None:
                left = {each.endpoint for each in new.backends} if new is not None else set()
                for backend in before.backends:
                    if backend.endpoint not in left:
                        await self._flows.forget(vip, backend.endpoint)
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)

    async def is_there(self) -> bool:
        """Tell whether anything of ours is in the kernel."""
        if await self._list():
            return True
        return bool((await self._look()).held)

    async def clear(self) -> None:
        """Remove everything of ours but settings."""
        found = await self._look()
        try:
            refusals = await self._nft.open(
                lambda: kernel.change((vip, held, None) for vip, held in found.held.items())
            )
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)
        script = f"add table inet {NAME}\ndelete table inet {NAME}\n"
        await self._nft.run(script, table=self.name)
        self._claimed = frozenset()
        log.info("services_left", table=self.name, services=len(found.held))

    async def traffic(self) -> Mapping[Vip, kernel.Kept]:
        """Return our services with the kernel's counters: connections and bytes, both ways."""
        claimed = vips_of(await self._list(), CLAIMED) | self._claimed
        kept = await self._ask(kernel.dump)
        return {vip: each for vip, each in kept.items() if self._is_ours(vip, claimed)}

    async def _look(self, about: Set[Vip] | None = None) -> Found:
        """Read everything back, or what these VIPs are."""
        present = await self._list()
        is_sound = RULES in await self._table.read()
        claimed, refused = vips_of(present, CLAIMED) | self._claimed, vips_of(present, REFUSED)
        question = kernel.listing if about is None else partial(kernel.find, about)
        held = {
            vip: service_of(each.held, each.destinations)
            for vip, each in (await self._ask(question)).items()
            if self._is_ours(vip, claimed)
        }
        settings = await self._nft.open(kernel.settings)
        is_sound &= all(kernel.SETTINGS[name] == value for name, value in settings.items())
        marked = claimed | refused if about is None else (claimed | refused) & about
        services = dict.fromkeys(marked, Service(is_whole=False))
        for vip, service in held.items():
            is_marked = elements({vip: service}, self._pools) <= present
            is_marked &= (vip in refused) == service.is_refused
            is_whole = is_sound and service.is_whole and is_marked
            services[vip] = msgspec.structs.replace(service, is_whole=is_whole)
        return Found(held, services, present)

    async def _correct(self, wanted: set[Element], *, is_removing: bool) -> None:
        """Bring the table's elements to *wanted*, or at least add those."""
        there = await self._table.read()
        ours = {each: None for each in there if each.set_name != SAME_LINK}
        kept: set[Element] = set() if is_removing else await self._list()
        kept = {each for each in kept if each.set_name != SAME_LINK}
        if change := delta(dict.fromkeys(wanted | kept | {RULES}), ours):
            await self._table.apply(change)

    async def _list(self) -> set[Element]:
        listing = await self._nft.read(f"list table inet {NAME}", table=self.name)
        return parse_elements(listing)

    async def _ask(
        self, question: Callable[[], Mapping[Vip, kernel.Kept]]
    ) -> Mapping[Vip, kernel.Kept]:
        try:
            return await self._nft.open(question)
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error

    def _is_ours(self, vip: Vip, claimed: set[Vip]) -> bool:
        return is_in(vip, self._pools) or vip in claimed
