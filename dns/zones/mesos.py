"""The names of zone ``mesos``, as Mesos-DNS makes them (reference dns §1.3)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address
from urllib.parse import urlsplit

import msgspec

from phalanx.dns.zones.facet import Facet, Shape
from phalanx.dns.zones.hostname import (
    LABEL_BYTES,
    agent_suffix,
    rfc952_domain,
    rfc952_label,
    rfc1123_domain,
    rfc1123_label,
    task_hash,
)
from phalanx.dns.zones.record import Rdata, Record, RecordType, Srv
from phalanx.dns.zones.settings import ZoneSettings
from phalanx.net.model.objects import Framework, Liveness, Node, Task

DEFAULT_MASTER_PORT = 5050
TRANSPORTS = ("tcp", "udp")


def mesos_facets(shape: Shape, settings: ZoneSettings) -> Iterator[Facet]:
    """Return where all tasks of one shape appear together.

    A discovery name takes the place of the task's, and its names exist twice:
    with the name as it was given (``a.b.marathon.mesos``) and as one label
    (``a-b.marathon.mesos``).
    """
    framework = _domain(shape.framework, settings)
    if not framework:
        return
    apex = settings.apex
    slave = f"slave.{apex}"
    addresses = tuple(_addresses_of(shape, settings))
    for label in stems(shape, settings):
        short = f"{label}.{framework}."
        for type_, draw in addresses:
            yield Facet(short + apex, type_, draw)
        yield Facet(short + slave, RecordType.A, _node)
        at_slave = _host_ports(label, f".{framework}.{slave}")
        if shape.has_port_resources:
            for transport in TRANSPORTS:
                service = f"_{label}._{transport}.{framework}."
                yield Facet(service + slave, RecordType.SRV, at_slave)
                if not shape.is_discovered:
                    yield Facet(service + apex, RecordType.SRV, at_slave)
        if shape.is_discovered:
            for tail in (apex, slave):
                yield from _services(shape, label, framework, tail, settings)


def mesos_own_facets(task: Task, shape: Shape, settings: ZoneSettings) -> Iterator[Facet]:
    """Return the canonical names, which one task has to itself."""
    framework = _domain(shape.framework, settings)
    if not framework:
        return
    host = _host(task)
    addresses = tuple(_addresses_of(shape, settings))
    for label in stems(shape, settings):
        name = f"{_canonical(label, host)}.{framework}."
        for type_, draw in addresses:
            yield Facet(name + settings.apex, type_, draw)
        yield Facet(f"{name}slave.{settings.apex}", RecordType.A, _node)


def own_suffixes(shape: Shape, settings: ZoneSettings) -> tuple[str, ...]:
    """Return what follows the first label of every canonical name, once for each."""
    framework = _domain(shape.framework, settings)
    if not framework:
        return ()
    address = (settings.apex,) if any(_addresses_of(shape, settings)) else ()
    return tuple(f".{framework}.{tail}" for tail in (*address, f"slave.{settings.apex}"))


def own_names(task: Task, labels: Sequence[str], suffixes: Sequence[str]) -> Iterator[str]:
    """Return the names of mesos_own_facets from what the task's whole shape has in common."""
    if suffixes:
        host = _host(task)
        for label in labels:
            stem = _canonical(label, host)
            for suffix in suffixes:
                yield stem + suffix


def reverse_name_of(shape: Shape, settings: ZoneSettings) -> str | None:
    """Return the name that a container's address leads back to."""
    framework = _domain(shape.framework, settings)
    label = _label(shape.text, settings)
    return f"{label}.{framework}.{settings.apex}" if framework and label else None


def stems(shape: Shape, settings: ZoneSettings) -> Sequence[str]:
    """Return the first parts of a task's names; the last one is a label."""
    label = _label(shape.text, settings)
    if not shape.is_discovered or not label:
        return (label,) if label else ()
    return tuple(dict.fromkeys((shape.text.lower(), label)))


def _services(
    shape: Shape, label: str, framework: str, tail: str, settings: ZoneSettings
) -> Iterator[Facet]:
    for number, (name, protocol) in enumerate(shape.ports):
        draw = _announced(number, label, f".{framework}.{tail}")
        for transport in _transports(protocol):
            service = f"_{label}._{transport}.{framework}.{tail}"
            yield Facet(service, RecordType.SRV, draw)
            if port_label := _label(name, settings):
                yield Facet(f"_{port_label}.{service}", RecordType.SRV, draw)


def _transports(protocol: str) -> Iterable[str]:
    return list(filter(None, map(rfc1123_label, protocol.split(",")))) or TRANSPORTS


def _node(task: Task) -> tuple[Rdata, ...]:
    return (task.node,)


def _own(task: Task) -> tuple[Rdata, ...]:
    return task.addresses


def _own6(task: Task) -> tuple[Rdata, ...]:
    return task.addresses6


def _addresses_of(
    shape: Shape, settings: ZoneSettings
) -> Iterator[tuple[RecordType, Callable[[Task], tuple[Rdata, ...]]]]:
    """Yield what draws the addresses of the first source that has any, of either family."""
    if settings.is_host_first:
        yield RecordType.A, _node
        return
    if shape.has_address:
        yield RecordType.A, _own
    if shape.has_address6:
        yield RecordType.AAAA, _own6
    if not (shape.has_address or shape.has_address6) and settings.has_host:
        yield RecordType.A, _node


def _host_ports(label: str, tail: str) -> Callable[[Task], Iterator[Rdata]]:
    """Return what draws one service for each port of the node that a task holds."""

    def draw(task: Task) -> Iterator[Rdata]:
        target = _canonical(label, _host(task)) + tail
        for begin, end in task.port_resources:
            for port in range(begin, end + 1):
                yield Srv(target, port)

    return draw


def _announced(number: int, label: str, tail: str) -> Callable[[Task], tuple[Rdata, ...]]:
    def draw(task: Task) -> tuple[Rdata, ...]:
        return (Srv(_canonical(label, _host(task)) + tail, task.ports[number].number),)

    return draw


def _host(task: Task) -> str:
    return f"-{task_hash(task.id)}-{agent_suffix(task.agent_id)}"


def _canonical(label: str, host: str) -> str:
    """Return the name of one task; its last label is cut so that it can be sent."""
    head, dot, last = label.rpartition(".")
    return f"{head}{dot}{last[: LABEL_BYTES - len(host)].rstrip('-')}{host}"


def _label(text: str, settings: ZoneSettings) -> str:
    return rfc952_label(text) if settings.enforces_rfc952 else rfc1123_label(text)


def _domain(text: str, settings: ZoneSettings) -> str:
    return rfc952_domain(text) if settings.enforces_rfc952 else rfc1123_domain(text)


def mesos_framework_records(
    framework: Framework, nodes: Mapping[str, Node], settings: ZoneSettings
) -> Iterator[Record]:
    """Return where the framework's scheduler is, if its host is an address or a node's name.

    *nodes* are by host name.
    """
    name = _domain(framework.name, settings)
    if not name:
        return
    for host in (framework.hostname, urlsplit(framework.webui_url).hostname or ""):
        if (address := _address(host, nodes)) is not None:
            yield Record(f"{name}.{settings.apex}", RecordType.A, address)
            return


def _address(host: str, nodes: Mapping[str, Node]) -> IPv4Address | None:
    try:
        return IPv4Address(host)
    except AddressValueError:
        return nodes[host].address if host and host in nodes else None


def named(node: Node | None) -> Node | None:
    """Return what of a node decides names: not whether it is only suspected."""
    if node is None or node.liveness is not Liveness.SUSPECT:
        return node
    return msgspec.structs.replace(node, liveness=Liveness.ALIVE)


def mesos_cluster_records(nodes: Iterable[Node], domain: str) -> Iterator[Record]:
    """Return the names of masters and agents; masters are numbered by address, from 0."""
    tail = f"{domain}."
    ordered = sorted(nodes, key=lambda node: node.address)
    agents = [
        node
        for node in ordered
        if node.agent_id is not None and node.liveness is not Liveness.UNREACHABLE
    ]
    for node in agents:
        yield Record(f"slave.{tail}", RecordType.A, node.address)
    for port in dict.fromkeys(node.port for node in agents):
        yield Record(f"_slave._tcp.{tail}", RecordType.SRV, Srv(f"slave.{tail}", port))
    masters = [node for node in ordered if node.is_master]
    for number, node in enumerate(masters):
        yield Record(f"master.{tail}", RecordType.A, node.address)
        yield Record(f"master{number}.{tail}", RecordType.A, node.address)
        if node.is_leader:
            port = DEFAULT_MASTER_PORT if node.agent_id is not None else node.port
            leader = Srv(f"leader.{tail}", port or DEFAULT_MASTER_PORT)
            yield Record(f"leader.{tail}", RecordType.A, node.address)
            for transport in TRANSPORTS:
                yield Record(f"_leader._{transport}.{tail}", RecordType.SRV, leader)
