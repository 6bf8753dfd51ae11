"""``GET /v1/trace``: what happens to a packet between two ends, and does the kernel agree."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address

from aiohttp import web

from phalanx.core.error import InvalidError, NotFoundError, UnavailableError
from phalanx.lb.desired import desired_services, vip_addresses
from phalanx.lb.service import Service, Vip
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.isolation.trace import (
    End,
    Traced,
    Tracer,
    find_ends,
    mapped,
    pairs_of,
    shown,
)
from phalanx.net.model.objects import Protocol, Traffic
from phalanx.net.model.view import View
from phalanx.net.model.vip import NamedVip
from phalanx.net.nft.element import Element
from phalanx.net.nft.library import Nft

MOST = 32  # packets in one answer


def trace_route(
    view: Callable[[], View | None],
    elements: Callable[[View], Iterable[Element]],
    *,
    node: IPv4Address,
    nft: Nft,
) -> web.RouteDef:
    """Return the route; *elements* says what this node's isolation table should hold."""

    async def get_trace(request: web.Request) -> web.Response:
        known = view()
        if known is None:
            raise UnavailableError("this node has not heard of the cluster yet")
        source, destination = (_word(request, key) for key in ("source", "destination"))
        protocol = _protocol(request)
        port = _port(request, protocol)
        tracer = Tracer(known, elements(known))
        sources = find_ends(source, known)
        answers = []
        for vip, ends, number in _destinations(known, destination, port, protocol, node):
            for one, other in pairs_of(sources, ends):
                inside = mapped(known, other, number, protocol)
                at, real = (other, number) if inside is None else inside
                traced = tracer.trace(one, at, protocol=protocol.number or 0, port=real)
                held = await _held(nft, traced, node)
                answers.append(
                    {
                        **shown(traced, held, node=node),
                        "vip": None if vip is None else str(vip),
                        "mapped": None if inside is None else f"{other.address}:{number}",
                    }
                )
                if len(answers) == MOST:
                    return web.json_response({"node": str(node), "packets": answers})
        if not answers:
            raise InvalidError(f"{source!r} and {destination!r} have no addresses of one family")
        return web.json_response({"node": str(node), "packets": answers})

    return web.get("/v1/trace", get_trace)


def _destinations(
    view: View, word: str, port: int, protocol: Traffic, node: IPv4Address
) -> Sequence[tuple[Vip | None, Sequence[End], int]]:
    """Return what *word* leads to: the backends of a VIP, or itself; with the port there."""
    services = desired_services(view, node=node)
    found: list[tuple[Vip | None, Sequence[End], int]] = []
    if protocol in (Traffic.TCP, Traffic.UDP):
        for vip in _vips(view, word, port, protocol, services):
            for backend in services[vip].backends:
                found.append((vip, find_ends(str(backend.address), view), backend.port))
    return found or [(None, find_ends(word, view), port)]


def _vips(
    view: View, word: str, port: int, protocol: Traffic, services: Mapping[Vip, Service]
) -> Sequence[Vip]:
    """Return the VIPs of a name, which may be a DNS name, or of an address."""
    name = word.removesuffix(".").removesuffix(".thisdcos.directory").removesuffix(".l4lb")
    named = NamedVip(name, port, Protocol(protocol))
    addresses = {str(each) for each in vip_addresses(view, named)} | {word}
    found = [
        vip
        for vip in services
        if str(vip.address) in addresses
        and (vip.port, vip.protocol.value) == (port, protocol.value)
    ]
    if not found and name in view.vips:
        ports = sorted({str(vip) for vip in services if str(vip.address) in addresses})
        raise NotFoundError(f"VIP {name!r} has no port {port}/{protocol}; it has {ports}")
    return found


async def _held(nft: Nft, traced: Traced, node: IPv4Address) -> Mapping[Element, bool]:
    """Return which elements of this node's hops its kernel holds, asked now."""
    held: dict[Element, bool] = {}
    for hop in traced.hops:
        if hop.node != node:
            continue
        for step in hop.path.steps:
            if step.element is not None:
                held[step.element] = await _is_there(nft, step.element)
    return held


async def _is_there(nft: Nft, element: Element) -> bool:
    name = ISOLATION.table
    command = f"get element inet {name} {element.set_name} {{ {element.key} }}"
    printed = await nft.text(command, table=name)
    return bool(printed) and f" : {element.data}" in printed if element.data else bool(printed)


def _word(request: web.Request, key: str) -> str:
    word = request.query.get(key, "")
    if not word:
        raise InvalidError(f"{key}: is missing")
    return word


def _protocol(request: web.Request) -> Traffic:
    text = request.query.get("protocol", "tcp")
    try:
        protocol = Traffic(text)
    except ValueError as error:
        raise InvalidError(f"protocol: {text!r} is none of {', '.join(Traffic)}") from error
    if protocol is Traffic.ANY:
        raise InvalidError("protocol: a packet has one")
    return protocol


def _port(request: web.Request, protocol: Traffic) -> int:
    text = request.query.get("port", "")
    if not protocol.has_ports:
        return 0
    if not text.isdecimal() or not 1 <= int(text[:6]) <= 65535:
        raise InvalidError(f"port: {text!r} is not within 1-65535")
    return int(text)
