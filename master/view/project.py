"""From the master's tables to objects of the View; pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any, TypeVar

import msgspec

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.framework import Framework
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1 import mesos as v1
from phalanx.net.model.objects import Framework as ViewFramework
from phalanx.net.model.objects import (
    HostPort,
    Liveness,
    Node,
    Task,
    TaskPhase,
    TaskPort,
)

A = TypeVar("A")

PHASES: Mapping[v1.TaskState, TaskPhase] = {
    v1.TaskState.TASK_STAGING: TaskPhase.PREPARING,
    v1.TaskState.TASK_STARTING: TaskPhase.PREPARING,
    v1.TaskState.TASK_RUNNING: TaskPhase.RUNNING,
    v1.TaskState.TASK_KILLING: TaskPhase.KILLING,
    v1.TaskState.TASK_UNREACHABLE: TaskPhase.UNREACHABLE,
}
Master = tuple[IPv4Address, str, int]  # address, hostname and port

# The better of two agents on one address is what the node shows.
RANK = {Liveness.ALIVE: 0, Liveness.SUSPECT: 1, Liveness.UNREACHABLE: 2}


def desired_nodes(
    agents: Iterable[Agent], leader: Master, others: Iterable[Master] = ()
) -> Mapping[str, Node]:
    """Return one node for each address: of the leader, of other masters, of agents."""
    chosen: dict[IPv4Address, Agent] = {}
    for agent in agents:
        rival = chosen.get(agent.address)
        if rival is None or RANK[agent.liveness] < RANK[rival.liveness]:
            chosen[agent.address] = agent
    nodes = {
        str(address): Node(address, hostname, is_master=True, port=port)
        for address, hostname, port in others
    }
    address, hostname, port = leader
    nodes[str(address)] = Node(address, hostname, is_master=True, is_leader=True, port=port)
    for agent in chosen.values():
        master = nodes.get(str(agent.address))
        nodes[str(agent.address)] = Node(
            agent.address,
            agent.info.hostname,
            is_master=master is not None,
            is_leader=agent.address == address,
            agent_id=agent.id,
            port=agent.info.port,
            liveness=agent.liveness,
        )
    return nodes


def desired_framework(framework: Framework) -> ViewFramework | None:
    """Return the framework, None when it has neither tasks nor a connection."""
    if not framework.is_connected and not framework.tasks and not framework.unreachable:
        return None
    info = framework.info
    return ViewFramework(framework.id, info.name, info.hostname or "", info.webui_url or "")


def desired_task(task: v1.Task, node: IPv4Address) -> Task | None:
    """Return the task on *node* as planes see it, None when it is over."""
    phase = PHASES.get(task.state)
    if phase is None:
        return None
    return Task(
        framework_id=task.framework_id.value,
        id=task.task_id.value,
        name=task.name,
        agent_id=task.agent_id.value,
        node=node,
        phase=phase,
        is_checked=task.health_check is not None,
        healthy=_healthy(task),
        discovery_name=(task.discovery.name or "") if task.discovery is not None else "",
        ports=_ports(task.discovery),
        port_resources=_port_resources(task),
        labels=_labels(task.labels),
        **_places(_network_infos(task)),
    )


def followed_task(was: v1.Task, shown: Task, task: v1.Task, node: IPv4Address) -> Task | None:
    """Return the same as desired_task, from what *was* shown of the task; *shown* if it still is.

    Nearly all that happens to a task is its state: what it was launched with is not read again.
    """
    if not all(
        getattr(task, name) is getattr(was, name)
        for name in ("name", "labels", "discovery", "resources", "health_check", "agent_id")
    ):
        return desired_task(task, node)
    phase = PHASES.get(task.state)
    if phase is None:
        return None
    changes: dict[str, Any] = {}
    if phase is not shown.phase:
        changes["phase"] = phase
    if (healthy := _healthy(task)) is not shown.healthy:
        changes["healthy"] = healthy
    if node != shown.node:
        changes["node"] = node
    if (reported := _network_infos(task)) != _network_infos(was):
        changes |= _places(reported)
    return msgspec.structs.replace(shown, **changes) if changes else shown


def wanted_networks(task: v1.Task) -> frozenset[str]:
    """Return the names of the networks that a task asks for or is attached to."""
    asked = task.container.network_infos if task.container is not None else ()
    return frozenset(info.name for info in (*asked, *_network_infos(task)) if info.name)


def _places(reported: Sequence[v1.NetworkInfo]) -> dict[str, Any]:
    """Return the fields of a Task that say where it can be reached."""
    addresses, names = _first_each(reported, _address)
    addresses6, names6 = _first_each(reported, _address6)
    is_on_host = not any((*names, *names6))
    return {
        "addresses": addresses,
        "networks": () if is_on_host else names,
        "addresses6": addresses6,
        "networks6": () if is_on_host else names6,
        "host_ports": tuple(
            HostPort(port.host_port, port.container_port, port.protocol or "tcp")
            for info in reported
            for port in info.port_mappings
        ),
    }


def _port_resources(task: v1.Task) -> tuple[tuple[int, int], ...]:
    ports = [resource for resource in task.resources if resource.name == "ports"]
    return Resources.of(ports).ranges.get("ports", ()) if ports else ()


def _network_infos(task: v1.Task) -> tuple[v1.NetworkInfo, ...]:
    """Return what the newest status that knows of the container says of its networks."""
    for status in reversed(task.statuses):
        if status.container_status is not None and status.container_status.network_infos:
            return status.container_status.network_infos
    return ()


def _healthy(task: v1.Task) -> bool | None:
    """Return the newest verdict; a status that only the master made has none of its own."""
    for status in reversed(task.statuses):
        if status.healthy is not None or status.source != "SOURCE_MASTER":
            return status.healthy
    return None


def _ports(discovery: v1.DiscoveryInfo | None) -> tuple[TaskPort, ...]:
    if discovery is None or discovery.ports is None:
        return ()
    return tuple(
        TaskPort(
            port.number,
            port.name or "",
            port.protocol or "tcp",
            _labels(port.labels),
        )
        for port in discovery.ports.ports
    )


def _labels(labels: v1.Labels | None) -> tuple[tuple[str, str], ...]:
    if labels is None:
        return ()
    return tuple((label.key, label.value or "") for label in labels.labels)


def _first_each(
    infos: Iterable[v1.NetworkInfo], read: Callable[[v1.IPAddress], A | None]
) -> tuple[tuple[A, ...], tuple[str, ...]]:
    """Return each network's first address that *read* understands, and the networks' names."""
    found = [
        (first, info.name or "")
        for info in infos
        if (first := next(filter(None, map(read, info.ip_addresses)), None)) is not None
    ]
    return tuple(address for address, _ in found), tuple(name for _, name in found)


def _address(address: v1.IPAddress) -> IPv4Address | None:
    try:
        return IPv4Address((address.ip_address or "").partition("/")[0])
    except AddressValueError:
        return None


def _address6(address: v1.IPAddress) -> IPv6Address | None:
    try:
        return IPv6Address((address.ip_address or "").partition("/")[0])
    except AddressValueError:
        return None
