"""The network registry: networks, subnet leases, VIP leases and policies, each durable first."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec
import structlog

from phalanx.core.error import ConflictError, NotFoundError, UnavailableError
from phalanx.core.store.store import Store
from phalanx.master.carry import carried_through
from phalanx.master.event import Bus, NetworkChanged
from phalanx.master.network.definition import (
    Ground,
    NetworkChange,
    NetworkSpec,
    changed_network,
    new_network,
)
from phalanx.master.network.lease import fitting_lease, lacks, new_leases
from phalanx.master.network.policy import (
    PolicyDocument,
    PolicySpec,
    new_policy,
    read_document,
    read_policy,
)
from phalanx.master.row import understood
from phalanx.net.model.lease import lease_vip, lease_vip6
from phalanx.net.model.objects import Network, Policy, SubnetLease, Tier, VipLease

log = structlog.get_logger()

NETWORKS = "networks"
SUBNETS = "subnets"
VIPS = "vips"
POLICIES = "policies"
INTENT = "intents/policies"  # there while a document takes the policies' place
DEFAULTS = "defaults/networks"  # there once the default networks were made


class PolicyIntent(msgspec.Struct, frozen=True):
    """The rows that a document of policies changes."""

    upserts: tuple[Policy, ...]
    removals: tuple[str, ...]


class NetworkRegistry:
    """Decides, writes, then remembers; one change at a time.

    Every method that changes something raises UnavailableError when the store
    can't be written, and then nothing has changed here.
    """

    def __init__(self, store: Store, bus: Bus, *, ground: Ground) -> None:
        self._store = store
        self._bus = bus
        self._ground = ground
        self._are_vips_whole = False  # each has an address of every family of the cluster
        self._lock = asyncio.Lock()
        self._waiting: dict[IPv4Address, asyncio.Future[None]] = {}
        self._leasing: asyncio.Task[None] | None = None
        self._unread: set[str] = set()  # keys of rows that nobody can read
        self._nodes: set[IPv4Address] = set()  # leased to since we lead, and not freed
        self.networks: Mapping[str, Network] = {}
        self.subnets: Mapping[str, SubnetLease] = {}
        self.vips: Mapping[str, VipLease] = {}
        self.policies: Mapping[str, Policy] = {}
        self._is_half_done = False  # the rows of policies: their intent is still there

    async def load(self) -> None:
        """Read everything; leases of networks that are not there are erased.

        Whoever made, changed or deleted a network was ended before it was done. A row that
        nobody can read is left where it is and left out; so are the leases of such
        a network, and its name is taken.
        """
        self._unread = set()
        self.networks = await self._read(NETWORKS, Network)
        self._is_half_done = True  # maybe
        await self._finish_intent()
        self.policies = await self._read(POLICIES, Policy)
        self.vips = await self._read(VIPS, VipLease)
        leases = await self._read(SUBNETS, SubnetLease)
        self._are_vips_whole = False
        subnets: dict[str, SubnetLease] = {}
        for lease in leases.values():
            network = self.networks.get(lease.network)
            fitting = None if network is None else fitting_lease(network, lease)
            if fitting is not None:
                subnets[fitting.key] = fitting
            if fitting is None and f"{NETWORKS}/{lease.network}" not in self._unread:
                await self._erase(SUBNETS, _lease_key(lease))
            elif fitting is not None and fitting != lease:
                await self._write(SUBNETS, _lease_key(lease), fitting)
        self.subnets = subnets

    async def make_defaults(self, defaults: Iterable[NetworkSpec]) -> None:
        """Make the default networks, once in the life of a registry."""
        if await self._store.get(DEFAULTS) is not None:
            return
        specs = list(defaults)
        for spec in specs:
            if spec.name not in self.networks:
                await self.create(spec, nodes=())
        await self._store.put(DEFAULTS, ",".join(spec.name for spec in specs).encode())

    def leases_of(self, network: str) -> Sequence[SubnetLease]:
        """Return the leases of one network, by node."""
        mine = (lease for lease in self.subnets.values() if lease.network == network)
        return sorted(mine, key=lambda lease: lease.node)

    @carried_through
    async def create(
        self,
        spec: NetworkSpec,
        *,
        nodes: Collection[IPv4Address],
        underlay: Collection[IPv4Address] = (),
    ) -> Network:
        """Make a network and lease a subnet of it to each of *nodes*, the agents' addresses.

        So is one to every node that was registering at the same time.
        *underlay* is every node's address; none of them may lie in the network.
        """
        async with self._lock:
            self._check_unread(f"{NETWORKS}/{spec.name}")
            agents = {*nodes, *self._nodes}
            network = new_network(
                spec, self.networks, ground=self._ground, nodes=[*agents, *underlay]
            )
            # Leases before the network: until it is there they mean nothing.
            leases = await self._lease(network, sorted(agents))
            await self._write(NETWORKS, network.name, network)
            self.networks = {**self.networks, network.name: network}
            self.subnets = {**self.subnets, **leases}
            self._bus.publish(NetworkChanged())
        log.info("network_created", network=network.name, subnets=shown(network))
        return network

    @carried_through
    async def change(
        self,
        name: str,
        change: NetworkChange,
        users: Callable[[], Sequence[str]],
        *,
        nodes: Collection[IPv4Address],
        underlay: Collection[IPv4Address] = (),
    ) -> Network:
        """Change a network; *nodes* and *underlay* are as for ``create``.

        A subnet that comes is leased to every agent's node. One that goes is
        refused with ConflictError while the network has *users*.
        """
        async with self._lock:
            if name not in self.networks:
                raise NotFoundError(f"no network {name!r}")
            before, leases = self.networks[name], self.leases_of(name)
            agents = {*nodes, *self._nodes}
            network = changed_network(
                before,
                change,
                self.networks,
                ground=self._ground,
                nodes=[*agents, *underlay],
                leases=leases,
            )
            if network == before:
                return before
            for field in ("subnet", "subnet6"):
                went = getattr(before, field) is not None and getattr(network, field) is None
                if went and (using := users()):
                    raise ConflictError(f"{field}: network {name!r} is used by {_words(using)}")
            # What comes is leased before the network has it, what goes is taken after.
            trimmed = {each.key: fitting_lease(network, each) for each in leases}
            kept = [lease for lease in trimmed.values() if lease is not None]
            made = await self._lease(network, sorted(agents | {x.node for x in leases}), kept)
            await self._write(NETWORKS, name, network)
            self.networks = {**self.networks, name: network}
            self.subnets = {**self.subnets, **{x.key: x for x in kept}, **made}
            self._bus.publish(NetworkChanged())
            for lease in leases:
                fitting = trimmed[lease.key]
                if fitting is not None and fitting != lease and lease.key not in made:
                    await self._write(SUBNETS, _lease_key(lease), fitting)
        log.info("network_changed", network=name, subnets=shown(network), mtu=network.mtu)
        return network

    @carried_through
    async def delete(self, name: str, users: Callable[[], Sequence[str]]) -> None:
        """Delete a network and its leases; raise ConflictError naming its users if it has any."""
        async with self._lock:
            if name not in self.networks:
                raise NotFoundError(f"no network {name!r}")
            policies = [
                f"policy {policy.name}"
                for policy in self.policies.values()
                if name in (policy.source, policy.destination)
            ]
            if using := [*users(), *policies]:
                raise ConflictError(f"network {name!r} is used by {_words(using)}")
            for lease in self.leases_of(name):
                await self._erase(SUBNETS, _lease_key(lease))
            await self._erase(NETWORKS, name)
            self.networks = {k: v for k, v in self.networks.items() if k != name}
            self.subnets = {k: v for k, v in self.subnets.items() if v.network != name}
            self._bus.publish(NetworkChanged())
        log.info("network_deleted", network=name)

    async def lease_node(self, node: IPv4Address) -> None:
        """Lease a node a subnet of every network that it has none of yet.

        Nodes that come while others are leased to are leased to together.
        """
        if not self._lock.locked() and not self._lacks(node):
            self._nodes.add(node)
            return
        future = self._waiting.get(node)
        if future is None:
            future = self._waiting[node] = asyncio.get_running_loop().create_future()
        if self._leasing is None or self._leasing.done():
            self._leasing = asyncio.ensure_future(self._lease_waiting())
        await asyncio.shield(future)

    def _lacks(self, node: IPv4Address) -> list[Network]:
        return [
            network
            for network in self.networks.values()
            if lacks(network, self.subnets.get(f"{network.name}/{node}"))
        ]

    async def _lease_waiting(self) -> None:
        while self._waiting:
            async with self._lock:
                waiting, self._waiting = self._waiting, {}
                self._nodes.update(waiting)
                error: UnavailableError | None = None
                for network in self.networks.values():
                    missing = [node for node in waiting if network in self._lacks(node)]
                    try:
                        self._remember(await self._lease(network, missing))
                    except UnavailableError as failure:
                        error = failure
                self._bus.publish(NetworkChanged())
            for future in waiting.values():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
                    future.exception()  # whoever asked may have hung up: nobody need look

    def _remember(self, leases: Mapping[str, SubnetLease]) -> None:
        self.subnets = {**self.subnets, **leases}

    @carried_through
    async def free_node(self, node: IPv4Address) -> None:
        """Take back every subnet of a node that is gone for good."""
        async with self._lock:
            self._nodes.discard(node)
            for lease in [lease for lease in self.subnets.values() if lease.node == node]:
                await self._erase(SUBNETS, _lease_key(lease))
                self.subnets = {k: v for k, v in self.subnets.items() if v is not lease}
            self._bus.publish(NetworkChanged())

    @carried_through
    async def add_policy(self, spec: PolicySpec) -> Policy:
        """Make a policy."""
        async with self._lock:
            await self._finish_intent()
            self._check_unread(f"{POLICIES}/{spec.name}")
            policy = new_policy(spec, self.policies, self.networks)
            await self._write(POLICIES, policy.name, policy)
            self.policies = {**self.policies, policy.name: policy}
            self._bus.publish(NetworkChanged())
        log.info("policy_added", policy=policy.name)
        return policy

    @carried_through
    async def put_policy(self, spec: PolicySpec) -> Policy:
        """Make a policy, or put it in the place of the one of its name."""
        async with self._lock:
            await self._finish_intent()
            self._check_unread(f"{POLICIES}/{spec.name}")
            policy = read_policy(spec, self.networks)
            await self._write(POLICIES, policy.name, policy)
            self.policies = {**self.policies, policy.name: policy}
            self._bus.publish(NetworkChanged())
        log.info("policy_put", policy=policy.name)
        return policy

    @carried_through
    async def replace_policies(
        self, document: PolicyDocument, *, tier: Tier | None = None
    ) -> Mapping[str, Collection[str]]:
        """Put *document* in the place of the policies of *tier*, of all tiers if it is None.

        All of it or nothing, also when this master dies on the way: what is
        intended is written first, and whoever leads next carries it out.
        Returns the names of what was added, changed and removed.
        """
        async with self._lock:
            await self._finish_intent()
            before = self.policies
            after = read_document(document, before, self.networks, tier=tier)
            for name in after:
                self._check_unread(f"{POLICIES}/{name}")
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
            await self._store.put(INTENT, msgspec.json.encode(intent, enc_hook=str))
            self._is_half_done = True
            self.policies = after
            self._bus.publish(NetworkChanged())
            await self._carry_out(intent)
        log.info("policies_replaced", **{key: len(names) for key, names in changed.items()})
        return changed

    async def _finish_intent(self) -> None:
        """Carry out a replacement that a master before us began, or we before the store failed."""
        if not self._is_half_done:
            return
        row = await self._store.get(INTENT)
        intent = understood(INTENT, row, PolicyIntent, dec_hook=_from_text)
        if intent is None:
            self._is_half_done = False
        else:
            await self._carry_out(intent)

    async def _carry_out(self, intent: PolicyIntent) -> None:
        for policy in intent.upserts:
            await self._write(POLICIES, policy.name, policy)
        for name in intent.removals:
            await self._erase(POLICIES, name)
        await self._store.remove(INTENT)
        self._is_half_done = False

    @carried_through
    async def remove_policy(self, name: str) -> None:
        """Remove a policy."""
        async with self._lock:
            await self._finish_intent()
            if name not in self.policies:
                raise NotFoundError(f"no policy {name!r}")
            await self._erase(POLICIES, name)
            self.policies = {k: v for k, v in self.policies.items() if k != name}
            self._bus.publish(NetworkChanged())
        log.info("policy_removed", policy=name)

    async def settle_vips(
        self, wanted: Collection[str], chosen: Collection[IPv4Address | IPv6Address] = ()
    ) -> None:
        """Lease an address of each family to every name of *wanted* and free all others.

        None of *chosen* is leased: tasks have VIPs by these addresses. A full
        range leaves a name out, with a warning; it harms no other.
        """
        if self._are_vips_whole and self.vips.keys() == set(wanted):
            return
        async with self._lock:
            vips = dict(self.vips)
            try:
                for name in sorted(vips.keys() - set(wanted)):
                    await self._erase(VIPS, name)
                    del vips[name]
                taken = {lease.address for lease in vips.values()}
                taken |= {each for each in chosen if isinstance(each, IPv4Address)}
                taken6 = {a for lease in vips.values() if (a := lease.address6) is not None}
                taken6 |= {each for each in chosen if isinstance(each, IPv6Address)}
                for name in sorted(set(wanted)):
                    try:
                        lease = self._vip(vips.get(name), name, taken, taken6)
                    except UnavailableError as error:
                        log.warning("vip_refused", vip=name, error=str(error))
                        continue
                    if vips.get(name) != lease:
                        await self._write(VIPS, name, lease)
                        vips[name] = lease
                        taken.add(lease.address)
                        if lease.address6 is not None:
                            taken6.add(lease.address6)
                self._are_vips_whole = True
            finally:
                self.vips = vips

    def _vip(
        self,
        known: VipLease | None,
        name: str,
        taken: Collection[IPv4Address],
        taken6: Collection[IPv6Address],
    ) -> VipLease:
        """Return the lease of *name*, with what is *known* of it already."""
        if known is None:
            known = VipLease(name, lease_vip(name, self._ground.vip_range, taken))
        pool = self._ground.vip_range6
        if pool is None:
            return VipLease(name, known.address)
        if known.address6 is not None:
            return known
        try:
            return VipLease(name, known.address, lease_vip6(name, pool, taken6))
        except UnavailableError as error:
            log.warning("vip6_refused", vip=name, error=str(error))
            return known

    async def _lease(
        self,
        network: Network,
        nodes: Collection[IPv4Address],
        known: Collection[SubnetLease] | None = None,
    ) -> Mapping[str, SubnetLease]:
        """Return new leases of *network* for *nodes*, written; a full network leaves some out.

        *known* are its leases, those that we remember unless it is given.
        """
        if not nodes:
            return {}
        if known is None:
            known = self.leases_of(network.name)
        leases, refusals = new_leases(network, nodes, known)
        for refusal in refusals:
            log.warning("subnet_refused", network=network.name, error=refusal)
        written = await asyncio.gather(
            *(self._write(SUBNETS, _lease_key(lease), lease) for lease in leases),
            return_exceptions=True,
        )
        made = {
            lease.key: lease
            for lease, outcome in zip(leases, written, strict=True)
            if outcome is None
        }
        for outcome in written:
            if outcome is not None:
                if (present := self.networks.get(network.name)) is not None:
                    # They are there, whatever became of the others.
                    self._remember(
                        {k: x for k, v in made.items() if (x := fitting_lease(present, v))}
                    )
                raise outcome
        return made

    async def _write(self, kind: str, name: str, value: msgspec.Struct) -> None:
        await self._store.put(f"{kind}/{name}", msgspec.json.encode(value, enc_hook=str))

    async def _erase(self, kind: str, name: str) -> None:
        await self._store.remove(f"{kind}/{name}")

    async def _read(self, kind: str, of: type[Any]) -> dict[str, Any]:
        rows = await self._store.list(kind)
        values = {}
        for key, row in rows.items():
            value: Any = understood(key, row, of, dec_hook=_from_text)
            if value is None:
                self._unread.add(key)
            else:
                values[value.key] = value
        return values

    def _check_unread(self, key: str) -> None:
        """Raise ConflictError for a key whose row another version wrote, maybe."""
        if key in self._unread:
            raise ConflictError(f"{key}: the registry holds one that can't be read")


def _from_text(kind: type[Any], value: object) -> object:
    return kind(value)


def _lease_key(lease: SubnetLease) -> str:
    return f"{lease.network}@{lease.node}"


def shown(network: Network) -> str:
    """Return the subnets of *network* in words."""
    return ", ".join(map(str, network.subnets))


def _words(users: Sequence[str]) -> str:
    return f"{len(users)}: {', '.join(users[:10])}" + (", …" if len(users) > 10 else "")
