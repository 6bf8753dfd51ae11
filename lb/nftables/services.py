"""Services in the kernel: one nftables table, read back whole, changed by elements."""

import asyncio
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import msgspec
import structlog

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.lb.exec import Flows
from phalanx.lb.nftables.entry import EMPTY, Entry, compile_entry, endpoints_of, service_of
from phalanx.lb.nftables.listing import SETS, STRUCTURE, TEXT, parse_elements
from phalanx.lb.nftables.ruleset import (
    NAME,
    TABLE,
    render_ruleset,
    text_fingerprint,
)
from phalanx.lb.nftables.script import Change, render_batches
from phalanx.lb.service import Service, Vip
from phalanx.net.model.lease import VIP_POOL, VIP_POOL6
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.dump import Raw, dump_elements
from phalanx.net.nft.library import Nft
from phalanx.net.nft.structure import read_structure
from phalanx.net.nft.watch import LOST, TableWatch

log = structlog.get_logger()

MANY = 100  # services that change at once: a thread compiles them, else names would wait for that


class Held(msgspec.Struct, frozen=True):
    """What the kernel holds of ours; the mappings follow our own changes."""

    entries: dict[Vip, Entry]
    services: dict[Vip, Service]
    is_sound: bool  # chains and rules are those that we wrote


class NftablesServices:
    """A Dataplane of the services in one network namespace.

    *node* lends its address to clients from outside whose backend is elsewhere.
    Addresses of *pool* and *pool6* are refused at once where no service answers for them.
    The table is listed when the kernel has notified of any change that was not
    ours; otherwise the last listing with our changes on top is the truth.
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
        self._ruleset = render_ruleset(pool, pool6, node)
        self._watch: TableWatch | None = None
        self._held: Held | None = None  # None when it is to be listed
        # Whether somebody may have died amid a change, before its flows were forgotten.
        self._has_strays = True

    async def read(self) -> Mapping[Vip, Service]:
        """Return the services; when the table's rules are not ours, none of them is whole."""
        return dict((await self._current()).services)

    def is_known(self) -> bool:
        """Tell whether the table is known to hold what was read or written last."""
        if self._watch is not None and self._watch.writers():
            self._held = None
        return self._held is not None

    async def apply(self, change: Delta[Vip, Service]) -> None:
        """Change the elements of these VIPs; make the whole table anew when its rules are not ours.

        Each VIP changes at once. Flows that are tracked go on, but UDP flows to
        a backend that has left are forgotten.
        """
        held = await self._current()
        if len(change.upserts) > MANY:
            changes = await asyncio.to_thread(_changes, held, change)
        else:
            changes = _changes(held, change)
        self._has_strays = True
        if held.is_sound:
            await self._change(held, changes, change.upserts)
        else:
            await self._rebuild(held, changes)
        await self._forget(changes)
        self._has_strays = not held.is_sound  # what that table knew was not to be trusted

    def close(self) -> None:
        """Stop watching; the table stays and goes on balancing."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def _current(self) -> Held:
        if self._watch is None:
            try:
                self._watch = await self._nft.open(lambda: TableWatch(NAME))
            except OSError as error:
                raise DataplaneError(str(error), table=self.name, errno=error.errno) from error
        if not self.is_known():  # and stays so if the kernel refuses to tell
            self._held = await self._list()
        assert self._held is not None
        if self._has_strays and self._held.is_sound:
            backends = {
                vip: endpoints_of(entry)
                for vip, entry in self._held.entries.items()
                if vip.protocol is Protocol.UDP
            }
            await self._flows.forget_strays(backends, self._pools)
            self._has_strays = False
        return self._held

    async def _list(self) -> Held:
        structure = await self._structure()
        elements = await self._dump() if structure is not None else None
        if elements is None:
            return Held({}, {}, is_sound=False)
        fingerprint = {TEXT: text_fingerprint(self._ruleset), STRUCTURE: structure}
        try:
            return await asyncio.to_thread(_held, elements, fingerprint)
        except ValueError as error:  # somebody else's, in our sets: they are made anew
            log.warning("elements_not_ours", table=TABLE, error=str(error))
            return Held({}, {}, is_sound=False)

    async def _structure(self) -> int | None:
        try:
            return await self._nft.open(lambda: read_structure(NAME))
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error

    async def _dump(self) -> dict[str, list[Raw]] | None:
        try:
            return await self._nft.open(lambda: dump_elements(NAME, SETS))
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error

    async def _change(
        self, held: Held, changes: Sequence[Change], upserts: Mapping[Vip, Service]
    ) -> None:
        """Run the changes; what is held afterwards is known if nobody else's came between."""
        assert self._watch is not None
        self._held = None
        earlier = self._watch.writers()
        if len(changes) > MANY:
            scripts = await asyncio.to_thread(lambda: tuple(render_batches(changes)))
        else:
            scripts = tuple(render_batches(changes))
        for script in scripts:
            await self._nft.run(script, table=self.name)
        writers = self._watch.writers()
        if earlier or LOST in writers or len(writers) != (1 if scripts else 0):
            return
        for change in changes:
            if change.vip in upserts:
                held.entries[change.vip] = change.after
                held.services[change.vip] = upserts[change.vip]
            else:
                del held.entries[change.vip], held.services[change.vip]
        self._held = held

    async def _rebuild(self, held: Held, changes: Sequence[Change]) -> None:
        """Replace the table; services that are not in *changes* stay as they were."""
        self._held = None
        count, (first, *more) = await asyncio.to_thread(_whole, held, changes)
        await self._nft.run(self._ruleset + first, table=self.name)
        for script in more:
            await self._nft.run(script, table=self.name)
        # The fingerprint is last: a table that was left half made is made again.
        prints = f"{TEXT} : {text_fingerprint(self._ruleset)}"
        prints += f", {STRUCTURE} : {await self._structure() or 0}"
        await self._nft.run(f"add element {TABLE} fingerprint {{ {prints} }}", table=self.name)
        log.info(
            "table_made",
            table=TABLE,
            services=count,
        )

    async def _forget(self, changes: Sequence[Change]) -> None:
        await self._flows.forget_all(
            [
                (change.vip, endpoint)
                for change in changes
                if change.vip.protocol is Protocol.UDP
                for endpoint in endpoints_of(change.before) - endpoints_of(change.after)
            ]
        )


def _held(elements: Mapping[str, Sequence[Raw]], fingerprint: Mapping[int, int | None]) -> Held:
    """Return what *elements* of our sets say; raise ValueError when some can't be ours.

    Chains and rules are ours if the table's fingerprint is *fingerprint*.
    """
    found = parse_elements(elements)
    is_sound = found.fingerprint == fingerprint
    services = {vip: service_of(entry) for vip, entry in found.entries.items()}
    if not is_sound:
        services = {vip: Service(each.backends, is_whole=False) for vip, each in services.items()}
    return Held(dict(found.entries), services, is_sound=is_sound)


def _changes(held: Held, change: Delta[Vip, Service]) -> Sequence[Change]:
    """Return what *change* makes of the entries that are held."""
    changes = [
        Change(vip, held.entries.get(vip, EMPTY), EMPTY)
        for vip in change.removals
        if vip in held.entries
    ]
    for vip, service in change.upserts.items():
        before = held.entries.get(vip, EMPTY)
        changes.append(Change(vip, before, compile_entry(service, before)))
    return changes


def _whole(held: Held, changes: Sequence[Change]) -> tuple[int, Sequence[str]]:
    """Return how many services *changes* lead to, and the scripts that fill an empty table.

    Services that are not in *changes* stay as they were.
    """
    entries = {
        vip: compile_entry(service_of(entry), entry) for vip, entry in held.entries.items()
    } | {change.vip: change.after for change in changes}
    fresh = [Change(vip, EMPTY, entry) for vip, entry in entries.items()]
    return len(entries), list(render_batches(fresh)) or [""]
