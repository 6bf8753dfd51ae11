"""Services in the kernel's IPVS, and the table that goes with them."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import TypeVar

import msgspec
import structlog

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs import kernel
from phalanx.lb.ipvs.known import Known
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
from phalanx.lb.ipvs.signs import Signs
from phalanx.lb.service import Endpoint, Service, Vip
from phalanx.net.model.lease import VIP_POOL, VIP_POOL6
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.element import RULES, Element, parse_elements
from phalanx.net.nft.library import Nft
from phalanx.net.nft.set_table import KernelSetTable

log = structlog.get_logger()

T = TypeVar("T")

FEW = 64  # changes before which only what they are about is read back, in two questions each


class Found(msgspec.Struct, frozen=True):
    """What the kernel holds of ours."""

    held: Mapping[Vip, Service]  # in IPVS
    services: Mapping[Vip, Service]  # what they make together with the table
    marks: Set[Element]  # the table's elements
    is_sound: bool  # rules and settings are as we want them


class IpvsServices:
    """A Dataplane of the services in one network namespace, that of *nft*.

    Ours is what lies in *pool* and *pool6*, and what our table claims. *node* lends its
    address to clients from outside whose backend is elsewhere. A removed
    backend's connections end at once; a drained one's go on.

    `read` looks at everything. A change after it looks at the services that it
    is about and at nothing else, as long as nobody else changed the table, and
    IPVS has as many services as it should. What it does not find as it was left
    makes the next pass read everything.
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
        self._signs: Signs | None = None
        self._known: Known | None = None  # None when all is to be read

    async def read(self) -> Mapping[Vip, Service]:
        """Return the services; none of them is whole when table or settings are not as we want."""
        await self._settle()
        found = await self._look()
        if all(each.is_whole for each in found.services.values()):
            self._know(found)
        return found.services

    def is_known(self) -> bool:
        """Tell whether the kernel is taken to hold what was read or written last."""
        if self._signs is None or (self._known is not None and not self._signs.are_quiet()):
            self._known = None
        return self._known is not None

    async def apply(self, change: Delta[Vip, Service]) -> None:
        """Claim, change IPVS, then refuse what has no backend; connections of the others go on.

        A refused VIP does not hold up the others. What a change is about is read
        back before it: the read that it follows from may be long ago.
        """
        touched = change.removals | change.upserts.keys()
        if len(touched) <= FEW and self.is_known():
            await self._follow(change)
            return
        await self._settle()
        found = await self._look(touched if len(touched) <= FEW else None)
        if not change.upserts and not found.services:
            return
        wanted = elements_after(found.marks, change, self._pools)
        claims = {each for each in wanted if not each.set_name.startswith(REFUSED)}
        self._claimed |= vips_of(claims, CLAIMED)
        await self._correct(claims, is_removing=False)
        refusals = await self._change(change, found.held)
        await self._correct(wanted, is_removing=not refusals)
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)
        self._claimed = frozenset(vips_of(wanted, CLAIMED))
        untouched = found.services.keys() - touched
        if len(touched) > FEW and all(found.services[vip].is_whole for vip in untouched):
            await self._settle()
            held = {vip: each for vip, each in found.held.items() if vip not in change.removals}
            held |= change.upserts
            is_sound = RULES in await self._table.read()
            self._know(Found(held, held, await self._list(), is_sound))

    def close(self) -> None:
        """Stop watching; the services stay and go on balancing."""
        if self._signs is not None:
            self._signs.close()
            self._signs = None

    async def _follow(self, change: Delta[Vip, Service]) -> None:
        """Apply *change* to what is known, with a look at nothing but what it is about."""
        known, signs = self._known, self._signs
        assert known is not None
        assert signs is not None
        self._known = None
        touched = change.removals | change.upserts.keys()
        held = await self._held(partial(kernel.find, touched), self._claimed)
        is_as_left = held == {vip: each for vip in touched if (each := known.services.get(vip))}
        marks = known.marked_by(change)
        refused = {each: None for each in marks.upserts if each.set_name.startswith(REFUSED)}
        claims = {each: None for each in marks.upserts if each not in refused}
        self._claimed |= vips_of(claims, CLAIMED)
        if claims:
            await self._table.apply(Delta(claims, frozenset()))
        refusals = await self._change(change, held)
        late = Delta(refused, marks.removals if not refusals else frozenset())
        if late:
            await self._table.apply(late)
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)
        self._claimed -= vips_of(marks.removals, CLAIMED)
        signs.expect(known.growth(change))
        known.follow(change)
        if is_as_left and signs.are_quiet(has_written=bool(claims or late)):
            self._known = known

    async def _settle(self) -> None:
        """Forget what is known: all that is told from now on is news."""
        self._known = None
        try:
            if self._signs is None:
                self._signs = await self._nft.open(Signs)
            self._signs.settle()
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error

    def _know(self, found: Found) -> None:
        """Take what was found for what there is, if it is all our own work."""
        known = Known(found.held, self._pools)
        if found.is_sound and _ours(found.marks) == known.marks:
            self._known = known
            self._claimed = frozenset(vips_of(found.marks, CLAIMED))

    async def _change(
        self, change: Delta[Vip, Service], held: Mapping[Vip, Service]
    ) -> Sequence[str]:
        """Make of what is *held* what *change* wants; return what was refused."""
        changes: list[kernel.Change] = [
            *((vip, held.get(vip), None) for vip in change.removals),
            *((vip, held.get(vip), new) for vip, new in change.upserts.items()),
        ]
        try:
            refusals = await self._nft.open(lambda: kernel.change(changes))
            await self._nft.open(kernel.set_settings)
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error
        await self._flows.forget_all(
            [
                (vip, endpoint)
                for vip, before, new in changes
                if vip.protocol is Protocol.UDP
                for endpoint in _endpoints(before) - _endpoints(new)
            ]
        )
        return refusals

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
        self._claimed, self._known = frozenset(), None
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
        held = await self._held(question, claimed)
        settings = await self._ask(kernel.settings)
        is_sound &= all(kernel.SETTINGS[name] == value for name, value in settings.items())
        marked = claimed | refused if about is None else (claimed | refused) & about
        services = dict.fromkeys(marked, Service(is_whole=False))
        for vip, service in held.items():
            is_marked = elements({vip: service}, self._pools) <= present
            is_marked &= (vip in refused) == service.is_refused
            is_whole = is_sound and service.is_whole and is_marked
            services[vip] = msgspec.structs.replace(service, is_whole=is_whole)
        return Found(held, services, present, is_sound)

    async def _held(
        self, question: Callable[[], Mapping[Vip, kernel.Kept]], claimed: Set[Vip]
    ) -> dict[Vip, Service]:
        """Return the services of IPVS that are ours."""
        return {
            vip: service_of(each.held, each.destinations)
            for vip, each in (await self._ask(question)).items()
            if self._is_ours(vip, claimed)
        }

    async def _correct(self, wanted: set[Element], *, is_removing: bool) -> None:
        """Bring the table's elements to *wanted*, or at least add those."""
        there = await self._table.read()
        ours = dict.fromkeys(_ours(there))
        kept: set[Element] = set() if is_removing else _ours(await self._list())
        if change := delta(dict.fromkeys(wanted | kept | {RULES}), ours):
            await self._table.apply(change)

    async def _list(self) -> set[Element]:
        listing = await self._nft.read(f"list table inet {NAME}", table=self.name)
        return parse_elements(listing)

    async def _ask(self, question: Callable[[], T]) -> T:
        try:
            return await self._nft.open(question)
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error

    def _is_ours(self, vip: Vip, claimed: Set[Vip]) -> bool:
        return is_in(vip, self._pools) or vip in claimed


def _ours(marks: Iterable[Element]) -> set[Element]:
    """Return the elements but those that the packet path writes."""
    return {each for each in marks if each.set_name != SAME_LINK}


def _endpoints(service: Service | None) -> set[Endpoint]:
    return set() if service is None else {each.endpoint for each in service.backends}
