"""From the View to the services that every node should hold; pure.

A backend's weight is 1 when it may have new connections and 0 when it is to be
drained: not healthy, not yet checked, on its way out, or on a node that has
gone silent. A service none of whose nodes is alive keeps its backends as if
they were: losing sight of everyone is more often our own fault than theirs.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, ip_network

import msgspec

from phalanx.lb.service import Backend, Endpoint, Service, Vip
from phalanx.net.model.objects import (
    NODES6,
    IPAddress,
    Liveness,
    Protocol,
    Task,
    TaskPhase,
    TaskPort,
)
from phalanx.net.model.view import View
from phalanx.net.model.vip import AddressVip, NamedVip, declared_vips

SCOPE_KEY = "network-scope"
HOST_SCOPE = "host"
# What a task may not choose for itself: this host, the resolvers' addresses, groups and broadcast.
RESERVED = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"),
            *("198.51.100.0/24", "224.0.0.0/3"),
            *("::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8", str(NODES6)),
        ),
    )
)


class Candidate(msgspec.Struct, frozen=True):
    """An endpoint behind a VIP, before the service as a whole has decided its weight."""

    endpoint: Endpoint
    is_ready: bool
    is_seen: bool  # its node is alive


def desired_services(view: View, *, node: IPv4Address | None = None) -> dict[Vip, Service]:
    """Return the services of *view*; a named VIP without a lease has none yet.

    Nor has a VIP by an address that is in use: taking a master's would cut the
    cluster off from whoever could take the VIP back.

    On *node*, a port of the node that leads to a container of its own becomes
    the container's: the kernel translates a destination once only.
    """
    candidates: dict[Vip, list[Candidate]] = {}
    for task in view.tasks.values():
        if task.ports and task.phase is not TaskPhase.PREPARING:
            for vip, candidate in _candidates(view, task, node):
                candidates.setdefault(vip, []).append(candidate)
    return {vip: Service.of(_weighted(found)) for vip, found in candidates.items()}


def _candidates(
    view: View, task: Task, node: IPv4Address | None
) -> Iterator[tuple[Vip, Candidate]]:
    framework = view.frameworks.get(task.framework_id)
    machine = view.nodes.get(str(task.node))
    is_alive = machine is not None and machine.liveness is Liveness.ALIVE
    is_seen = is_alive and task.phase is not TaskPhase.UNREACHABLE
    for declared in declared_vips(task, framework.name if framework is not None else ""):
        vip = declared.vip
        address = _address(view, vip)
        endpoint = _endpoint(view, task, declared.port, vip.protocol, node)
        if address is not None and endpoint is not None:
            yield (
                Vip(address, vip.port, vip.protocol),
                Candidate(endpoint, is_ready(task), is_seen),
            )


def is_ready(task: Task) -> bool:
    """Tell whether the task itself may have new connections, wherever its node is."""
    if task.phase not in (TaskPhase.RUNNING, TaskPhase.UNREACHABLE):
        return False
    return task.healthy is True if task.is_checked else task.healthy is not False


def _address(view: View, vip: NamedVip | AddressVip) -> IPAddress | None:
    if isinstance(vip, AddressVip):
        return None if is_in_use(view, vip.address) else vip.address
    lease = view.vips.get(vip.name)
    return None if lease is None else lease.address


def is_in_use(view: View, address: IPAddress) -> bool:
    """Tell whether an address is a node's, lies in a network, or is reserved."""
    return (
        str(address) in view.nodes
        or any(address in each for network in view.networks.values() for each in network.subnets)
        or any(address in prefix for prefix in RESERVED)
    )


def _weighted(candidates: Iterable[Candidate]) -> Iterator[Backend]:
    known = tuple(candidates)
    is_anyone_seen = any(candidate.is_seen for candidate in known)
    for candidate in known:
        counts = candidate.is_ready and (candidate.is_seen or not is_anyone_seen)
        yield Backend(candidate.endpoint.address, candidate.endpoint.port, int(counts))


def _endpoint(
    view: View, task: Task, port: TaskPort, protocol: Protocol, node: IPv4Address | None
) -> Endpoint | None:
    """Return where connections for the port go: the container if it can be reached, or its node."""
    if task.is_on_host_network:
        return Endpoint(task.node, port.number)
    is_host_scope = (SCOPE_KEY, HOST_SCOPE) in port.labels
    if not is_host_scope:
        for address, network in zip(task.addresses, task.networks, strict=False):
            if network in view.networks:
                return Endpoint(address, port.number)
    for mapping in task.host_ports:
        here = mapping.host_port if is_host_scope else mapping.container_port
        if here == port.number and protocol in mapping.protocol.lower().split(","):
            if task.node == node and task.addresses:
                return Endpoint(task.addresses[0], mapping.container_port)
            return Endpoint(task.node, mapping.host_port)
    if is_host_scope:
        return Endpoint(task.node, port.number)
    return Endpoint(task.addresses[0], port.number) if task.addresses else None
