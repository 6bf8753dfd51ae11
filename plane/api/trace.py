"""``GET /v1/trace``: what happens to a packet between two ends, and do the kernels agree.

Each node answers for itself, ``POST /v1/trace/here``: the
source's and the destination's are asked, and told together.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any

from aiohttp import web

from phalanx.core.error import InvalidError, NotFoundError, UnavailableError
from phalanx.lb.desired import desired_services, vip_addresses
from phalanx.lb.nftables.ruleset import FAMILY_OF
from phalanx.lb.service import Service, Vip
from phalanx.lb.slots import LENGTHS
from phalanx.net.isolation.lookup import Step
from phalanx.net.isolation.trace import (
    INPUT,
    SERVICES_TABLE,
    End,
    Ends,
    Entry,
    Hop,
    Traced,
    Tracer,
    mapped,
    pairs_of,
    shown,
)
from phalanx.net.model.objects import IPAddress, Protocol, Traffic
from phalanx.net.model.view import View
from phalanx.net.model.vip import NamedVip
from phalanx.net.nft.element import Element
from phalanx.net.nft.library import Nft
from phalanx.net.nft.structure import read_structure
from phalanx.plane.api.peer import Peers

MOST = 32  # packets in one answer

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A packet by addresses alone, as one node asks another about it."""

    source: End
    destination: End
    protocol: Traffic
    port: int
    vip: Entry | None = None
    entry: Entry | None = None

    def traced(self, tracer: Tracer) -> Traced:
        """Return what happens to the packet."""
        return tracer.trace(
            self.source, self.destination, protocol=self.protocol.number or 0, port=self.port,
            vip=self.vip, entry=self.entry,
        )  # fmt: skip

    @property
    def query(self) -> dict[str, str]:
        """Return it as a request's query."""
        found = {
            "source": str(self.source.address),
            "destination": str(self.destination.address),
            "protocol": self.protocol.value,
            "port": str(self.port),
        }
        for word, entry in (("vip", self.vip), ("entry", self.entry)):
            if entry is not None:
                found |= {word: str(entry.address), f"{word}_port": str(entry.port)}
        return found


class TraceApi:
    """What a plane answers about packets, to people and to other planes.

    *elements* says what this node's isolation table should hold.
    """

    def __init__(
        self,
        view: Callable[[], View | None],
        elements: Callable[[View], Iterable[Element]],
        *,
        node: IPv4Address,
        nft: Nft,
        peers: Peers,
    ) -> None:
        self._view = view
        self._elements = elements
        self._node = node
        self._nft = nft
        self._peers = peers
        self._turn = asyncio.Lock()  # one large View is looked through at a time

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes for people on this node."""
        return [web.get("/v1/trace", self._get_trace)]

    def routes_for_nodes(self) -> Sequence[web.RouteDef]:
        """Return the routes for other nodes."""
        return [web.post("/v1/trace/here", self._post_here)]

    async def _get_trace(self, request: web.Request) -> web.Response:
        known, query = self._known(), request.query
        words = _word(query, "source"), _word(query, "destination")
        protocol = _protocol(query)
        port = _port(query, protocol)

        def found() -> Sequence[tuple[Vip | None, Asked]]:
            return _packets(known, words, port, protocol, self._node)

        async with self._turn:
            packets = await asyncio.to_thread(found)
            traces = await self._traces(known, [asked for _, asked in packets])
        answers = [
            _answer(vip, asked, await self._shown(traced))
            for (vip, asked), traced in zip(packets, traces, strict=True)
        ]
        await self._ask_others([asked for _, asked in packets], answers)
        return web.json_response({"node": str(self._node), "packets": answers})

    async def _ask_others(
        self, packets: Sequence[Asked], answers: Sequence[dict[str, Any]]
    ) -> None:
        """Put in what each other node says of its hops: it is asked once, about all of them."""
        places: dict[str, list[int]] = {}
        for place, answer in enumerate(answers):
            for node in dict.fromkeys(hop["node"] for hop in answer["hops"]):
                if node != str(self._node):
                    places.setdefault(node, []).append(place)

        async def ask(node: str) -> None:
            said = await self._peers.trace(node, [packets[n].query for n in places[node]])
            for number, place in enumerate(places[node]):
                _take(answers[place], node, said if isinstance(said, str) else said[number])

        await asyncio.gather(*map(ask, places))

    async def _post_here(self, request: web.Request) -> web.Response:
        known = self._known()
        self._peers.check(request)
        queries = await _queries(request)
        ends = Ends(known)
        async with self._turn:
            packets = await asyncio.to_thread(lambda: [_asked(each, ends) for each in queries])
            traces = await self._traces(known, packets)
        answers = [await self._shown(traced) for traced in traces]
        for answer in answers:
            answer["hops"] = [hop for hop in answer["hops"] if hop["node"] == str(self._node)]
        return web.json_response({"packets": answers})

    async def _traces(self, known: View, packets: Sequence[Asked]) -> Sequence[Traced]:
        """Return what happens to each packet; of a large View in a thread, for it takes a while."""

        def traces() -> Sequence[Traced]:
            tracer = Tracer(known, self._elements(known))
            return [asked.traced(tracer) for asked in packets]

        return await asyncio.to_thread(traces)

    async def _shown(self, traced: Traced) -> dict[str, Any]:
        held = {
            hop: [await self._is_held(hop, step) for step in hop.path.steps]
            for hop in traced.hops
            if hop.node == self._node
        }
        return shown(traced, held)

    async def _is_held(self, hop: Hop, step: Step) -> bool | None:
        """Tell whether this node's kernel has a step's element, asked now."""
        element = step.element
        if element is None:
            return None
        if hop.table != SERVICES_TABLE:
            return await self._is_there(hop.table, element)
        family = FAMILY_OF[ip_address(element.fields[0]).version]
        for name in [*map(family.set_of, LENGTHS), family.named("refused")]:
            if await self._is_there(hop.table, Element(name, element.fields)):
                return True
        # Under IPVS there is no such table.
        has_table = await self._nft.open(lambda: read_structure(hop.table)) is not None
        return False if has_table else None

    async def _is_there(self, table: str, element: Element) -> bool:
        command = f"get element inet {table} {element.set_name} {{ {element.key} }}"
        printed = await self._nft.text(command, table=table)
        return bool(printed) and f" : {element.data}" in printed if element.data else bool(printed)

    def _known(self) -> View:
        known = self._view()
        if known is None:
            raise UnavailableError("this node has not heard of the cluster yet")
        return known


def _take(answer: dict[str, Any], node: str, words: Mapping[str, Any] | str) -> None:
    """Put in what another node says of its hops, or that it says nothing."""
    own = [hop for hop in answer["hops"] if hop["node"] == node]
    if isinstance(words, str) or not words["hops"]:
        for hop in own:
            hop["unread"] = words if isinstance(words, str) else "it knows of no such packet"
        return
    place = answer["hops"].index(own[0])
    rest = [hop for hop in answer["hops"] if hop["node"] != node]
    answer["hops"] = [*rest[:place], *words["hops"], *rest[place:]]
    refuses = not all(hop["passes"] for hop in words["hops"])
    has_fence = any(hop["hook"] == INPUT for hop in words["hops"])  # as that node is set up
    if has_fence or (answer["allowed"] and refuses):
        answer |= {key: words[key] for key in ("allowed", "reason", "policy", "tier")}


def _answer(vip: Vip | None, asked: Asked, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of a packet, and where it was sent to first."""
    entry = asked.entry
    target = entry or Entry(asked.destination.address, asked.port)
    return {
        **told,
        "vip": None if vip is None else str(vip),
        "mapped": None if entry is None else f"{entry.address}:{entry.port}",
        "sent_to": {"address": str(target.address), "port": target.port},
    }


def _packets(
    view: View, words: tuple[str, str], port: int, protocol: Traffic, node: IPv4Address
) -> Sequence[tuple[Vip | None, Asked]]:
    """Return the packets that two words mean, no more than MOST, and the VIPs that lead there."""
    ends = Ends(view)
    source, destination = words
    sources = ends.find(source)
    found: list[tuple[Vip | None, Asked]] = []
    for vip, others, number in _destinations(view, ends, destination, port, protocol, node):
        for one, other in pairs_of(sources, others):
            inside = mapped(view, other, number, protocol)
            at, real = (other, number) if inside is None else inside
            asked = Asked(
                one, at, protocol, real,
                vip=None if vip is None else Entry(vip.address, vip.port),
                entry=None if inside is None else Entry(other.address, number),
            )  # fmt: skip
            found.append((vip, asked))
            if len(found) == MOST:
                return found
    if not found:
        raise InvalidError(f"{source!r} and {destination!r} have no addresses of one family")
    return found


def _destinations(
    view: View, ends: Ends, word: str, port: int, protocol: Traffic, node: IPv4Address
) -> Sequence[tuple[Vip | None, Sequence[End], int]]:
    """Return what *word* leads to: the backends of a VIP, or itself; with the port there."""
    services = desired_services(view, node=node)
    found: list[tuple[Vip | None, Sequence[End], int]] = []
    if protocol in (Traffic.TCP, Traffic.UDP):
        for vip in _vips(view, word, port, protocol, services):
            for backend in services[vip].backends:
                found.append((vip, [ends.at(backend.address)], backend.port))
    return found or [(None, ends.find(word), port)]


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


async def _queries(request: web.Request) -> Sequence[Query]:
    """Return the packets that another node asks about; raise InvalidError unless they are some."""
    try:
        queries = (await request.json())["packets"]
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidError(f"packets: {error}") from error
    if not isinstance(queries, list) or not 1 <= len(queries) <= MOST:
        raise InvalidError(f"packets: must be a list of 1 to {MOST}")
    for query in queries:
        if not isinstance(query, dict) or not all(isinstance(v, str) for v in query.values()):
            raise InvalidError("packets: each must be an object of texts")
    return queries


def _asked(query: Query, ends: Ends) -> Asked:
    protocol = _protocol(query)
    source, destination = (ends.at(_address(query, key)) for key in ("source", "destination"))
    return Asked(
        source, destination, protocol, _port(query, protocol),
        vip=_entry(query, "vip"), entry=_entry(query, "entry"),
    )  # fmt: skip


def _word(query: Query, key: str) -> str:
    word = query.get(key, "")
    if not word:
        raise InvalidError(f"{key}: is missing")
    return word


def _protocol(query: Query) -> Traffic:
    text = query.get("protocol", "tcp")
    try:
        protocol = Traffic(text)
    except ValueError as error:
        raise InvalidError(f"protocol: {text!r} is none of {', '.join(Traffic)}") from error
    if protocol is Traffic.ANY:
        raise InvalidError("protocol: a packet has one")
    return protocol


def _port(query: Query, protocol: Traffic) -> int:
    text = query.get("port", "")
    if not protocol.has_ports:
        return 0
    if not text.isdecimal() or not 1 <= int(text[:6]) <= 65535:
        raise InvalidError(f"port: {text!r} is not within 1-65535")
    return int(text)


def _address(query: Query, key: str) -> IPAddress:
    text = _word(query, key)
    try:
        return ip_address(text)
    except ValueError as error:
        raise InvalidError(f"{key}: {text!r} is no address") from error


def _entry(query: Query, key: str) -> Entry | None:
    if key not in query:
        return None
    port = query.get(f"{key}_port", "")
    if not port.isdecimal() or not 1 <= int(port[:6]) <= 65535:
        raise InvalidError(f"{key}_port: {port!r} is not within 1-65535")
    return Entry(_address(query, key), int(port))
