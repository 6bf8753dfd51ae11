"""From two ends in words to the packets between them, and what decides about each; pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, ip_address

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.net.isolation.evaluate import Evaluator, Packet, Verdict
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.isolation.lookup import Lookup, Path, Step
from phalanx.net.model.objects import IPAddress, Task
from phalanx.net.model.selector import App
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element

FORWARD, INPUT, PREROUTING, OUTPUT = "forward", "input", "prerouting", "output"
SERVICES_TABLE, PORTS_TABLE = "phalanx_lb", "phalanx_cni"  # load balancer's, port mappings'
PORT_MAPS = {4: "any4", 6: "any6"}
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
    """What one table of a node does with a packet; *verdict* is what policies say of it there."""

    node: IPv4Address
    hook: str
    path: Path
    table: str = ISOLATION.table
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a packet is sent to whose destination is another: a VIP, a mapped port of a node."""

    address: IPAddress
    port: int


@dataclass(frozen=True, slots=True)
class Traced:
    """A packet, and who decides about it."""

    source: End
    destination: End
    packet: Packet
    verdict: Verdict
    hops: tuple[Hop, ...]


class Ends:
    """What words name in one View, ready to be asked about many."""

    def __init__(self, view: View) -> None:
        self._view = view

    def find(self, word: str) -> Sequence[End]:
        """Return the ends that *word* names: a task's id or name, an app, a node, or an address.

        Raises NotFoundError when nothing is called so, InvalidError when it has no address.
        """
        try:
            return [self.at(ip_address(word), word)]
        except ValueError:
            pass
        nodes = [node for node in self._view.nodes.values() if node.hostname == word]
        if nodes:
            return [End(word, node.address, node.address, is_node=True) for node in nodes]
        app = App(word) if word.strip("/") else None
        tasks = [
            task
            for task in self._view.tasks.values()
            if word in (task.id, task.name, task.key) or (app is not None and app.matches(task))
        ]
        if not tasks:
            said = "is no task, app, node, VIP or address that this node knows"
            raise NotFoundError(f"{word!r} {said}")
        ends = [end for task in tasks for end in _ends_of(word, task)]
        if not ends:
            raise InvalidError(f"{word!r} has no address yet")
        return ends[:MOST_ENDS]

    def at(self, address: IPAddress, word: str = "") -> End:
        """Return the end that has *address*, which may be nobody's; *word* is what it is called."""
        word = word or str(address)
        if (end := self._known.get(address)) is not None:
            return replace(end, word=word)
        for lease in self._view.subnets.values():
            if any(s.version == address.version and address in s for s in lease.subnets):
                is_bridge = address in (lease.gateway, lease.gateway6)
                network = "" if is_bridge else lease.network
                return End(word, address, lease.node, network=network, is_node=is_bridge)
        return End(word, address)

    @cached_property
    def _known(self) -> Mapping[IPAddress, End]:
        """The nodes and containers by address; a node before a container, the first of many."""
        found: dict[IPAddress, End] = {}
        nodes = self._view.nodes.values()
        for node in nodes:
            found[node.address] = End("", node.address, node.address, is_node=True)
        for node in nodes:
            found.setdefault(node.address6, End("", node.address6, node.address, is_node=True))
        for task in self._view.tasks.values():
            for end in _ends_of("", task):
                if not end.is_node:
                    found.setdefault(end.address, end)
        return found


class Tracer:
    """Traces packets through the tables that one View and one node's settings make."""

    def __init__(self, view: View, elements: Iterable[Element]) -> None:
        self._evaluator = Evaluator(view)
        self._lookup = Lookup(elements)

    def trace(
        self,
        source: End,
        destination: End,
        *,
        protocol: int,
        port: int,
        vip: Entry | None = None,
        entry: Entry | None = None,
    ) -> Traced:
        """Return what happens to the first packet of a flow between two ends of one family.

        *destination* and *port* are the real ones, behind a VIP and behind the mapped port of a
        node, *entry*.
        """
        packet = Packet(source.address, destination.address, protocol, port)
        traced = self._trace(source, destination, packet, entry)
        hops = list(traced.hops)
        if vip is not None and source.node is not None:
            hops.insert(0, _vip_hop(source, vip, protocol))
        if entry is not None and destination.node is not None:
            place = next((n for n, h in enumerate(hops) if h.node == destination.node), len(hops))
            if vip is not None and source.node == destination.node:
                place = max(place, 1)
            hops.insert(place, _mapped_hop(destination, entry, protocol, port))
        return replace(traced, hops=tuple(hops))

    def _trace(self, source: End, destination: End, packet: Packet, entry: Entry | None) -> Traced:
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
        hops = [Hop(node, FORWARD, path, verdict=verdict) for node in nodes]
        if entry is not None and hops and source.node == hops[0].node != destination.node:
            # Where it comes from, the mapped port is another node's affair.
            outer = Packet(source.address, entry.address, packet.protocol, entry.port)
            said = self._evaluator.allowed(outer)
            hops[0] = Hop(hops[0].node, FORWARD, self._lookup.between(outer), verdict=said)
            verdict = verdict if said.is_allowed else said
        return Traced(source, destination, packet, verdict, tuple(hops))

    def _to_node(self, source: End, destination: End, packet: Packet) -> Traced:
        """Return what a node's fence does; from the outside it is none of ours."""
        if source.is_node or not source.network or destination.node is None:
            verdict = Verdict(is_allowed=True, reason="what is not from a container is not fenced")
            return Traced(source, destination, packet, verdict, ())
        path = self._lookup.to_node(packet)
        reason = path.steps[-1].meaning if path.passes else "no service for containers"
        verdict = Verdict(path.passes, reason)
        hops = (Hop(destination.node, INPUT, path, verdict=verdict),)
        return Traced(source, destination, packet, verdict, hops)


def _vip_hop(source: End, vip: Entry, protocol: int) -> Hop:
    element = Element("services", (str(vip.address), str(protocol), str(vip.port)))
    step = Step(element.set_name, element, "the VIP leads to its backends, this one among them")
    hook = OUTPUT if source.is_node else PREROUTING
    assert source.node is not None  # as its caller has made sure
    return Hop(source.node, hook, Path((step,), passes=True), SERVICES_TABLE)


def _mapped_hop(destination: End, entry: Entry, protocol: int, port: int) -> Hop:
    element = Element(
        PORT_MAPS[destination.address.version],
        (str(protocol), str(entry.port)),
        f"{destination.address} . {port}",
    )
    step = Step(element.set_name, element, "the mapped port leads into the container")
    assert destination.node is not None  # as its caller has made sure
    return Hop(destination.node, PREROUTING, Path((step,), passes=True), PORTS_TABLE)


def pairs_of(sources: Sequence[End], destinations: Sequence[End]) -> Iterator[tuple[End, End]]:
    """Yield every source with every other destination of its family."""
    for source in sources:
        for destination in destinations:
            if same_family(source, destination) and source.address != destination.address:
                yield source, destination


def same_family(one: End, other: End) -> bool:
    """Tell whether a packet may go from one to the other."""
    return one.address.version == other.address.version


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
        if task.node != end.node or task.is_on_host_network:
            continue
        inside = [each for each in _ends_of(end.word, task) if same_family(each, end)]
        if not inside:
            continue
        for mapping in task.host_ports:
            if mapping.host_port == port and protocol in mapping.protocol.lower().split(","):
                return inside[0], mapping.container_port
    return None


def shown(traced: Traced, held: Mapping[Hop, Sequence[bool | None]]) -> dict[str, object]:
    """Return a trace as the API shows it.

    *held* says of hops whether the kernel has the elements of their steps; of others nobody knows.
    """
    return {
        "source": _end_json(traced.source),
        "destination": _end_json(traced.destination),
        "protocol": traced.packet.protocol,
        "port": traced.packet.port,
        **_verdict_json(traced.verdict),
        "hops": [
            {
                "node": str(hop.node),
                "hook": hop.hook,
                "table": f"inet {hop.table}",
                "passes": hop.path.passes,
                **_decision_json(hop.verdict),
                "unread": None,
                "steps": [
                    {
                        "set": step.set_name,
                        "element": None if step.element is None else step.element.text,
                        "meaning": step.meaning,
                        "in_kernel": is_held,
                    }
                    for step, is_held in zip(
                        hop.path.steps, held.get(hop, [None] * len(hop.path.steps)), strict=True
                    )
                ],
            }
            for hop in traced.hops
        ],
    }


def _verdict_json(verdict: Verdict) -> dict[str, object]:
    return {"allowed": verdict.is_allowed, **_decision_json(verdict)}


def _decision_json(verdict: Verdict | None) -> dict[str, object]:
    """Return why, and the policy that says so; nothing where policies have no say."""
    policy = None if verdict is None else verdict.policy
    return {
        "reason": None if verdict is None else verdict.reason,
        "policy": None if policy is None else policy.name,
        "tier": None if policy is None else policy.tier.value,
    }


def _end_json(end: End) -> dict[str, object]:
    return {
        "name": end.word,
        "address": str(end.address),
        "node": None if end.node is None else str(end.node),
        "task": end.task,
        "network": end.network,
    }
