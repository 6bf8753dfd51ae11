"""The names of zone ``mesos``, as Mesos-DNS makes them (reference dns §1.3)."""

from collections.abc import Iterable, Iterator
from ipaddress import AddressValueError, IPv4Address
from urllib.parse import urlsplit

from phalanx.dns.zones.hostname import (
    LABEL_BYTES,
    agent_suffix,
    rfc1123_domain,
    rfc1123_label,
    task_hash,
)
from phalanx.dns.zones.record import Record, RecordType, Srv
from phalanx.net.model.objects import Framework, Liveness, Node, Task

DEFAULT_MASTER_PORT = 5050
TRANSPORTS = ("tcp", "udp")


def mesos_task_records(task: Task, framework_name: str, domain: str) -> Iterator[Record]:
    """Return the records of one running task.

    A discovery name takes the place of the task's, and its names exist twice:
    with the name as it was given (``a.b.marathon.mesos``) and as one label
    (``a-b.marathon.mesos``).
    """
    framework = rfc1123_domain(framework_name)
    host = f"-{task_hash(task.id)}-{agent_suffix(task.agent_id)}"
    if not task.discovery_name:
        label = rfc1123_label(task.name)
        yield from _named(task, label, host, f"{framework}.", f"{domain}.")
        return
    for label in dict.fromkeys((task.discovery_name.lower(), rfc1123_label(task.discovery_name))):
        yield from _named(task, label, host, f"{framework}.", f"{domain}.")


def _named(task: Task, label: str, host: str, framework: str, domain: str) -> Iterator[Record]:
    short = f"{label}.{framework}"
    head, dot, last = label.rpartition(".")
    cut = last[: LABEL_BYTES - len(host)].rstrip("-")
    canonical = f"{head}{dot}{cut}{host}.{framework}"
    addresses = task.addresses or (task.node,)
    for name in (short, canonical):
        for address in addresses:
            yield Record(name + domain, RecordType.A, address)
        yield Record(f"{name}slave.{domain}", RecordType.A, task.node)
    slave = f"{canonical}slave.{domain}"
    for begin, end in task.port_resources:
        for port in range(begin, end + 1):
            for transport in TRANSPORTS:
                service = f"_{label}._{transport}.{framework}"
                yield Record(f"{service}slave.{domain}", RecordType.SRV, Srv(slave, port))
                if not task.discovery_name:
                    yield Record(service + domain, RecordType.SRV, Srv(slave, port))
    if not task.discovery_name:
        return
    for announced in task.ports:
        target = Srv(canonical + domain, announced.number)
        for transport in _transports(announced.protocol):
            service = f"_{label}._{transport}.{framework}{domain}"
            yield Record(service, RecordType.SRV, target)
            if port_label := rfc1123_label(announced.name):
                yield Record(f"_{port_label}.{service}", RecordType.SRV, target)


def _transports(protocol: str) -> Iterable[str]:
    return list(filter(None, map(rfc1123_label, protocol.split(",")))) or TRANSPORTS


def mesos_framework_records(
    framework: Framework, nodes: Iterable[Node], domain: str
) -> Iterator[Record]:
    """Return where the framework's scheduler is, if its host is an address or a node's name."""
    name = rfc1123_domain(framework.name)
    if not name:
        return
    for host in (framework.hostname, urlsplit(framework.webui_url).hostname or ""):
        if (address := _address(host, nodes)) is not None:
            yield Record(f"{name}.{domain}.", RecordType.A, address)
            return


def _address(host: str, nodes: Iterable[Node]) -> IPv4Address | None:
    try:
        return IPv4Address(host)
    except AddressValueError:
        return next((node.address for node in nodes if host and node.hostname == host), None)


def mesos_cluster_records(nodes: Iterable[Node], domain: str) -> Iterator[Record]:
    """Return the names of masters and agents; masters are numbered by address, from 0."""
    tail = f"{domain}."
    ordered = sorted(nodes, key=lambda node: node.address)
    for node in ordered:
        if node.agent_id is not None and node.liveness is not Liveness.UNREACHABLE:
            yield Record(f"slave.{tail}", RecordType.A, node.address)
            yield Record(f"_slave._tcp.{tail}", RecordType.SRV, Srv(f"slave.{tail}", node.port))
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
