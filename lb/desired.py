"""From the View to the services that every node should hold; pure.

A backend's weight is what its port says, 1 by default, when it may have new
connections, and 0 when it is to be drained: not healthy, not yet checked, on
its way out, or on a node that has gone silent. A service none of whose nodes is
alive keeps its backends as if they were: losing sight of everyone is more often
our own fault than theirs.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, ip_network

import msgspec

from phalanx.lb.option import NONE, Options, agreed, read_options
from phalanx.lb.service import Backend, Endpoint, Service, Vip
from phalanx.net.model.objects import (
    NODES6,
    HostPort,
    IPAddress,
    Liveness,
    Protocol,
    Task,
    TaskPhase,
    TaskPort,
)
from phalanx.net.model.view import View
from phalanx.net.model.vip import (
    HOST_SCOPE,
    SCOPE_KEY,
    AddressVip,
    DeclaredVip,
    NamedVip,
    declared_vips,
)
from phalanx.net.overlay.mark import VXLAN_PORT

NETWORK_KEY = "network-name"
# What a task may not choose for itself: this host, the resolvers' addresses, groups and broadcast.
RESERVED = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"),
            *("198.51.100.0/24", "224.0.0.0/3", "fd01:d::c633:6400/120"),
            *("::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8", str(NODES6)),
        ),
    )
)

Declared = NamedVip | AddressVip
Addresses = dict[Declared, tuple[IPAddress, ...]]


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """An endpoint behind a VIP, before the service as a whole has decided its weight."""

    task: Task
    endpoint: Endpoint
    is_ready: bool
    is_seen: bool  # its node is alive
    options: Options


def desired_services(
    view: View, *, node: IPv4Address | None = None, taken: Collection[IPAddress] = ()
) -> dict[Vip, Service]:
    """Return the services of *view*; a named VIP without a lease has none yet.

    A VIP of whose tasks none can be reached, because they are being prepared,
    say, has a service without backends: it refuses at once, and keeps its name.

    Nor has a VIP by an address that is in use: taking a master's would cut the
    cluster off from whoever could take the VIP back. *taken* are those that are in
    use beside what the View tells of, as a node's gateways are.

    On *node*, a port of the node that leads to a container of its own becomes
    the container's: the kernel translates a destination once only.
    """
    found, bare = _gathered(view, node, taken)
    services = {vip: service_of(each) for vip, each in found.items()}
    return {vip: Service() for vip in bare} | services


def candidates(
    view: View, *, node: IPv4Address | None = None, taken: Collection[IPAddress] = ()
) -> dict[Vip, list[Candidate]]:
    """Return what stands behind each VIP, the backends that are drained included."""
    return _gathered(view, node, taken)[0]


def _gathered(
    view: View, node: IPv4Address | None, taken: Collection[IPAddress]
) -> tuple[dict[Vip, list[Candidate]], Sequence[Vip]]:
    """Return what stands behind each VIP, and where those are that have no task in reach."""
    found: dict[Vip, list[Candidate]] = {}
    known: Addresses = {}
    reached: set[Declared] = set()
    for task in view.tasks.values():
        declared = declared_by(view, task)
        for key, vip, candidate in candidates_of(
            view, task, declared, node=node, known=known, taken=taken
        ):
            reached.add(key)
            found.setdefault(vip, []).append(candidate)
    return found, [
        first_of(key, each) for key, each in known.items() if each and key not in reached
    ]


def first_of(declared: Declared, addresses: Sequence[IPAddress]) -> Vip:
    """Return where a VIP is while none of its tasks says by which family it can be reached."""
    return Vip(addresses[0], declared.port, declared.protocol)


def declared_by(view: View, task: Task) -> tuple[DeclaredVip, ...]:
    """Return the VIPs that the task declares."""
    if not (task.ports or task.labels):
        return ()
    framework = view.frameworks.get(task.framework_id)
    return declared_vips(task, framework.name if framework is not None else "")


def service_of(found: Sequence[Candidate]) -> Service:
    """Return the service that *found*, what stands behind one VIP, makes."""
    service = Service.of(
        Backend(each.endpoint.address, each.endpoint.port, weight)
        for each, weight in zip(found, weights(found), strict=True)
    )
    if all(each.options is NONE for each in found):
        return service
    scheduler, affinity = agreed([each.options for each in found])
    return msgspec.structs.replace(service, scheduler=scheduler, affinity_seconds=affinity)


def weights(found: Sequence[Candidate]) -> list[int]:
    """Return the weight of each of *found*, what stands behind one VIP."""
    is_anyone_seen = any(each.is_seen for each in found)
    return [
        each.options.weight if each.is_ready and (each.is_seen or not is_anyone_seen) else 0
        for each in found
    ]


def candidates_of(
    view: View,
    task: Task,
    declared: Iterable[DeclaredVip],
    *,
    node: IPv4Address | None,
    known: Addresses,
    taken: Collection[IPAddress] = (),
) -> Iterator[tuple[Declared, Vip, Candidate]]:
    """Yield a VIP, as declared and as reached, with what the task is there; for each.

    Nothing while it is being prepared. *known* collects the addresses of all that are declared.
    """
    is_seen = is_alive(view, str(task.node)) and task.phase is not TaskPhase.UNREACHABLE
    is_willing = is_ready(task)
    for each in declared:
        vip = each.vip
        if (addresses := known.get(vip)) is None:
            addresses = known[vip] = vip_addresses(view, vip, taken)
        if task.phase is TaskPhase.PREPARING:
            continue
        for address in addresses:
            found = endpoint(view, task, each.port, vip.protocol, node, address.version)
            if found is not None:
                options, _ = read_options(each.port.labels)
                yield (
                    vip,
                    Vip(address, vip.port, vip.protocol),
                    Candidate(task, found, is_willing, is_seen, options),
                )


def is_alive(view: View, node: str) -> bool:
    """Tell whether the node with the underlay address *node* is heard of."""
    machine = view.nodes.get(node)
    return machine is not None and machine.liveness is Liveness.ALIVE


def is_ready(task: Task) -> bool:
    """Tell whether the task itself may have new connections, wherever its node is."""
    if task.phase not in (TaskPhase.RUNNING, TaskPhase.UNREACHABLE):
        return False
    return task.healthy is True if task.is_checked else task.healthy is not False


def vip_addresses(
    view: View, vip: Declared, taken: Collection[IPAddress] = ()
) -> tuple[IPAddress, ...]:
    """Return the addresses at which clients find the VIP, none while it has none."""
    if isinstance(vip, AddressVip):
        return () if is_in_use(view, vip.address, taken) else (vip.address,)
    lease = view.vips.get(vip.name)
    if lease is None:
        return ()
    return (lease.address,) if lease.address6 is None else (lease.address, lease.address6)


def is_in_use(view: View, address: IPAddress, taken: Collection[IPAddress] = ()) -> bool:
    """Tell whether an address is a node's, lies in a network, is reserved or otherwise *taken*."""
    return (
        str(address) in view.nodes
        or address in taken
        or any(address in each for network in view.networks.values() for each in network.subnets)
        or any(address in prefix for prefix in RESERVED)
    )


def endpoint(
    view: View,
    task: Task,
    port: TaskPort,
    protocol: Protocol,
    node: IPv4Address | None,
    version: int,
) -> Endpoint | None:
    """Return where connections for the port go, by IP *version*; None for nowhere.

    The container if it can be reached, though it has a port of its node, too; else that, but
    for its tunnel's. A node is reached by IPv4 only: what listens there need not listen on both.
    """
    if task.is_on_host_network:
        return _at_node(task, port.number, protocol) if version == 4 else None
    is_host_scope = (SCOPE_KEY, HOST_SCOPE) in port.labels
    mapping = _mapping(task, port, protocol, is_host_scope=is_host_scope)
    inner: int | None = port.number
    if is_host_scope:
        inner = None if mapping is None else mapping.container_port
    address = (
        _in_view(view, task.addresses, task.networks, port)
        if version == 4
        else _in_view(view, task.addresses6, task.networks6, port)
    )
    if address is not None and inner is not None:
        return Endpoint(address, inner)
    if version == 6:
        return None
    if mapping is not None:
        if task.node == node and task.addresses:
            return Endpoint(task.addresses[0], mapping.container_port)
        return _at_node(task, mapping.host_port, protocol)
    if is_host_scope:
        return _at_node(task, port.number, protocol)
    return Endpoint(task.addresses[0], port.number) if task.addresses else None


def is_tunnel(protocol: Protocol, port: int) -> bool:
    """Tell whether a port of a node is that of its tunnel, which nobody is led into."""
    return port == VXLAN_PORT and protocol is Protocol.UDP


def _at_node(task: Task, port: int, protocol: Protocol) -> Endpoint | None:
    return None if is_tunnel(protocol, port) else Endpoint(task.node, port)


def _mapping(
    task: Task, port: TaskPort, protocol: Protocol, *, is_host_scope: bool
) -> HostPort | None:
    """Return the port of the node that leads to the task's port, None if there is none."""
    for mapping in task.host_ports:
        here = mapping.host_port if is_host_scope else mapping.container_port
        if here == port.number and protocol in mapping.protocol.lower().split(","):
            return mapping
    return None


def _in_view(
    view: View, addresses: Sequence[IPAddress], networks: Sequence[str], port: TaskPort
) -> IPAddress | None:
    """Return the address in the network that the port names, or in the first that the View has."""
    if len(networks) > 1:
        for key, value in port.labels:
            if key == NETWORK_KEY and value in networks[: len(addresses)]:
                named = networks.index(value)
                if value in view.networks:
                    return addresses[named]
    for address, network in zip(addresses, networks, strict=False):
        if network in view.networks:
            return address
    return None
