"""The policies of the network registry, each durable first."""

import asyncio
from collections.abc import Callable, Collection, Mapping

import msgspec
import structlog

from phalanx.core.error import NotFoundError
from phalanx.master.carry import carried_through
from phalanx.master.event import Bus, NetworkChanged
from phalanx.master.network.policy import (
    PolicyDocument,
    PolicySpec,
    new_policy,
    read_document,
    read_policy,
)
from phalanx.master.network.rows import POLICIES, Rows
from phalanx.net.model.objects import Network, Policy, Tier

log = structlog.get_logger()

INTENT = ("intents", "policies")  # there while a document takes the policies' place


class PolicyIntent(msgspec.Struct, frozen=True):
    """The rows that a document of policies changes."""

    upserts: tuple[Policy, ...]
    removals: tuple[str, ...]


class Policies:
    """Decides, writes, then remembers; one change at a time, under the *lock* of the networks."""

    def __init__(
        self,
        rows: Rows,
        bus: Bus,
        lock: asyncio.Lock,
        networks: Callable[[], Mapping[str, Network]],
    ) -> None:
        self._rows = rows
        self._bus = bus
        self._lock = lock
        self._networks = networks
        self._is_half_done = False  # the rows: their intent is still there
        self.by_name: Mapping[str, Policy] = {}

    async def load(self) -> None:
        """Read everything, after what a master before us intended was carried out."""
        self._is_half_done = True  # maybe
        await self.settle()
        self.by_name = await self._rows.read(POLICIES, Policy)

    @carried_through
    async def add(self, spec: PolicySpec) -> Policy:
        """Make a policy."""
        async with self._lock:
            await self.settle()
            self._rows.check_unread(POLICIES, spec.name)
            policy = new_policy(spec, self.by_name, self._networks())
            await self._write(policy)
        log.info("policy_added", policy=policy.name)
        return policy

    @carried_through
    async def put(self, spec: PolicySpec) -> Policy:
        """Make a policy, or put it in the place of the one of its name."""
        async with self._lock:
            await self.settle()
            self._rows.check_unread(POLICIES, spec.name)
            policy = read_policy(spec, self._networks())
            await self._write(policy)
        log.info("policy_put", policy=policy.name)
        return policy

    @carried_through
    async def replace(
        self, document: PolicyDocument, *, tier: Tier | None = None
    ) -> Mapping[str, Collection[str]]:
        """Put *document* in the place of the policies of *tier*, of all tiers if it is None.

        All of it or nothing, also when this master dies on the way: what is
        intended is written first, and whoever leads next carries it out.
        Returns the names of what was added, changed and removed.
        """
        async with self._lock:
            await self.settle()
            before = self.by_name
            after = read_document(document, before, self._networks(), tier=tier)
            for name in after:
                self._rows.check_unread(POLICIES, name)
            changed = {
                "added": after.keys() - before.keys(),
                "changed": {k for k in after.keys() & before.keys() if after[k] != before[k]},
                "removed": before.keys() - after.keys(),
            }
            touched = [*changed["added"], *changed["changed"]]
            if not touched and not changed["removed"]:
                return changed
            intent = PolicyIntent(
                upserts=tuple(after[name] for name in sorted(touched)),
                removals=tuple(sorted(changed["removed"])),
            )
            await self._rows.write(*INTENT, intent)
            self._is_half_done = True
            self.by_name = after
            self._bus.publish(NetworkChanged())
            await self._carry_out(intent)
        log.info("policies_replaced", **{key: len(names) for key, names in changed.items()})
        return changed

    @carried_through
    async def remove(self, name: str) -> None:
        """Remove a policy."""
        async with self._lock:
            await self.settle()
            if name not in self.by_name:
                raise NotFoundError(f"no policy {name!r}")
            await self._rows.erase(POLICIES, name)
            self.by_name = {k: v for k, v in self.by_name.items() if k != name}
            self._bus.publish(NetworkChanged())
        log.info("policy_removed", policy=name)

    async def _write(self, policy: Policy) -> None:
        await self._rows.write(POLICIES, policy.name, policy)
        self.by_name = {**self.by_name, policy.name: policy}
        self._bus.publish(NetworkChanged())

    async def settle(self) -> None:
        """Carry out a replacement that a master before us began, or we before the store failed.

        A change of ours that was refused, and may be made, is taken back. Call it under the lock.
        """
        if not self._is_half_done:
            await self._rows.settle(INTENT[0], {})
            await self._rows.settle(POLICIES, self.by_name)
            return
        intent = await self._rows.read_one("/".join(INTENT), PolicyIntent)
        if intent is None:
            self._is_half_done = False
        else:
            await self._carry_out(intent)

    async def _carry_out(self, intent: PolicyIntent) -> None:
        for policy in intent.upserts:
            await self._rows.write(POLICIES, policy.name, policy)
        for name in intent.removals:
            await self._rows.erase(POLICIES, name)
        await self._rows.erase(*INTENT)
        self._is_half_done = False
