"""What the isolation table does with a packet, look-up by look-up, from its elements; pure.

The table's rules in Python: which element is found in which set, and where
that leads. It explains a packet to people (``phalanx trace``), and tests hold
it against the semantics and against the kernel.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from phalanx.net.isolation.evaluate import Packet
from phalanx.net.isolation.layout import (
    ENTERS,
    FAR,
    FENCED,
    FINE,
    LEAVES,
    NEAR,
    NETWORKS,
    OTHERS,
    PASS,
    PORTS,
    PROTOCOLS,
    RANGES,
    REFUSE,
    RESOLVERS,
    SAME,
    SERVICES,
    VIPS,
    WALLED,
    WIDE,
)
from phalanx.net.model.objects import IPAddress
from phalanx.net.nft.element import Element

WITH_PORTS = (6, 17, 132)
DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class Step:
    """One look-up: the set, the element that was found or None, and what it means."""

    set_name: str
    element: Element | None
    meaning: str


@dataclass(frozen=True, slots=True)
class Path:
    """The look-ups of a packet, and whether it passes."""

    steps: tuple[Step, ...]
    passes: bool


class Lookup:
    """The elements of a table, asked as the kernel asks them about the first packet of a flow."""

    def __init__(self, elements: Iterable[Element]) -> None:
        self._sets: dict[str, dict[tuple[str, ...], Element]] = {}
        for element in elements:
            self._sets.setdefault(element.set_name, {})[element.fields] = element

    def between(self, packet: Packet) -> Path:
        """Return the path of a packet that is forwarded."""
        steps: list[Step] = []
        version = str(packet.source.version)
        same = self._covering(SAME + version, packet.source, packet.destination)
        if same is not None:
            return Path((Step(same.set_name, same, "both ends are in one network"),), passes=True)
        decision = self._decision(packet, version, steps)
        if decision in (PASS, REFUSE):
            return Path(tuple(steps), passes=decision == PASS)
        passes = True
        if decision != LEAVES:
            passes = self._default(packet.source, packet.destination, version, "leave", steps)
        if decision != ENTERS and passes:
            passes = self._default(packet.destination, packet.source, version, "enter", steps)
        return Path(tuple(steps), passes=passes)

    def to_node(self, packet: Packet) -> Path:
        """Return the path of a packet that a container sends to a node itself."""
        version = str(packet.source.version)
        if self._exact(FENCED, "0-255") is None:
            return Path((Step(FENCED, None, "no fence stands around the node"),), passes=True)
        steps: list[Step] = []
        if packet.protocol in (1, 58):
            return Path((Step("node", None, "ping and errors pass the fence"),), passes=True)
        service = self._with_port(SERVICES, (str(packet.protocol),), packet.port)
        steps.append(
            Step(SERVICES, service, "the service is declared" if service else "no service")
        )
        if service is None and packet.port == DNS_PORT:
            service = self._exact(RESOLVERS + version, str(packet.destination))
            steps.append(Step(RESOLVERS + version, service, "the node's resolver"))
        if service is None:
            service = self._covering(VIPS + version, packet.destination)
            steps.append(
                Step(VIPS + version, service, "a virtual address" if service else "no VIP")
            )
        return Path(tuple(steps), passes=service is not None)

    def _decision(self, packet: Packet, version: str, steps: list[Step]) -> str | None:
        source = self._exact(FINE + version, str(packet.source))
        source = source or self._covering(WIDE + version, packet.source)
        if source is None:
            steps.append(Step(FINE + version, None, "no policy speaks of the source"))
            return None
        steps.append(Step(source.set_name, source, f"the source is of class {source.data}"))
        pair = self._exact(NEAR + version, source.data, str(packet.destination))
        pair = pair or self._covering(FAR + version, packet.destination, before=(source.data,))
        if pair is None:
            steps.append(Step(NEAR + version, None, "no policy speaks of the two ends"))
            return None
        steps.append(Step(pair.set_name, pair, f"the two ends are pair {pair.data}"))
        found: Element | None = None
        protocol = str(packet.protocol)
        if packet.protocol in WITH_PORTS:
            found = self._exact(PORTS, pair.data, protocol, str(packet.port))
            found = found or self._with_port(RANGES, (pair.data, protocol), packet.port)
        found = found or self._exact(PROTOCOLS, pair.data, protocol)
        found = found or self._exact(OTHERS, pair.data)
        if found is None:
            steps.append(Step(PORTS, None, "no policy speaks of protocol and port"))
            return None
        steps.append(Step(found.set_name, found, MEANING[found.data]))
        return found.data

    def _default(
        self, near: IPAddress, far: IPAddress, version: str, verb: str, steps: list[Step]
    ) -> bool:
        wall = self._covering(WALLED + version, near)
        other = self._covering(NETWORKS + version, far)
        if wall is not None and other is not None:
            meaning = f"by default nothing may {verb} an isolated network"
            steps.append(Step(WALLED + version, wall, meaning))
            return False
        steps.append(Step(WALLED + version, None, f"by default it may {verb}"))
        return True

    def _exact(self, name: str, *fields: str) -> Element | None:
        return self._sets.get(name, {}).get(fields)

    def _with_port(self, name: str, before: tuple[str, ...], port: int) -> Element | None:
        for fields, element in self._sets.get(name, {}).items():
            first, hyphen, last = fields[-1].partition("-")
            if fields[:-1] == before and int(first) <= port <= int(last if hyphen else first):
                return element
        return None

    def _covering(
        self, name: str, *addresses: IPAddress, before: tuple[str, ...] = ()
    ) -> Element | None:
        for fields, element in self._sets.get(name, {}).items():
            rest = fields[len(before) :]
            if fields[: len(before)] == before and all(map(covers, rest, addresses)):
                return element
        return None


MEANING = {
    PASS: "policies allow it",
    REFUSE: "a policy denies it",
    LEAVES: "policies let it leave its source; the destination's default counts",
    ENTERS: "policies let it come to its destination; the source's default counts",
}


def covers(text: str, address: IPAddress) -> bool:
    """Tell whether an address lies in a prefix or a range as nft writes it."""
    first, hyphen, last = text.partition("-")
    if hyphen:
        return int(ip_address(first)) <= int(address) <= int(ip_address(last))
    return address in ip_network(first)
