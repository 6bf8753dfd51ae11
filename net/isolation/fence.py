"""What containers reach on a node itself: the elements of its fence; pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from phalanx.net.isolation.layout import FENCED, RESOLVERS, SERVICES, VIPS
from phalanx.net.model.objects import ALL_PORTS, IPAddress, IPNetwork, Task, Traffic
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element, outermost, render_ports, render_prefix

ANY = "any"
Span = tuple[int, int]  # first and last port, both included


@dataclass(frozen=True, slots=True)
class NodeService:
    """Ports of a node that containers may reach."""

    protocol: Traffic
    ports: Span


def parse_services(texts: Sequence[str]) -> tuple[NodeService, ...] | None:
    """Return what ``tcp:9100`` and ``udp:5000-5010`` say; None, for no fence, of ``any``.

    Raises ValueError for anything else.
    """
    if ANY in texts:
        return None
    return tuple(map(_service, texts))


def desired_fence(
    view: View,
    *,
    node: IPv4Address,
    services: Sequence[NodeService] | None,
    resolvers: Iterable[IPAddress],
    vips: Iterable[IPNetwork],
    tasks: Iterable[Task] | None = None,
) -> dict[Element, None]:
    """Return the elements of the fence of *node*; none when *services* is, and then none stands.

    Beside *services* containers reach the API of the node's agent or master,
    the ports of tasks on the node's own network, and what *vips* stands for. *tasks* are those of
    the node; None lets them be found.
    """
    if services is None:
        return {}
    elements = [Element(FENCED, ("0-255",))]
    elements += [Element(f"{RESOLVERS}{each.version}", (str(each),)) for each in resolvers]
    vips = list(vips)
    for version in (4, 6):
        for prefix in outermost([each for each in vips if each.version == version]):
            elements.append(Element(f"{VIPS}{version}", (render_prefix(prefix),)))
    spans: dict[int, list[Span]] = {}
    for each in (*services, *_declared(view, node, tasks)):
        spans.setdefault(each.protocol.number or 0, []).append(each.ports)
    for number, ports in spans.items():
        for span in _joined(ports):
            elements.append(Element(SERVICES, (str(number), render_ports(*span))))
    return dict.fromkeys(elements)


def _declared(view: View, node: IPv4Address, tasks: Iterable[Task] | None) -> Iterator[NodeService]:
    """Yield what the View knows to be served on the node's own network."""
    known = view.nodes.get(str(node))
    if known is not None and known.port:
        yield NodeService(Traffic.TCP, (known.port, known.port))
    if tasks is None:
        tasks = (task for task in view.tasks.values() if task.node == node)
    for task in tasks:
        if task.is_on_host_network:
            for span in task.port_resources:
                yield NodeService(Traffic.TCP, span)
                yield NodeService(Traffic.UDP, span)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return ranges that cover the same ports, none of which meets another."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def _service(text: str) -> NodeService:
    word, colon, ports = text.partition(":")
    first, hyphen, last = ports.partition("-")
    last = last if hyphen else first
    if (
        not colon
        or word not in ("tcp", "udp", "sctp")
        or not (first.isdecimal() and last.isdecimal())
        or not 1 <= int(first) <= int(last) <= ALL_PORTS[1]
    ):
        raise ValueError(f"{text!r} is not like tcp:9100 or udp:5000-5010")
    return NodeService(Traffic(word), (int(first), int(last)))
