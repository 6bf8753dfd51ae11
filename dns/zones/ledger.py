"""All names that follow the View, kept true change by change."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeVar

from phalanx.dns.zones.dcos import APEX as DCOS
from phalanx.dns.zones.dcos import ZK, dcos_cluster_records, dcos_facets, zk_records
from phalanx.dns.zones.facet import Shape, drawn, shape_of
from phalanx.dns.zones.holder import (
    Fixed,
    Group,
    Holder,
    Origin,
    Own,
    all_facets_of,
    best_of,
    held_by,
    is_sendable,
    own_addresses,
)
from phalanx.dns.zones.index import NameIndex
from phalanx.dns.zones.mesos import (
    mesos_cluster_records,
    mesos_facets,
    mesos_framework_records,
    named,
    own_names,
    own_suffixes,
    stems,
)
from phalanx.dns.zones.record import Rdata, Record, RecordType, address_record, is_encodable
from phalanx.dns.zones.reverse import reverse_apexes, reverse_names
from phalanx.dns.zones.settings import ZoneSettings
from phalanx.dns.zones.zone import RRsets, ordered, zone_start
from phalanx.net.model.objects import (
    Framework,
    IPAddress,
    Liveness,
    Network,
    Node,
    Task,
    TaskPhase,
    VipLease,
)
from phalanx.net.model.view import Ref, View, view_delta

K = TypeVar("K", str, int)

L4LB = "l4lb.thisdcos.directory."

HeldVips = Mapping[str, Sequence[IPAddress]]  # the addresses that lead to backends, by VIP name


@dataclass(frozen=True, slots=True)
class Changes:
    """What a View changed: names whose records or existence may differ; None stands for all."""

    names: Collection[str] | None
    are_zones_new: bool = False  # there are zones now that there were not, or the other way round


class Ledger:
    """The names of a cluster by zone; `follow` brings it to another View.

    What it holds after any sequence of Views is what it would hold after the
    last one alone. Following costs what has changed, not what there is: names
    are kept, and the records at a name are drawn from the tasks that are at it
    when they are asked for.
    """

    def __init__(self, settings: ZoneSettings, servers: Sequence[IPv4Address], serial: int) -> None:
        self._settings = settings
        self._servers = servers
        self.serial = serial
        self._view = View()
        self._held: HeldVips = {}
        self._groups: dict[Shape, Group] = {}
        self._places: dict[str, Own] = {}
        self._of_framework: dict[str, dict[str, None]] = {}
        self._of_node: dict[int, dict[str, None]] = {}
        self._fixed: dict[Ref, Fixed] = {}
        self._frameworks: dict[str, str] = {}  # names by id, as the places have them
        self._nodes: dict[int, bool] = {}  # whether a node is alive, by address
        self._hosts: dict[str, Node] = {}  # by host name; of nodes that share one, the first
        self._touched: set[str] = set()
        self._reverse: frozenset[str] = frozenset()  # apexes, and their lengths, longest first
        self._reverse_lengths: tuple[int, ...] = ()
        self._is_tracking = False  # of what is touched: nothing is ready before there are tasks
        self.indexes: dict[str, NameIndex[Holder]] = {
            apex: NameIndex(apex) for apex in (settings.apex, DCOS, L4LB, ZK)
        }
        ns1 = [Record(f"ns1.{settings.apex}", RecordType.A, server) for server in servers]
        self._fix(("servers", ""), ns1)

    def follow(
        self, view: View, held: HeldVips | None = None, touched: Iterable[Ref] | None = None
    ) -> Changes:
        """Bring all names to *view*.

        Of its named VIPs only those in *held* get a name, for the addresses
        there; None stands for every IPv4 address. *held* is kept and must not change. *touched*
        are the objects that may differ from the View before, all of them; None lets them be found.
        """
        if touched is None:
            upserts, removals = view_delta(self._view, view)
            touched = [*((each.kind, each.key) for each in upserts), *removals]
        by_kind: dict[str, list[str]] = {}
        for kind, key in touched:
            by_kind.setdefault(kind, []).append(key)
        old, self._view = self._view, view
        self._touched = set()
        self._is_tracking = bool(self._places)
        is_all, has_new_zones = False, False
        if Network.kind in by_kind:
            has_new_zones = self._follow_networks()
        if Node.kind in by_kind:
            is_all = self._follow_nodes(old, by_kind[Node.kind])
        for key in by_kind.get(Framework.kind, ()):
            self._follow_framework(key)
        for key in by_kind.get(Task.kind, ()):
            self._leave(key, old.tasks.get(key))
            self._place(key)
        self._follow_vips(by_kind.get(VipLease.kind, ()), held)
        is_all |= has_new_zones or not self._is_tracking
        return Changes(None if is_all else self._touched, has_new_zones)

    def rrsets(self, index: NameIndex[Holder], name: str) -> RRsets:
        """Return what is at *name*, which is in *index*."""
        graded: dict[RecordType, dict[int, set[Rdata]]] = {}
        for holder in index.holders(name):
            for _, grade, type_, data in held_by(holder, name, self._settings, self._nodes):
                graded.setdefault(type_, {}).setdefault(grade, set()).add(data)
        found = {type_: ordered(best_of(grades)) for type_, grades in graded.items()}
        return {**found, **zone_start(self.serial)} if name == index.apex else found

    def placed(self) -> Iterator[tuple[str, Task]]:
        """Yield the tasks that had names when this began and still have, by framework name."""
        for key in list(self._places):
            own = self._places.get(key)
            if own is not None:
                yield own.group.shape.framework, own.group.members[key]

    def task_records(self, key: str) -> Iterator[Record]:
        """Return every record of one task that has names."""
        own = self._places[key]
        task = own.group.members[key]
        shape = own.group.shape
        facets = all_facets_of(task, shape, self._settings)
        for record in dict.fromkeys(drawn(facets, task)):
            if self._apex_of(record.name) and is_sendable(record.data):
                yield record

    @property
    def view(self) -> View:
        """Return the View that the names follow."""
        return self._view

    def origins(self, name: str) -> Sequence[Origin]:
        """Return the records at *name* with their objects; those of a task that don't answer, too.

        Costs what there is in the cluster: for people's questions.
        """
        apex = self._apex_of(name)
        index = self.indexes.get(apex) if apex is not None else None
        if index is None or name not in index:
            return ()
        found = []
        for holder in index.holders(name):
            kind, fixed_key = Task.kind, ""
            if isinstance(holder, Fixed):
                kind, fixed_key = next(ref for ref, each in self._fixed.items() if each is holder)
            for key, grade, type_, data in held_by(holder, name, self._settings, self._nodes):
                found.append(Origin(kind, key or fixed_key, grade, type_, data))
        return found

    def unplaced(self, name: str) -> Sequence[str]:
        """Return the keys of tasks that would be at *name* if they ran; costs as origins does."""
        keys = []
        for key in self._view.tasks.keys() - self._places.keys():
            task = self._view.tasks[key]
            framework = self._frameworks.get(task.framework_id)
            if framework is not None:
                shape = shape_of(task, framework)
                facets = all_facets_of(task, shape, self._settings)
                if any(each.name == name for each in facets):
                    keys.append(key)
        return sorted(keys)

    def _own_names(self, task: Task, group: Group) -> Iterator[tuple[NameIndex[Holder], str]]:
        """Return the names of the task's own facets that can be sent, with their zones."""
        mesos = self.indexes[self._settings.apex]
        for name in own_names(task, group.labels, group.suffixes):
            if is_encodable(name):
                yield mesos, name
        if not task.is_on_host_network and group.suffixes and group.labels:
            for name in reverse_names(own_addresses(task)):
                apex = self._zone_of(name)
                if apex is not None:
                    yield self.indexes[apex], name

    def _touch(self, name: str) -> None:
        if self._is_tracking:
            self._touched.add(name)

    def _place(self, key: str) -> None:
        """Give the task its names, if it has any; all that they depend on is known."""
        task = self._view.tasks.get(key)
        if task is None:
            return
        node = int(task.node)
        self._of_framework.setdefault(task.framework_id, {})[key] = None
        self._of_node.setdefault(node, {})[key] = None
        framework = self._frameworks.get(task.framework_id)
        if task.phase is not TaskPhase.RUNNING or framework is None or node not in self._nodes:
            return
        shape = shape_of(task, framework)
        group = self._groups.get(shape)
        if group is None:
            group = self._groups[shape] = Group(
                shape,
                self._names(shape),
                stems(shape, self._settings),
                own_suffixes(shape, self._settings),
            )
            for name, index in group.names.items():
                self._touch(name)
                index.add(name, group)
        elif self._is_tracking:
            self._touched.update(group.names)
        group.members[key] = task
        own = self._places[key] = Own(group, key)
        for index, name in self._own_names(task, group):
            self._touch(name)
            index.add(name, own)

    def _leave(self, key: str, task: Task | None) -> None:
        """Take back the names of the task as it was."""
        if task is not None:
            _forget(self._of_framework, task.framework_id, key)
            _forget(self._of_node, int(task.node), key)
        own = self._places.pop(key, None)
        if own is None:
            return
        group = own.group
        placed = group.members.pop(key)
        for index, name in self._own_names(placed, group):
            self._touch(name)
            index.remove(name, own)
        if group.members:
            self._touched.update(group.names)
            return
        del self._groups[group.shape]
        for name, index in group.names.items():
            self._touch(name)
            index.remove(name, group)

    def _replace(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            task = self._view.tasks.get(key)
            self._leave(key, task)
            self._place(key)

    def _follow_framework(self, key: str) -> None:
        framework = self._view.frameworks.get(key)
        records = (
            mesos_framework_records(framework, self._hosts, self._settings) if framework else ()
        )
        self._fix((Framework.kind, key), records)
        before = self._frameworks.pop(key, None)
        if framework is not None:
            self._frameworks[key] = framework.name
        if before != self._frameworks.get(key):
            self._replace(self._of_framework.get(key, ()))

    def _follow_nodes(self, old: View, keys: Collection[str]) -> bool:
        """Follow the nodes; tell whether a node that has tasks fell silent or was heard again."""
        new = self._view
        if any(named(old.nodes.get(key)) != named(new.nodes.get(key)) for key in keys):
            self._name_nodes()
        is_regraded = False
        for key in keys:
            node = self._view.nodes.get(key)
            at = int(IPv4Address(key))
            before = self._nodes.pop(at, None)
            if node is not None:
                self._nodes[at] = node.liveness is Liveness.ALIVE
            after = self._nodes.get(at)
            if (before is None) != (after is None):
                self._replace(self._of_node.get(at, ()))
            elif before != after:
                is_regraded |= bool(self._of_node.get(at))
        return is_regraded

    def _name_nodes(self) -> None:
        """Name the nodes; costs what there is of them."""
        nodes = self._view.nodes.values()
        self._fix((Node.kind, DCOS), dcos_cluster_records(nodes))
        self._fix((Node.kind, ZK), zk_records(nodes))
        self._fix((Node.kind, ""), mesos_cluster_records(nodes, self._settings.domain))
        self._hosts = {
            node.hostname: node
            for node in sorted(nodes, key=lambda node: node.address, reverse=True)
        }
        for key in self._view.frameworks:
            self._follow_framework(key)

    def _follow_vips(self, keys: Iterable[str], held: HeldVips | None) -> None:
        vips = self._view.vips
        before = self._held
        now = {key: (vip.address,) for key, vip in vips.items()} if held is None else held
        changed: set[str] = set()
        if now is not before:
            changed = {key for key in {*now, *before} if now.get(key) != before.get(key)}
        for key in changed.union(keys):
            addresses = now.get(key, ()) if key in vips else ()
            self._fix((VipLease.kind, key), [address_record(f"{key}.{L4LB}", a) for a in addresses])
        self._held = now

    def _follow_networks(self) -> bool:
        """Follow the reverse zones; all tasks are placed anew if there are others than before."""
        networks = self._view.networks.values()
        wanted = reverse_apexes(subnet for each in networks for subnet in each.subnets)
        have = self._reverse
        if wanted == have:
            return False
        placed = list(self._places)
        for key in placed:
            self._leave(key, self._places[key].group.members[key])
        for apex in have - wanted:
            del self.indexes[apex]
        for apex in wanted - have:
            self.indexes[apex] = NameIndex(apex)
        self._reverse = wanted
        self._reverse_lengths = tuple(sorted({len(apex) for apex in wanted}, reverse=True))
        for key in placed:
            self._place(key)
        return True

    def _fix(self, ref: Ref, records: Iterable[Record]) -> None:
        """Let the object that *ref* names have just these records."""
        found = tuple(record for record in dict.fromkeys(records) if is_sendable(record.data))
        before = self._fixed.pop(ref, None)
        if found:
            self._fixed[ref] = Fixed(found)
        if before is not None and found == before.records:
            self._fixed[ref] = before
            return
        if before is not None:
            for name in dict.fromkeys(record.name for record in before.records):
                if self._apex_of(name):
                    self._remove(name, before)
        for name in dict.fromkeys(record.name for record in found):
            if self._apex_of(name):
                self._add(name, self._fixed[ref])

    def _names(self, shape: Shape) -> Mapping[str, NameIndex[Holder]]:
        """Return the names of a shape's facets that can be sent, with their zones."""
        mesos, dcos = self.indexes[self._settings.apex], self.indexes[DCOS]
        found = {each.name: mesos for each in mesos_facets(shape, self._settings)}
        found.update((each.name, dcos) for each in dcos_facets(shape))
        return {name: index for name, index in found.items() if is_encodable(name)}

    def _apex_of(self, name: str) -> str | None:
        """Return the zone that *name* lies in, None if it can't be sent or lies in none."""
        return self._zone_of(name) if is_encodable(name) else None

    def _zone_of(self, name: str) -> str | None:
        """Return the zone among ours that *name* lies in, the deepest."""
        mesos = self._settings.apex
        for apex in (mesos, DCOS, L4LB, ZK):
            if name.endswith(apex) and (name == apex or name[-len(apex) - 1] == "."):
                return apex
        for length in self._reverse_lengths:
            if (apex := name[-length:]) in self._reverse and name[-length - 1 : -length] in ".":
                return apex
        return None

    def _add(self, name: str, holder: Holder) -> None:
        apex = self._zone_of(name)
        assert apex is not None
        self._touch(name)
        self.indexes[apex].add(name, holder)

    def _remove(self, name: str, holder: Holder) -> None:
        apex = self._zone_of(name)
        assert apex is not None
        self._touch(name)
        self.indexes[apex].remove(name, holder)


def _forget(keys_of: dict[K, dict[str, None]], owner: K, key: str) -> None:
    keys = keys_of.get(owner)
    if keys is not None:
        keys.pop(key, None)
        if not keys:
            del keys_of[owner]
