"""The services of a node and the names they are known by, kept true change by change; pure.

What a ledger says after any sequence of Views is what `desired_services` says
of the last one. Following costs what has changed, not what there is: a task
is looked at again when it, its node, its framework or one of its VIPs' leases
has changed, and a service when one of the tasks behind it has.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TypeVar

from phalanx.core.layered import with_changes
from phalanx.lb.desired import (
    Addresses,
    Candidate,
    Declared,
    candidates_of,
    declared_by,
    first_of,
    is_alive,
    service_of,
    vip_addresses,
)
from phalanx.lb.service import Service, Vip
from phalanx.net.model.objects import Framework, IPAddress, IPNetwork, Network, Node, Task, VipLease
from phalanx.net.model.view import Ref, View, view_delta
from phalanx.net.model.vip import NamedVip

K = TypeVar("K")
V = TypeVar("V")

Names = Mapping[str, tuple[IPAddress, ...]]

# In place of a kind: tasks that chose an address are looked at again when a node takes it.
VIP_ADDRESS = "vip address"

NOTHING = View()  # what a ledger follows before its first View


@dataclass(frozen=True, slots=True, eq=False)
class Services:
    """What a View asks of the load balancer; what is the same as before is the same object."""

    view: View
    number: int  # of the ledger's steps
    by_vip: Mapping[Vip, Service]
    outside: Mapping[Vip, Service]  # those of them that lie in none of the pools
    names: Names  # named VIPs that have a service, with the addresses that have
    here: Mapping[str, Task]  # the node's own tasks, with VIPs or without
    changed: frozenset[Vip]  # since the number before


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where a task stands, and what it was that said so."""

    vips: Mapping[Vip, Sequence[Candidate]]
    declared: Mapping[Declared, bool]  # whether it is a backend there
    owners: Sequence[Ref]  # what it is to be looked at again for


class ServiceLedger:
    """Follows Views; *node* and *taken* as in `desired_services`, the latter asked each time.

    *pools* are where VIPs are leased from.
    """

    def __init__(
        self,
        *,
        node: IPv4Address | None = None,
        pools: Sequence[IPNetwork] = (),
        taken: Callable[[], Collection[IPAddress]] = frozenset,
    ) -> None:
        self._node = node
        self._pools = pools
        self._ask_taken = taken
        self._taken: frozenset[IPAddress] = frozenset()
        self._services = _nothing(0)
        self._forget()

    def follow(self, view: View, touched: Iterable[Ref] | None = None) -> Services:
        """Return the services of *view*.

        *touched* are the objects that may differ from the View before, all of
        them; None lets them be found.
        """
        taken = frozenset(self._ask_taken())
        # The same as before is mostly the same object, whose members need no look.
        is_other = taken is not self._taken and taken != self._taken
        if view is not self._services.view or is_other:
            fresh, self._taken = taken ^ self._taken, taken
            try:
                self._services = self._followed(view, touched, fresh)
            except BaseException:
                # Half of a step is nothing to go on from. The number that is left out says so.
                self._services = _nothing(self._services.number + 1)
                self._forget()
                raise
        return self._services

    @property
    def view(self) -> View:
        """Return the View that was followed last."""
        return self._services.view

    def _forget(self) -> None:
        self._taken = frozenset()
        self._places: dict[str, _Place] = {}
        self._owned: dict[Ref, dict[str, None]] = {}  # tasks by what they are looked at again for
        self._behind: dict[Vip, dict[str, Sequence[Candidate]]] = {}
        self._declaring: dict[Declared, dict[str, bool]] = {}  # tasks, and whether as a backend
        self._bare_at: dict[Declared, Vip] = {}  # VIPs that no task is a backend of, where they are
        self._bare: dict[Vip, dict[Declared, None]] = {}
        self._ports: Counter[IPAddress] = Counter()  # services at each address
        self._leased: dict[IPAddress, dict[str, None]] = {}  # names by the addresses they have

    def _followed(
        self, view: View, touched: Iterable[Ref] | None, taken: Iterable[IPAddress]
    ) -> Services:
        """Return the services of *view*; *taken* addresses are or were taken."""
        before = self._services
        if touched is None or before.view is NOTHING:
            upserts, removals = view_delta(before.view, view)
            touched = [*((each.kind, each.key) for each in upserts), *removals]
        by_kind: dict[str, list[str]] = {}
        for kind, key in touched:
            by_kind.setdefault(kind, []).append(key)
        stale = self._stale(before.view, view, by_kind)
        for address in taken:
            stale.update(self._owned.get((VIP_ADDRESS, str(address)), {}))
        known: Addresses = {}
        vips: dict[Vip, None] = {}
        declared: dict[Declared, None] = {}
        for key in stale:
            for place in (self._leave(key), self._place(view, key, known)):
                if place is not None:
                    vips.update(dict.fromkeys(place.vips))
                    declared.update(dict.fromkeys(place.declared))
        for each in declared:
            addresses = known[each] if each in known else self._addresses_of(view, each)
            vips.update(dict.fromkeys(self._bared(each, addresses)))
        services = self._served(vips, before)
        leases = by_kind.get(VipLease.kind, ())
        names = self._named(leases, services.changed, before, view)
        here = self._here(by_kind.get(Task.kind, ()), before, view)
        return replace(services, view=view, number=before.number + 1, names=names, here=here)

    def _stale(
        self, old: View, view: View, by_kind: Mapping[str, Sequence[str]]
    ) -> dict[str, None]:
        """Return the keys of the tasks that are to be looked at again."""
        stale = dict.fromkeys(by_kind.get(Task.kind, ()))
        if Network.kind in by_kind:
            stale.update(dict.fromkeys(self._places))
        for key in by_kind.get(Node.kind, ()):
            if is_alive(old, key) != is_alive(view, key):
                stale.update(self._owned.get((Node.kind, key), {}))
            if (key in old.nodes) != (key in view.nodes):
                stale.update(self._owned.get((VIP_ADDRESS, key), {}))
        for kind in (Framework.kind, VipLease.kind):
            for key in by_kind.get(kind, ()):
                stale.update(self._owned.get((kind, key), {}))
        return stale

    def _bared(self, declared: Declared, addresses: Sequence[IPAddress]) -> Iterator[Vip]:
        """Yield where a VIP is or was bare."""
        before = self._bare_at.pop(declared, None)
        if before is not None:
            del self._bare[before][declared]
            yield before
        declaring = self._declaring.get(declared)
        if addresses and declaring and not any(declaring.values()):
            now = self._bare_at[declared] = first_of(declared, addresses)
            self._bare.setdefault(now, {})[declared] = None
            yield now
        if before is not None and not self._bare[before]:
            del self._bare[before]

    def _place(self, view: View, key: str, known: Addresses) -> _Place | None:
        """Put the task behind its VIPs."""
        task = view.tasks.get(key)
        if task is None or not (task.ports or task.labels):
            return None
        declared = declared_by(view, task)
        vips: dict[Vip, list[Candidate]] = {}
        backend_of: dict[Declared, bool] = {each.vip: False for each in declared}
        for each, vip, candidate in candidates_of(
            view, task, declared, node=self._node, known=known, taken=self._taken
        ):
            backend_of[each] = True
            vips.setdefault(vip, []).append(candidate)
        owners = [(Framework.kind, task.framework_id), (Node.kind, str(task.node))]
        for named in backend_of:
            if isinstance(named, NamedVip):
                owners.append((VipLease.kind, named.name))
            else:
                owners.append((VIP_ADDRESS, str(named.address)))
            self._declaring.setdefault(named, {})[key] = backend_of[named]
        place = self._places[key] = _Place(vips, backend_of, owners)
        for owner in owners:
            self._owned.setdefault(owner, {})[key] = None
        for vip, found in vips.items():
            self._behind.setdefault(vip, {})[key] = found
        return place

    def _leave(self, key: str) -> _Place | None:
        """Take the task away from behind its VIPs."""
        place = self._places.pop(key, None)
        if place is None:
            return None
        for owner in dict.fromkeys(place.owners):
            _drop(self._owned, owner, key)
        for vip in place.vips:
            _drop(self._behind, vip, key)
        for declared in place.declared:
            _drop(self._declaring, declared, key)
        return place

    def _served(self, vips: Iterable[Vip], before: Services) -> Services:
        """Return *before* with the services of *vips* as they are now, and which are others."""
        by_vip, outside = before.by_vip, before.outside
        fresh: dict[Vip, Service | None] = {}
        for vip in vips:
            behind = self._behind.get(vip)
            service = Service() if vip in self._bare else None
            if behind is not None:
                service = service_of(_flat(behind.values()))
            if service != by_vip.get(vip):
                fresh[vip] = service
        if fresh:
            by_vip = with_changes(by_vip, fresh)
            apart = {vip: each for vip, each in fresh.items() if self._is_outside(vip)}
            outside = with_changes(outside, apart)
        for vip, service in fresh.items():
            if service is None:
                self._ports[vip.address] -= 1
            elif vip not in before.by_vip:
                self._ports[vip.address] += 1
        return replace(before, by_vip=by_vip, outside=outside, changed=frozenset(fresh))

    def _named(
        self, leases: Iterable[str], changed: Iterable[Vip], before: Services, view: View
    ) -> Names:
        """Return the names that have a service, when *leases* and the services *changed*."""
        affected = dict.fromkeys(leases)
        for key in affected:
            for address in _addresses(before.view.vips.get(key)):
                _drop(self._leased, address, key)
            for address in _addresses(view.vips.get(key)):
                self._leased.setdefault(address, {})[key] = None
        for vip in changed:
            if not self._ports[vip.address]:
                del self._ports[vip.address]
            affected.update(self._leased.get(vip.address, {}))
        fresh: dict[str, tuple[IPAddress, ...] | None] = {}
        for key in affected:
            lease = _addresses(view.vips.get(key))
            found = tuple(each for each in lease if self._ports.get(each)) or None
            if found != before.names.get(key):
                fresh[key] = found
        return with_changes(before.names, fresh)

    def _here(self, keys: Iterable[str], before: Services, view: View) -> Mapping[str, Task]:
        fresh: dict[str, Task | None] = {}
        for key in keys:
            task = view.tasks.get(key)
            if task is not None and task.node == self._node:
                fresh[key] = task
            elif key in before.here:
                fresh[key] = None
        return with_changes(before.here, fresh)

    def _addresses_of(self, view: View, vip: Declared) -> tuple[IPAddress, ...]:
        return vip_addresses(view, vip, self._taken)

    def _is_outside(self, vip: Vip) -> bool:
        return not any(vip.address in pool for pool in self._pools)


def _nothing(number: int) -> Services:
    return Services(NOTHING, number, {}, {}, {}, {}, frozenset())


def _addresses(lease: VipLease | None) -> tuple[IPAddress, ...]:
    if lease is None:
        return ()
    return (lease.address,) if lease.address6 is None else (lease.address, lease.address6)


def _flat(found: Iterable[Sequence[Candidate]]) -> list[Candidate]:
    return [each for some in found for each in some]


def _drop(keys_of: dict[K, dict[str, V]], owner: K, key: str) -> None:
    keys = keys_of.get(owner)
    if keys is not None:
        keys.pop(key, None)
        if not keys:
            del keys_of[owner]
