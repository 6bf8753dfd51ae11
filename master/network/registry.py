"""The network registry: networks, subnet leases, VIP leases and policies, each durable first."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import msgspec
import structlog

from phalanx.core.error import ConflictError, NotFoundError, UnavailableError
from phalanx.core.store.store import Store
from phalanx.master.carry import carried_through
from phalanx.master.event import Bus, NetworkChanged
from phalanx.master.network.definition import NetworkSpec, new_network
from phalanx.master.network.lease import free_subnets
from phalanx.master.network.policy import PolicySpec, new_policy
from phalanx.master.row import understood
from phalanx.net.model.lease import lease_vip
from phalanx.net.model.objects import Network, Policy, SubnetLease, VipLease

log = structlog.get_logger()

NETWORKS = "networks"
SUBNETS = "subnets"
VIPS = "vips"
POLICIES = "policies"
DEFAULTS = "defaults/networks"  # there once the default networks were made


class NetworkRegistry:
    """Decides, writes, then remembers; one change at a time.

    Every method that changes something raises UnavailableError when the store
    can't be written, and then nothing has changed here.
    """

    def __init__(self, store: Store, bus: Bus, *, vip_range: IPv4Network) -> None:
        self._store = store
        self._bus = bus
        self._vip_range = vip_range
        self._lock = asyncio.Lock()
        self._waiting: dict[IPv4Address, asyncio.Future[None]] = {}
        self._leasing: asyncio.Task[None] | None = None
        self._unread: set[str] = set()  # keys of rows that nobody can read
        self._nodes: set[IPv4Address] = set()  # leased to since we lead, and not freed
        self.networks: Mapping[str, Network] = {}
        self.subnets: Mapping[str, SubnetLease] = {}
        self.vips: Mapping[str, VipLease] = {}
        self.policies: Mapping[str, Policy] = {}

    async def load(self) -> None:
        """Read everything; leases of networks that are not there are erased.

        Whoever made or deleted a network was ended before it was done. A row that
        nobody can read is left where it is and left out; so are the leases of such
        a network, and its name is taken.
        """
        self._unread = set()
        self.networks = await self._read(NETWORKS, Network)
        self.policies = await self._read(POLICIES, Policy)
        self.vips = await self._read(VIPS, VipLease)
        leases = await self._read(SUBNETS, SubnetLease)
        self.subnets = {
            key: lease
            for key, lease in leases.items()
            if (network := self.networks.get(lease.network)) is not None
            and lease.subnet.subnet_of(network.subnet)
        }
        for key in leases.keys() - self.subnets.keys():
            if f"{NETWORKS}/{leases[key].network}" not in self._unread:
                await self._erase(SUBNETS, _lease_key(leases[key]))

    async def make_defaults(self, defaults: Mapping[str, IPv4Network]) -> None:
        """Make the default networks, once in the life of a registry."""
        if await self._store.get(DEFAULTS) is not None:
            return
        for name, subnet in defaults.items():
            if name not in self.networks:
                await self.create(NetworkSpec(name, str(subnet)), nodes=())
        await self._store.put(DEFAULTS, ",".join(defaults).encode())

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
                spec, self.networks, vip_range=self._vip_range, nodes=[*agents, *underlay]
            )
            # Leases before the network: until it is there they mean nothing.
            leases = await self._lease(network, sorted(agents))
            await self._write(NETWORKS, network.name, network)
            self.networks = {**self.networks, network.name: network}
            self.subnets = {**self.subnets, **leases}
            self._bus.publish(NetworkChanged())
        log.info("network_created", network=network.name, subnet=str(network.subnet))
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
                shown = ", ".join(using[:10]) + (", …" if len(using) > 10 else "")
                raise ConflictError(f"network {name!r} is used by {len(using)}: {shown}")
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
            if f"{network.name}/{node}" not in self.subnets
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
        """Let new connections through."""
        async with self._lock:
            self._check_unread(f"{POLICIES}/{spec.name}")
            policy = new_policy(spec, self.policies, self.networks)
            await self._write(POLICIES, policy.name, policy)
            self.policies = {**self.policies, policy.name: policy}
            self._bus.publish(NetworkChanged())
        log.info("policy_added", policy=policy.name)
        return policy

    @carried_through
    async def remove_policy(self, name: str) -> None:
        """Stop letting new connections through."""
        async with self._lock:
            if name not in self.policies:
                raise NotFoundError(f"no policy {name!r}")
            await self._erase(POLICIES, name)
            self.policies = {k: v for k, v in self.policies.items() if k != name}
            self._bus.publish(NetworkChanged())
        log.info("policy_removed", policy=name)

    async def settle_vips(self, wanted: Collection[str]) -> None:
        """Lease an address to every name of *wanted* and free all others.

        A full range leaves a name out, with a warning; it harms no other.
        """
        if self.vips.keys() == set(wanted):
            return
        async with self._lock:
            vips = dict(self.vips)
            try:
                for name in sorted(vips.keys() - set(wanted)):
                    await self._erase(VIPS, name)
                    del vips[name]
                taken = {lease.address for lease in vips.values()}
                for name in sorted(set(wanted) - vips.keys()):
                    try:
                        address = lease_vip(name, self._vip_range, taken)
                    except UnavailableError as error:
                        log.warning("vip_refused", vip=name, error=str(error))
                        continue
                    await self._write(VIPS, name, VipLease(name, address))
                    vips[name] = VipLease(name, address)
                    taken.add(address)
            finally:
                self.vips = vips

    async def _lease(
        self, network: Network, nodes: Iterable[IPv4Address]
    ) -> Mapping[str, SubnetLease]:
        """Return new leases of *network* for *nodes*, written; a full network leaves some out."""
        nodes = list(nodes)
        if not nodes:
            return {}
        mine = (each.subnet for each in self.subnets.values() if each.network == network.name)
        taken = {subnet for subnet in mine if subnet is not None}
        free = free_subnets(network, taken)
        leases = []
        for node in nodes:
            try:
                leases.append(SubnetLease(network.name, node, next(free)))
            except UnavailableError as error:
                left = nodes[len(leases) :]
                log.warning(
                    "subnet_refused",
                    network=network.name,
                    nodes=list(map(str, left)),
                    error=str(error),
                )
                break
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
                if network.name in self.networks:
                    self._remember(made)  # they are there, whatever became of the others
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
