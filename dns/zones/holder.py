"""Who is at a name, and which records he has there; pure."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from phalanx.dns.zones.dcos import dcos_facets
from phalanx.dns.zones.facet import Facet, Shape
from phalanx.dns.zones.index import NameIndex
from phalanx.dns.zones.mesos import mesos_facets, mesos_own_facets, reverse_name_of
from phalanx.dns.zones.record import Rdata, Record, RecordType, Srv, is_encodable
from phalanx.dns.zones.reverse import reverse_name
from phalanx.dns.zones.settings import ZoneSettings
from phalanx.net.model.objects import IPAddress, Task

Alive = Mapping[int, bool]  # of the nodes that are known, by address


@dataclass(eq=False, slots=True)
class Group:
    """Tasks of one shape and the names at which all of them are."""

    shape: Shape
    names: Mapping[str, "NameIndex[Holder]"]  # with the zone of each
    labels: Sequence[str]  # with suffixes, what canonical names are made of
    suffixes: Sequence[str]
    members: dict[str, Task] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Own:
    """The names that one task has to itself."""

    group: Group
    key: str


@dataclass(eq=False, slots=True)
class Fixed:
    """Records that no task has: of the cluster, a framework, a VIP."""

    records: tuple[Record, ...]


Holder = Group | Own | Fixed


class Origin(NamedTuple):
    """One record at a name, and the object of the View that it comes from."""

    kind: str
    key: str
    grade: int  # of tasks only the lowest answer; -1: answers in any case
    type: RecordType
    data: Rdata


def held_by(
    holder: Holder, name: str, settings: ZoneSettings, nodes: Alive
) -> Iterator[tuple[str, int, RecordType, Rdata]]:
    """Yield what a holder has at *name*: the task's key, its grade, the record."""
    if isinstance(holder, Fixed):
        for found, type_, data in holder.records:
            if found == name:
                yield "", -1, type_, data
        return
    if isinstance(holder, Own):
        members = {holder.key: holder.group.members[holder.key]}
        facets = own_facets_of(members[holder.key], holder.group.shape, settings)
    else:
        members = holder.members
        facets = facets_of(holder.shape, settings)
    for found, type_, draw in facets:
        if found == name:
            for key, task in members.items():
                grade = grade_of(task, settings, nodes)
                for data in draw(task):
                    if is_sendable(data):
                        yield key, grade, type_, data


def grade_of(task: Task, settings: ZoneSettings, nodes: Alive) -> int:
    """Return how much there is against leading clients to *task*; only the best are named.

    A task that has failed its check, or has not passed it yet, comes after
    one on a node that has been silent for a while.
    """
    grade = 0 if nodes.get(int(task.node), False) else 1
    if settings.prefers_healthy:
        is_ready = task.healthy is True if task.is_checked else task.healthy is not False
        grade += 0 if is_ready else 2
    return grade


def best_of(grades: Mapping[int, set[Rdata]]) -> set[Rdata]:
    """Return the data of the best grade, and what is of none in any case."""
    fixed = grades.get(-1, set())
    tasks = [grade for grade in grades if grade >= 0]
    return fixed | grades[min(tasks)] if tasks else fixed


def facets_of(shape: Shape, settings: ZoneSettings) -> Iterator[Facet]:
    """Return where all tasks of one shape are."""
    yield from mesos_facets(shape, settings)
    yield from dcos_facets(shape)


def own_facets_of(task: Task, shape: Shape, settings: ZoneSettings) -> Iterator[Facet]:
    """Return where one task is alone."""
    yield from mesos_own_facets(task, shape, settings)
    if not task.is_on_host_network and (name := reverse_name_of(shape, settings)):
        for address in own_addresses(task):
            yield Facet(reverse_name(address), RecordType.PTR, lambda _: (name,))


def all_facets_of(task: Task, shape: Shape, settings: ZoneSettings) -> Iterator[Facet]:
    """Return where one task is, alone or not."""
    return itertools.chain(facets_of(shape, settings), own_facets_of(task, shape, settings))


def own_addresses(task: Task) -> tuple[IPAddress, ...]:
    """Return the addresses of a task itself."""
    return (*task.addresses, *task.addresses6)


def is_sendable(data: Rdata) -> bool:
    """Tell whether a record can be put into a message."""
    if isinstance(data, Srv):
        return is_encodable(data.target)
    return not isinstance(data, str) or is_encodable(data)
