"""A lab's state as values: what runs, under which number, and how to reach it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from phalanx.labs.place import Place
from phalanx.labs.process import Birth
from phalanx.labs.record import Record

RUNNING = "running"
DEAD = "dead"


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of a node; a dead one has no number."""

    name: str
    pid: int | None
    state: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node; *condition* is empty, ``off`` or ``partitioned``."""

    name: str
    role: str
    netns: str
    address: str
    processes: tuple[ProcessStatus, ...]
    condition: str = ""


@dataclass(frozen=True, slots=True)
class LabStatus:
    """The whole lab."""

    name: str
    master: str
    marathon: str
    nodes: tuple[NodeStatus, ...]


def url(port: int) -> str:
    """Return the URL of one of the relay's ports."""
    return f"http://127.0.0.1:{port}"


def lab_status(
    place: Place,
    record: Record,
    *,
    is_alive: Callable[[Birth], bool],
    partitioned: frozenset[str],
    ports: tuple[int, int] | None,
) -> LabStatus:
    """Return the state of the lab that *record* describes."""

    def processes(node: str) -> tuple[ProcessStatus, ...]:
        return tuple(
            ProcessStatus(process.name, process.birth.pid, RUNNING)
            if process.birth is not None and is_alive(process.birth)
            else ProcessStatus(process.name, None, DEAD)
            for process in record.of_node(node)
        )

    def condition(node: str) -> str:
        if node in record.powered_off:
            return "off"
        return "partitioned" if node in partitioned else ""

    master, marathon = (url(ports[0]), url(ports[1])) if ports else ("", "")
    nodes = tuple(
        NodeStatus(
            node.name,
            node.role.value,
            place.netns(node.name),
            str(node.address),
            processes(node.name),
            condition(node.name),
        )
        for node in record.topology.nodes
    )
    return LabStatus(place.lab, master, marathon, nodes)


def status_to_json(status: LabStatus) -> dict[str, Any]:
    """Return the state as ``phalanx lab status --json`` prints it."""
    return {
        "name": status.name,
        "master": status.master,
        "marathon": status.marathon,
        "nodes": [
            {
                "name": node.name,
                "role": node.role,
                "netns": node.netns,
                "address": node.address,
                "processes": [
                    {"name": process.name, "pid": process.pid, "state": process.state}
                    for process in node.processes
                ],
            }
            for node in status.nodes
        ],
    }


def status_rows(status: LabStatus) -> Sequence[tuple[str, ...]]:
    """Return the state as rows of a table: node, role, address, namespace, processes."""
    return [
        (
            f"{node.name} ({node.condition})" if node.condition else node.name,
            node.role,
            node.address,
            node.netns,
            "  ".join(_shown(process) for process in node.processes),
        )
        for node in status.nodes
    ]


def _shown(process: ProcessStatus) -> str:
    return f"{process.name} {process.pid or process.state}"
