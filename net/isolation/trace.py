"""From two ends in words to the packets between them, and what decides about each; pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.net.isolation.evaluate import Evaluator, Packet, Verdict
from phalanx.net.isolation.lookup import Lookup, Path
from phalanx.net.model.objects import IPAddress, Task
from phalanx.net.model.selector import App
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element

FORWARD, INPUT = "forward", "input"
MOST_ENDS = 10  # of one word: an app of a thousand containers is shown by some


@dataclass(frozen=True, slots=True)
class End:
    """One end of a flow: what it was called, its address, its task and network if it has any."""

    word: str
    address: IPAddress
    node: IPv4Address | None = None  # that it is on, or is
    task: str = ""
    network: str = ""
    is_node: bool = False


@dataclass(frozen=True, slots=True)
class Hop:
    """What one node does with a packet."""

    node: IPv4Address
    hook: str
    path: Path


@dataclass(frozen=True, slots=True)
class Traced:
    """A packet, and who decides about it."""

    source: End
    destination: End
    packet: Packet
    verdict: Verdict
    hops: tuple[Hop, ...]


def find_ends(word: str, view: View) -> Sequence[End]:
    """Return the ends that *word* names: a task's id or name, an app, a node, or an address.

    Raises NotFoundError when nothing is called so, InvalidError when it has no address.
    """
    try:
        return [_end_of(word, ip_address(word), view)]
    except ValueError:
        pass
    nodes = [node for node in view.nodes.values() if node.hostname == word]
    if nodes:
        return [End(word, node.address, node.address, is_node=True) for node in nodes]
    app = App(word) if word.strip("/") else None
    tasks = [
        task
        for task in view.tasks.values()
        if word in (task.id, task.name, task.key) or (app is not None and app.matches(task))
    ]
    if not tasks:
        raise NotFoundError(f"{word!r} is no task, app, node, VIP or address that this node knows")
    ends = [end for task in tasks for end in _ends_of(word, task)]
    if not ends:
        raise InvalidError(f"{word!r} has no address yet")
    return ends[:MOST_ENDS]


class Tracer:
    """Traces packets through the tables that one View and one node's settings make."""

    def __init__(self, view: View, elements: Iterable[Element]) -> None:
        self._evaluator = Evaluator(view)
        self._lookup = Lookup(elements)

    def trace(self, source: End, destination: End, *, protocol: int, port: int) -> Traced:
        """Return what happens to the first packet of a flow between two ends of one family."""
        packet = Packet(source.address, destination.address, protocol, port)
        if destination.is_node:
            return self._to_node(source, destination, packet)
        verdict = self._evaluator.allowed(packet)
        path = self._lookup.between(packet)
        is_neighbour = bool(source.network) and source.network == destination.network
        nodes: dict[IPv4Address, None] = {}
        for end in (source, destination):
            if end.node is not None and not end.is_node:
                nodes[end.node] = None
        if is_neighbour and source.node == destination.node:
            nodes = {}  # their bridge
        if source.is_node and source.node == destination.node:
            nodes = {}
            verdict = Verdict(is_allowed=True, reason="a node reaches its own containers")
        hops = tuple(Hop(node, FORWARD, path) for node in nodes)
        return Traced(source, destination, packet, verdict, hops)

    def _to_node(self, source: End, destination: End, packet: Packet) -> Traced:
        """Return what a node's fence does; from the outside it is none of ours."""
        if source.is_node or not source.network or destination.node is None:
            verdict = Verdict(is_allowed=True, reason="what is not from a container is not fenced")
            return Traced(source, destination, packet, verdict, ())
        path = self._lookup.to_node(packet)
        reason = path.steps[-1].meaning if path.passes else "no service for containers"
        hops = (Hop(destination.node, INPUT, path),)
        return Traced(source, destination, packet, Verdict(path.passes, reason), hops)


def pairs_of(sources: Sequence[End], destinations: Sequence[End]) -> Iterator[tuple[End, End]]:
    """Yield every source with every other destination of its family."""
    for source in sources:
        for destination in destinations:
            if (
                source.address.version == destination.address.version
                and source.address != destination.address
            ):
                yield source, destination


def _end_of(word: str, address: IPAddress, view: View) -> End:
    if str(address) in view.nodes:
        return End(word, address, view.nodes[str(address)].address, is_node=True)
    for node in view.nodes.values():
        if node.address6 == address:
            return End(word, address, node.address, is_node=True)
    for task in view.tasks.values():
        for end in _ends_of(word, task):
            if end.address == address and not end.is_node:
                return end
    for lease in view.subnets.values():
        if any(s.version == address.version and address in s for s in lease.subnets):
            is_bridge = address in (lease.gateway, lease.gateway6)
            network = "" if is_bridge else lease.network
            return End(word, address, lease.node, network=network, is_node=is_bridge)
    return End(word, address)


def _ends_of(word: str, task: Task) -> Iterator[End]:
    if task.is_on_host_network:
        yield End(word, task.node, task.node, task.id, is_node=True)
        return
    for network, address in task.attached:
        yield End(word, address, task.node, task.id, network)


def mapped(view: View, end: End, port: int, protocol: str) -> tuple[End, int] | None:
    """Return the container and port that a port of a node leads to; None if it is its own."""
    if not end.is_node:
        return None
    for task in view.tasks.values():
        if task.node != end.node or task.is_on_host_network or not task.addresses:
            continue
        for mapping in task.host_ports:
            if mapping.host_port == port and protocol in mapping.protocol.lower().split(","):
                network = task.networks[0] if task.networks else ""
                inside = End(end.word, task.addresses[0], task.node, task.id, network)
                return inside, mapping.container_port
    return None


def shown(traced: Traced, held: Mapping[Element, bool], *, node: IPv4Address) -> dict[str, object]:
    """Return a trace as the API shows it; *held* says which elements the kernel of *node* has."""
    policy = traced.verdict.policy
    return {
        "source": _end_json(traced.source),
        "destination": _end_json(traced.destination),
        "protocol": traced.packet.protocol,
        "port": traced.packet.port,
        "allowed": traced.verdict.is_allowed,
        "reason": traced.verdict.reason,
        "policy": None if policy is None else policy.name,
        "tier": None if policy is None else policy.tier.value,
        "hops": [
            {
                "node": str(hop.node),
                "hook": hop.hook,
                "table": "inet phalanx_isolation",
                "passes": hop.path.passes,
                "steps": [
                    {
                        "set": step.set_name,
                        "element": None if step.element is None else step.element.text,
                        "meaning": step.meaning,
                        "in_kernel": held.get(step.element)
                        if hop.node == node and step.element is not None
                        else None,
                    }
                    for step in hop.path.steps
                ],
            }
            for hop in traced.hops
        ],
    }


def _end_json(end: End) -> dict[str, object]:
    return {
        "name": end.word,
        "address": str(end.address),
        "node": None if end.node is None else str(end.node),
        "task": end.task,
        "network": end.network,
    }
