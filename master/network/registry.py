"""The network registry: networks, subnet leases and VIP leases, each durable first."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address

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
from phalanx.master.network.lease import distinct, fitting_lease, lacks, new_leases
from phalanx.master.network.policies import Policies
from phalanx.master.network.rows import NETWORKS, SUBNETS, VIPS, Rows
from phalanx.master.network.vip import vip_change
from phalanx.net.model.objects import Network, Policy, SubnetLease, VipLease

log = structlog.get_logger()

DEFAULTS = "defaults/networks"  # there once the default networks were made


class NetworkRegistry:
    """Decides, writes, then remembers; one change at a time.

    Every method that changes something raises UnavailableError when the store
    can't be written, and then nothing has changed here.
    """

    def __init__(self, store: Store, bus: Bus, *, ground: Ground) -> None:
        self._store = store
        self._rows = Rows(store)
        self._bus = bus
        self._ground = ground
        self._refused_vips: frozenset[str] = frozenset()
        self._are_vips_whole = False  # each has an address of every family of the cluster
        self._lock = asyncio.Lock()
        self._waiting: dict[IPv4Address, asyncio.Future[None]] = {}
        self._leasing: asyncio.Task[None] | None = None
        self._nodes: set[IPv4Address] = set()  # leased to since we lead, and not freed
        self._unsure: dict[str, SubnetLease] = {}  # whose rows may not be as we remember them
        self.networks: Mapping[str, Network] = {}
        self.subnets: Mapping[str, SubnetLease] = {}
        self.vips: Mapping[str, VipLease] = {}
        self.book = Policies(self._rows, bus, self._lock, lambda: self.networks)

    async def load(self, homes: Collection[IPv4Address] = ()) -> None:
        """Read everything; leases of networks that are not there are erased, and second ones.

        *homes* are the nodes of admitted agents. Whoever made, changed or deleted a network, or
        moved a lease, was ended before it was done. What can't be written now is before the
        next change. A row that nobody can read is left where it is and left out; so are the
        leases of such a network, and its name is taken.
        """
        self.networks = await self._rows.read(NETWORKS, Network)
        await self.book.load()
        self.vips = await self._rows.read(VIPS, VipLease)
        leases = await self._rows.read(SUBNETS, SubnetLease)
        self._are_vips_whole = False
        fitting = (
            each
            for lease in leases.values()
            if (network := self.networks.get(lease.network)) is not None
            and (each := fitting_lease(network, lease)) is not None
        )
        self.subnets = {lease.key: lease for lease in distinct(fitting, homes)}
        self._unsure = {
            key: lease
            for key, lease in leases.items()
            if self.subnets.get(key) != lease and not self._rows.is_unread(NETWORKS, lease.network)
        }
        try:
            await self._settle_rows()
        except UnavailableError as error:  # a full disk: they are from a change it had no room for
            log.warning("lease_rows_left", count=len(self._unsure), error=str(error))

    async def settle(self) -> None:
        """Make the rows what is remembered, after a change that failed; soon, and by itself.

        A change that was refused must not come into force with the next leader.
        """
        async with self._lock:
            await self._settle_rows()
            await self.book.settle()

    async def make_defaults(self, defaults: Iterable[NetworkSpec]) -> None:
        """Make the default networks, once in the life of a registry."""
        if await self._store.get(DEFAULTS) is not None:
            return
        specs = list(defaults)
        for spec in specs:
            if spec.name not in self.networks:
                await self.create(spec, nodes=())
        await self._store.put(DEFAULTS, ",".join(spec.name for spec in specs).encode())

    @property
    def policies(self) -> Mapping[str, Policy]:
        """Return the policies by name; their *book* changes them."""
        return self.book.by_name

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
        async with self._lock, self._changing():
            self._rows.check_unread(NETWORKS, spec.name)
            agents = {*nodes, *self._nodes}
            network = new_network(
                spec, self.networks, ground=self._ground, nodes=[*agents, *underlay]
            )
            # Leases before the network: until it is there they mean nothing.
            leases = await self._lease(network, sorted(agents))
            await self._rows.write(NETWORKS, network.name, network)
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
        async with self._lock, self._changing():
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
            await self._rows.write(NETWORKS, name, network)
            self.networks = {**self.networks, name: network}
            self.subnets = {**self.subnets, **{x.key: x for x in kept}, **made}
            self._bus.publish(NetworkChanged())
            for lease in leases:
                fitting = trimmed[lease.key]
                if fitting is not None and fitting != lease and lease.key not in made:
                    await self._write(fitting)
        log.info("network_changed", network=name, subnets=shown(network), mtu=network.mtu)
        return network

    @carried_through
    async def delete(self, name: str, users: Callable[[], Sequence[str]]) -> None:
        """Delete a network and its leases; raise ConflictError naming its users if it has any."""
        async with self._lock, self._changing():
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
                await self._erase(lease)
            await self._rows.erase(NETWORKS, name)
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
        return [network for network in self.networks.values() if self._has_less(network, node)]

    def _has_less(self, network: Network, node: IPv4Address) -> bool:
        return lacks(network, self.subnets.get(f"{network.name}/{node}"))

    async def _lease_waiting(self) -> None:
        while self._waiting:
            async with self._lock:
                waiting, self._waiting = self._waiting, {}
                self._nodes.update(waiting)
                error: UnavailableError | None = None
                for network in self.networks.values():
                    missing = [node for node in waiting if self._has_less(network, node)]
                    if not missing:
                        continue
                    try:
                        async with self._changing():
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
    async def move_node(self, old: IPv4Address, new: IPv4Address) -> None:
        """Lease to *new* what *old* is leased: a node has another address, its containers have not.

        What *new* was leased of the same networks is taken back.
        """
        async with self._lock, self._changing():
            leases = [lease for lease in self.subnets.values() if lease.node == old]
            moved = [msgspec.structs.replace(lease, node=new) for lease in leases]
            # Between these two the rows lease them twice; ``load`` leaves one of each.
            for lease in moved:
                await self._write(lease)
            for lease in leases:
                await self._erase(lease)
            rest = {key: lease for key, lease in self.subnets.items() if lease.node != old}
            self.subnets = {**rest, **{lease.key: lease for lease in moved}}
            self._nodes.discard(old)
            self._bus.publish(NetworkChanged())
        log.info("subnets_moved", node=str(old), to=str(new))

    @carried_through
    async def free_node(self, node: IPv4Address) -> None:
        """Take back every subnet of a node that is gone for good."""
        async with self._lock, self._changing():
            self._nodes.discard(node)
            for lease in [lease for lease in self.subnets.values() if lease.node == node]:
                await self._erase(lease)
            self.subnets = {k: v for k, v in self.subnets.items() if v.node != node}
            self._bus.publish(NetworkChanged())

    async def settle_vips(
        self, wanted: Collection[str], chosen: Collection[IPv4Address | IPv6Address] = ()
    ) -> None:
        """Lease an address of each family to every name of *wanted* and free all others.

        None of *chosen* is leased: tasks have VIPs by these addresses. A full
        range leaves a name out, with a warning; it harms no other.
        """
        if self._are_vips_whole and self.vips.keys() == set(wanted):
            self._refused_vips = frozenset()
            return
        async with self._lock:
            change = vip_change(self.vips, wanted, ground=self._ground, chosen=chosen)
            for name, why in change.refusals:
                if name not in self._refused_vips:  # else it has been said
                    log.warning("vip_refused", vip=name, error=why)
            self._refused_vips = frozenset(name for name, _ in change.refusals)
            vips = dict(self.vips)
            try:
                for name in change.removals:
                    await self._rows.erase(VIPS, name)
                    del vips[name]
                for lease in change.upserts:
                    await self._rows.write(VIPS, lease.name, lease)
                    vips[lease.name] = lease
                self._are_vips_whole = True
            finally:
                self.vips = vips

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
        written = await asyncio.gather(*map(self._write, leases), return_exceptions=True)
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

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Let one change of leases be made, or fail half-way, on rows that are as we remember them.

        So no row that a failed change left is ever taken for a lease, or a network.
        """
        await self._settle_rows()
        yield
        self._unsure.clear()

    async def _settle_rows(self) -> None:
        """Make the rows that may be otherwise as we remember them."""
        remembered = [lease for key in self._unsure if (lease := self.subnets.get(key)) is not None]
        strays = [lease for key, lease in self._unsure.items() if key not in self.subnets]
        for writes in (map(self._write, remembered), map(self._erase, strays)):
            for outcome in await asyncio.gather(*writes, return_exceptions=True):
                if outcome is not None:
                    raise outcome
        self._unsure.clear()
        await self._rows.settle(NETWORKS, self.networks)

    async def _write(self, lease: SubnetLease) -> None:
        self._unsure[lease.key] = lease
        await self._rows.write(SUBNETS, _lease_key(lease), lease)

    async def _erase(self, lease: SubnetLease) -> None:
        self._unsure[lease.key] = lease
        await self._rows.erase(SUBNETS, _lease_key(lease))


def _lease_key(lease: SubnetLease) -> str:
    return f"{lease.network}@{lease.node}"


def shown(network: Network) -> str:
    """Return the subnets of *network* in words."""
    return ", ".join(map(str, network.subnets))


def _words(users: Sequence[str]) -> str:
    return f"{len(users)}: {', '.join(users[:10])}" + (", …" if len(users) > 10 else "")
