"""Services in the kernel: one nftables table, read back whole, changed by elements."""

from collections.abc import Mapping
from ipaddress import IPv4Network

import msgspec
import structlog

from phalanx.core.reconcile.delta import Delta
from phalanx.lb.exec import Flows
from phalanx.lb.nftables.entry import EMPTY, Entry, compile_entry, endpoints_of, service_of
from phalanx.lb.nftables.listing import STRUCTURE, TEXT, parse_listing
from phalanx.lb.nftables.ruleset import (
    TABLE,
    render_ruleset,
    structure_fingerprint,
    text_fingerprint,
)
from phalanx.lb.nftables.script import Change, render_batches
from phalanx.lb.service import Service, Vip
from phalanx.net.model.lease import VIP_POOL
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.library import Nft

log = structlog.get_logger()


class Held(msgspec.Struct, frozen=True):
    """What the kernel holds of ours."""

    entries: Mapping[Vip, Entry]
    is_sound: bool  # chains and rules are those that we wrote


class NftablesServices:
    """A Dataplane of the services in one network namespace.

    Addresses of *pool* are refused at once where no service answers for them.
    """

    name = "services"

    def __init__(
        self, nft: Nft, *, pool: IPv4Network = VIP_POOL, flows: Flows | None = None
    ) -> None:
        self._nft = nft
        self._flows = flows or Flows()
        self._ruleset = render_ruleset(pool)
        self._held: Held | None = None

    async def read(self) -> Mapping[Vip, Service]:
        """List the table; when its rules are not ours, no service in it is whole."""
        self._held = held = await self._list()
        services = {vip: service_of(entry) for vip, entry in held.entries.items()}
        if held.is_sound:
            return services
        return {vip: Service(each.backends, is_whole=False) for vip, each in services.items()}

    async def apply(self, change: Delta[Vip, Service]) -> None:
        """Change the elements of these VIPs; make the whole table anew when its rules are not ours.

        Each VIP changes at once. Flows that are tracked go on, but UDP flows to
        a backend that has left are forgotten.
        """
        held, self._held = self._held or await self._list(), None
        changes = [
            Change(vip, held.entries.get(vip, EMPTY), EMPTY)
            for vip in change.removals
            if vip in held.entries
        ]
        for vip, service in change.upserts.items():
            before = held.entries.get(vip, EMPTY)
            changes.append(Change(vip, before, compile_entry(service, before)))
        if held.is_sound:
            for script in render_batches(changes):
                await self._nft.run(script, table=self.name)
        else:
            await self._rebuild(held, changes)
        await self._forget(changes)

    async def _list(self) -> Held:
        listing = await self._nft.read(f"list table {TABLE}", table=self.name)
        if not listing:
            return Held({}, is_sound=False)
        held = parse_listing(listing)
        is_sound = held.fingerprint == {
            TEXT: text_fingerprint(self._ruleset),
            STRUCTURE: structure_fingerprint(listing),
        }
        return Held(held.entries, is_sound=is_sound)

    async def _rebuild(self, held: Held, changes: list[Change]) -> None:
        """Replace the table; services that are not in *changes* stay as they were."""
        entries = {
            vip: compile_entry(service_of(entry), entry) for vip, entry in held.entries.items()
        } | {change.vip: change.after for change in changes}
        fresh = [Change(vip, EMPTY, entry) for vip, entry in entries.items()]
        script, *more = render_batches(fresh)
        await self._nft.run(self._ruleset + script, table=self.name)
        for script in more:
            await self._nft.run(script, table=self.name)
        # The marks are last: a table that was left half made is made again.
        listing = await self._nft.read(f"list table {TABLE}", table=self.name)
        marks = f"{TEXT} : {text_fingerprint(self._ruleset)}"
        marks += f", {STRUCTURE} : {structure_fingerprint(listing)}"
        await self._nft.run(f"add element {TABLE} fingerprint {{ {marks} }}", table=self.name)
        log.info("table_made", table=TABLE, services=len(entries))

    async def _forget(self, changes: list[Change]) -> None:
        for change in changes:
            if change.vip.protocol is Protocol.UDP:
                for endpoint in endpoints_of(change.before) - endpoints_of(change.after):
                    await self._flows.forget(change.vip, endpoint)
