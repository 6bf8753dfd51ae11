"""Where a task appears: a name, a type, and what the task puts there."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from phalanx.dns.zones.record import Rdata, Record, RecordType
from phalanx.net.model.objects import Task


class Facet(NamedTuple):
    """One RRset that tasks share; *draw* says what one of them adds to it."""

    name: str
    type: RecordType
    draw: Callable[[Task], Iterable[Rdata]]


class Shape(NamedTuple):
    """All that decides at which shared names a task appears; the tasks of one app have one."""

    framework: str  # its name, as it was given
    text: str  # the discovery name, else the task's
    is_discovered: bool
    ports: tuple[tuple[str, str], ...]  # name and protocol of each announced port
    has_address: bool
    has_address6: bool
    has_port_resources: bool


def shape_of(task: Task, framework_name: str) -> Shape:
    """Return the shape of *task*."""
    return Shape(
        framework_name,
        task.discovery_name or task.name,
        bool(task.discovery_name),
        tuple([(port.name, port.protocol) for port in task.ports]),
        bool(task.addresses),
        bool(task.addresses6),
        bool(task.port_resources),
    )


def drawn(facets: Iterable[Facet], task: Task) -> Iterator[Record]:
    """Return what *task* has at *facets*."""
    for name, type_, draw in facets:
        for data in draw(task):
            yield Record(name, type_, data)
