"""All zones of a node, from the View."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address

from phalanx.dns.zones.dcos import APEX as DCOS
from phalanx.dns.zones.dcos import dcos_cluster_records, dcos_task_records
from phalanx.dns.zones.mesos import (
    mesos_cluster_records,
    mesos_framework_records,
    mesos_task_records,
)
from phalanx.dns.zones.record import Record, RecordType
from phalanx.dns.zones.zone import Zone, build_zone
from phalanx.net.model.objects import Liveness, Task, TaskPhase
from phalanx.net.model.view import View

L4LB = "l4lb.thisdcos.directory."
THIS_NODE = "thisnode.thisdcos.directory."
SPARTAN = "spartan."
LOCALHOST = "localhost."
DIRECTORY = "thisdcos.directory."
GLOBAL = "thisdcos.global."
LOOPBACK = IPv4Address("127.0.0.1")

Zones = Mapping[str, Zone | None]  # by apex; None: ours, but no View has come yet


def task_records(task: Task, framework_name: str, domain: str) -> tuple[Record, ...]:
    """Return the records of one task in all zones; none unless it runs."""
    if task.phase is not TaskPhase.RUNNING:
        return ()
    return (
        *mesos_task_records(task, framework_name, domain),
        *dcos_task_records(task, framework_name),
    )


def desired_zones(
    view: View,
    *,
    domain: str,
    held: Collection[str] | None,
    serial: int,
    servers: Sequence[IPv4Address],
) -> Zones:
    """Return the zones that follow the View.

    Of the named VIPs only those in *held* have a name: the data plane of this
    node serves them already. None stands for all. *servers* are the addresses
    that we answer on.
    """
    mesos = f"{domain}."
    nodes = view.nodes.values()
    records: dict[str, list[Record]] = {
        mesos: [Record(f"ns1.{mesos}", RecordType.A, address) for address in servers],
        DCOS: [],
        L4LB: [
            Record(f"{lease.name}.{L4LB}", RecordType.A, lease.address)
            for lease in view.vips.values()
            if held is None or lease.name in held
        ],
    }
    records[mesos] += mesos_cluster_records(nodes, domain)
    for framework in view.frameworks.values():
        records[mesos] += mesos_framework_records(framework, nodes, domain)
    records[DCOS] += dcos_cluster_records(nodes)
    for record in _all_task_records(view, domain):
        records[DCOS if record.name.endswith(DCOS) else mesos].append(record)
    return {apex: build_zone(apex, found, serial=serial) for apex, found in records.items()}


def _all_task_records(view: View, domain: str) -> Iterator[Record]:
    """Return every task's records, without those of silent nodes where others are at the name.

    A name all of whose nodes are silent keeps them: losing sight of everyone
    is more often our own fault than theirs.
    """
    seen: list[Record] = []
    doubtful: list[Record] = []
    for task in view.tasks.values():
        framework = view.frameworks.get(task.framework_id)
        node = view.nodes.get(str(task.node))
        if framework is not None and node is not None:
            found = task_records(task, framework.name, domain)
            (seen if node.liveness is Liveness.ALIVE else doubtful).extend(found)
    yield from seen
    if doubtful:
        named = {(record.name, record.type) for record in seen}
        yield from (each for each in doubtful if (each.name, each.type) not in named)


def static_zones(*, node: IPv4Address, servers: Sequence[IPv4Address], serial: int) -> Zones:
    """Return the zones that need no View; unknown names below ours end here, not upstream."""
    records = {
        SPARTAN: [
            Record(f"ready.{SPARTAN}", RecordType.A, LOOPBACK),
            *(Record(f"ns.{SPARTAN}", RecordType.A, address) for address in servers),
        ],
        LOCALHOST: [Record(LOCALHOST, RecordType.A, LOOPBACK)],
        THIS_NODE: [Record(THIS_NODE, RecordType.A, node)],
        DIRECTORY: [],
        GLOBAL: [],
    }
    return {apex: build_zone(apex, found, serial=serial) for apex, found in records.items()}


def unknown_zones(domain: str) -> Zones:
    """Return the zones that are ours while no View has come."""
    return dict.fromkeys((f"{domain}.", DCOS, L4LB))


def zone_aliases(domain: str) -> Mapping[str, str]:
    """Return other names of our zones, as DC/OS has them, to the apex that each stands for."""
    return {
        "dcos.thisdcos.global.": DCOS,
        "l4lb.thisdcos.global.": L4LB,
        "dclb.thisdcos.directory.": L4LB,
        "dclb.thisdcos.global.": L4LB,
        "thisnode.thisdcos.global.": THIS_NODE,
        "mesos.thisdcos.directory.": f"{domain}.",
        "mesos.thisdcos.global.": f"{domain}.",
    }
