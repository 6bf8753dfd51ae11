"""The names of zone ``dcos.thisdcos.directory`` (reference dcos-net §2.5)."""

from collections.abc import Iterable, Iterator

from phalanx.dns.zones.record import Record, RecordType
from phalanx.net.model.label import label
from phalanx.net.model.objects import Node, Task

APEX = "dcos.thisdcos.directory."


def dcos_task_records(task: Task, framework_name: str) -> Iterator[Record]:
    """Return the addresses of one running task: of its agent, its own, and the reachable one.

    ``autoip`` is the agent's address when a port of the agent leads to the
    task, else the task's own, and the agent's again when it has none.
    """
    name = f"{label(task.discovery_name or task.name)}.{label(framework_name)}"
    on_agent = (task.node,)
    automatic = on_agent if task.host_ports else task.addresses or on_agent
    for kind, addresses in (
        ("agentip", on_agent),
        ("containerip", task.addresses),
        ("autoip", automatic),
    ):
        for address in addresses:
            yield Record(f"{name}.{kind}.{APEX}", RecordType.A, address)


def dcos_cluster_records(nodes: Iterable[Node]) -> Iterator[Record]:
    """Return the names of the masters."""
    for node in nodes:
        if node.is_master:
            yield Record(f"master.{APEX}", RecordType.A, node.address)
        if node.is_leader:
            yield Record(f"leader.{APEX}", RecordType.A, node.address)
