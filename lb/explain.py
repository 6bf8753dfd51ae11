"""Why each backend of a VIP has the weight that it has; pure."""

from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from ipaddress import IPv4Address

import msgspec

from phalanx.lb.desired import (
    Candidate,
    candidates,
    endpoint,
    is_tunnel,
    service_of,
    vip_addresses,
    weights,
)
from phalanx.lb.option import Options, read_options
from phalanx.lb.problem import names_by_address
from phalanx.lb.service import IPAddress, Scheduler, Service, Vip
from phalanx.net.model.label import domain_fragment
from phalanx.net.model.objects import Liveness, Protocol, Task, TaskPhase
from phalanx.net.model.view import View
from phalanx.net.model.vip import AddressVip, DeclaredVip, NamedVip, declared_vips

ZONE = "l4lb.thisdcos.directory"
IsMeant = Callable[[str, IPAddress | None, int, Protocol], bool]
ALIASES = (ZONE, "l4lb.thisdcos.global", "dclb.thisdcos.directory", "dclb.thisdcos.global")


class Behind(msgspec.Struct, frozen=True):
    """A task behind a VIP, and why it has no new connections; *reason* is empty if it has."""

    task: Task
    ip: IPAddress | None
    port: int | None
    weight: int
    reason: str
    note: str = ""


class Explained(msgspec.Struct, frozen=True):
    """A VIP that tasks declare; without an address, or by one in use, nobody can reach it."""

    name: str  # canonical; empty for a VIP by address
    address: IPAddress | None
    port: int
    protocol: Protocol
    reason: str  # why nobody is served; empty if somebody is
    behind: tuple[Behind, ...]
    scheduler: Scheduler = Scheduler.WLC
    affinity_seconds: int = 0
    is_held: bool = True  # by the data plane

    @property
    def state(self) -> str:
        """Return ``serving``, ``refusing``, ``without address`` or ``address in use``."""
        if not self.is_held:
            return "without address" if self.address is None else "address in use"
        return "refusing" if self.reason else "serving"


def explain(
    view: View,
    query: str = "",
    *,
    node: IPv4Address | None = None,
    taken: Collection[IPAddress] = (),
) -> list[Explained]:
    """Return the VIPs that *query* names, all if it is empty, as they are on *node*.

    *taken* as in `desired_services`. A query is a name with or without zone, framework and
    slash, or an address, with or without ``:port`` and ``/protocol``.
    """
    named = names_by_address(view)
    is_meant = matcher(query)
    if query:
        view = _narrowed(view, named, is_meant)
    found = candidates(view, node=node, taken=taken)
    there = {vip: {each.task.key for each in each_found} for vip, each_found in found.items()}
    rest: dict[Vip, list[Behind]] = {}
    stranded: dict[NamedVip | AddressVip, list[Behind]] = {}
    for task, declared in _declared(view):
        vip = declared.vip
        addresses = vip_addresses(view, vip, taken)
        if not addresses:
            stranded.setdefault(vip, []).append(_nowhere(view, task, declared, node, 4))
        for address in addresses:
            key = Vip(address, vip.port, vip.protocol)
            if task.key not in there.get(key, ()):
                behind = _nowhere(view, task, declared, node, address.version)
                rest.setdefault(key, []).append(behind)
    reached = {(named[vip.address], vip.address.version) for vip in found if vip.address in named}
    explained = [
        _explained(view, vip, named.get(vip.address, ""), found.get(vip, ()), rest.get(vip, ()))
        for vip in {**found, **rest}
        # A name leads nowhere by the family that none of its backends has.
        if vip in found or not _is_spare(vip, named.get(vip.address), reached)
    ]
    explained += [_stranded(vip, behind) for vip, behind in stranded.items()]
    return sorted(
        (each for each in explained if is_meant(each.name, each.address, each.port, each.protocol)),
        key=_place,
    )


def _is_spare(vip: Vip, name: str | None, reached: Container[tuple[str, int]]) -> bool:
    """Tell whether a name is reached by the other family only, or would be by IPv4."""
    other = 10 - vip.address.version
    return name is not None and (vip.address.version == 6 or (name, other) in reached)


def _narrowed(view: View, named: Mapping[IPAddress, str], is_meant: IsMeant) -> View:
    """Return *view* with no other tasks than those that declare a VIP that is meant."""

    def declares(declared: DeclaredVip) -> bool:
        vip = declared.vip
        if isinstance(vip, NamedVip):
            addresses: tuple[IPAddress | None, ...] = vip_addresses(view, vip) or (None,)
            return any(is_meant(vip.name, each, vip.port, vip.protocol) for each in addresses)
        return is_meant(named.get(vip.address, ""), vip.address, vip.port, vip.protocol)

    meant = {task.key: task for task, declared in _declared(view) if declares(declared)}
    return msgspec.structs.replace(view, tasks=meant)


def matcher(query: str) -> IsMeant:
    """Return what tells from name, address, port and protocol whether *query* names a VIP."""
    text, _, protocol = (
        query.rpartition("/") if query.endswith(("/tcp", "/udp")) else (query, "", "")
    )
    is_bare6 = text.count(":") > 1 and not text.startswith("[")
    host, colon, port = (text, "", "") if is_bare6 else text.rpartition(":")
    if not colon or not port.isdecimal():
        host, port = text, ""
    is_any = not host
    host = host.strip("[]").rstrip(".").lower()
    for zone in ALIASES:
        host = host.removesuffix(f".{zone}")
    name = domain_fragment(host)

    def is_meant(known: str, address: IPAddress | None, at: int, transport: Protocol) -> bool:
        is_named = bool(known and name) and f"{known}.".startswith(f"{name}.")
        return (
            (not protocol or transport == protocol)
            and (not port or at == int(port))
            and (is_any or host == str(address) or is_named)
        )

    return is_meant


def _declared(view: View) -> Iterator[tuple[Task, DeclaredVip]]:
    for task in view.tasks.values():
        if task.ports or task.labels:
            framework = view.frameworks.get(task.framework_id)
            for declared in declared_vips(task, framework.name if framework is not None else ""):
                yield task, declared


def _explained(
    view: View, vip: Vip, name: str, found: Sequence[Candidate], rest: Sequence[Behind]
) -> Explained:
    is_anyone_seen = any(each.is_seen for each in found)
    behind = []
    for each, weight in zip(found, weights(found), strict=True):
        reason = "" if weight else _why(view, each.task, each.options)
        note = "" if each.is_seen or is_anyone_seen or not weight else _all_silent(view, each.task)
        at = each.endpoint
        behind.append(Behind(each.task, at.address, at.port, weight, reason, note))
    service = service_of(found) if found else Service()
    return Explained(
        name,
        vip.address,
        vip.port,
        vip.protocol,
        "no backend may have new connections" if service.is_refused else "",
        (*behind, *rest),
        service.scheduler,
        service.affinity_seconds,
    )


def _stranded(vip: NamedVip | AddressVip, behind: Sequence[Behind]) -> Explained:
    if isinstance(vip, NamedVip):
        reason = "the leading master has not leased an address to the name, or the range is full"
        name, address = vip.name, None
    else:
        reason = f"{vip.address} is in use in the cluster or on this node, or reserved"
        name, address = "", vip.address
    return Explained(name, address, vip.port, vip.protocol, reason, tuple(behind), is_held=False)


def _nowhere(
    view: View, task: Task, declared: DeclaredVip, node: IPv4Address | None, version: int
) -> Behind:
    """Return a task that is no backend."""
    at = endpoint(view, task, declared.port, declared.vip.protocol, node, version)
    options, _ = read_options(declared.port.labels)
    reason = _why(view, task, options)
    if at is None and task.phase is not TaskPhase.PREPARING:
        reason = f"it has no IPv{version} address that can be reached"
        if is_tunnel(declared.vip.protocol, declared.port.number):
            reason = "the port is that of its node's tunnel"
    ip, port = (None, None) if at is None else (at.address, at.port)
    is_named = isinstance(declared.vip, NamedVip)
    reason = reason or ("the VIP has no address" if is_named else "the VIP's address is in use")
    return Behind(task, ip, port, 0, reason)


def _why(view: View, task: Task, options: Options) -> str:
    """Return why a task has no new connections, the first reason first; empty if it may."""
    if task.phase is TaskPhase.PREPARING:
        return "it does not run yet"
    if task.phase is TaskPhase.KILLING:
        return "it is being killed: its connections may finish"
    if task.is_checked and task.healthy is None:
        return "it has not passed its health check yet"
    if task.healthy is False:
        return "it fails its health check"
    if not options.weight:
        return "its label LB_WEIGHT says 0"
    return _silent(view, task)


def _silent(view: View, task: Task) -> str:
    machine = view.nodes.get(str(task.node))
    if machine is None:
        return f"its node {task.node} is not in the cluster"
    where = f"its node {machine.hostname or machine.address}"
    if machine.liveness is Liveness.SUSPECT:
        return f"{where} is silent: suspect"
    if machine.liveness is Liveness.UNREACHABLE or task.phase is TaskPhase.UNREACHABLE:
        return f"{where} is unreachable"
    return ""


def _all_silent(view: View, task: Task) -> str:
    return f"{_silent(view, task)}, as all nodes of this VIP's tasks are: kept"


def _place(each: Explained) -> tuple[str, int, str, int, int]:
    address = each.address
    version, number = (0, 0) if address is None else (address.version, int(address))
    return (each.name, each.port, each.protocol, version, number)
