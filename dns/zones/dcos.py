"""The names of zones ``dcos.thisdcos.directory`` and ``zk`` (reference dcos-net §2.4, §2.5)."""

import itertools
from collections.abc import Iterable, Iterator

from phalanx.dns.zones.facet import Facet, Shape
from phalanx.dns.zones.record import Rdata, Record, RecordType
from phalanx.net.model.label import label
from phalanx.net.model.objects import Node, Task

APEX = "dcos.thisdcos.directory."
ZK = "zk."
ZK_NAMES = 5  # as many as DC/OS has, however many masters there are


def dcos_facets(shape: Shape) -> Iterator[Facet]:
    """Return where tasks of one shape have their agent's, their own, and the reachable address.

    ``autoip`` is the agent's address when a port of the agent leads to the
    task, else the task's own, and the agent's again when it has none.
    """
    name = f"{label(shape.text)}.{label(shape.framework)}"
    yield Facet(f"{name}.agentip.{APEX}", RecordType.A, _agent)
    container, automatic = f"{name}.containerip.{APEX}", f"{name}.autoip.{APEX}"
    if shape.has_address:
        yield Facet(container, RecordType.A, _container)
    yield Facet(automatic, RecordType.A, _automatic)
    if shape.has_address6:
        yield Facet(container, RecordType.AAAA, _container6)
        yield Facet(automatic, RecordType.AAAA, _automatic6)


def _agent(task: Task) -> tuple[Rdata, ...]:
    return (task.node,)


def _container(task: Task) -> tuple[Rdata, ...]:
    return task.addresses


def _container6(task: Task) -> tuple[Rdata, ...]:
    return task.addresses6


def _automatic(task: Task) -> tuple[Rdata, ...]:
    if task.host_ports or not (task.addresses or task.addresses6):
        return (task.node,)
    return task.addresses


def _automatic6(task: Task) -> tuple[Rdata, ...]:
    return () if task.host_ports else task.addresses6


def dcos_cluster_records(nodes: Iterable[Node]) -> Iterator[Record]:
    """Return the names of the masters."""
    for node in nodes:
        if node.is_master:
            yield Record(f"master.{APEX}", RecordType.A, node.address)
        if node.is_leader:
            yield Record(f"leader.{APEX}", RecordType.A, node.address)


def zk_records(nodes: Iterable[Node]) -> Iterator[Record]:
    """Return ``zk-1.zk`` to ``zk-5.zk``: the masters by address, again from the first when few."""
    masters = sorted(node.address for node in nodes if node.is_master)
    for number, address in zip(range(ZK_NAMES), itertools.cycle(masters), strict=False):
        yield Record(f"zk-{number + 1}.{ZK}", RecordType.A, address)
