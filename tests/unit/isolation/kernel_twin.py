"""What the isolation table makes of a packet, from its elements: its rules in Python."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network

from phalanx.net.isolation.evaluate import Packet
from phalanx.net.isolation.layout import (
    ENTERS,
    FAR,
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
    SAME,
    WALLED,
    WIDE,
)
from phalanx.net.model.objects import IPAddress
from phalanx.net.nft.element import Element

Sets = Mapping[str, Mapping[tuple[str, ...], str]]


class KernelTwin:
    """A table with elements, asked as the kernel asks it about the first packet of a flow."""

    def __init__(self, elements: Iterable[Element]) -> None:
        self._sets: dict[str, dict[tuple[str, ...], str]] = {}
        for element in elements:
            held = self._sets.setdefault(element.set_name, {})
            assert element.fields not in held, f"{element} is there twice"
            held[element.fields] = element.data

    def passes(self, packet: Packet) -> bool:
        version = str(packet.source.version)
        ends = packet.source, packet.destination
        if self._holds(SAME + version, *ends):
            return True
        decision = self._decision(packet, version)
        if decision in (PASS, REFUSE):
            return decision == PASS
        leaves = self._is_open(packet.source, packet.destination, version)
        enters = self._is_open(packet.destination, packet.source, version)
        return {LEAVES: enters, ENTERS: leaves, None: leaves and enters}[decision]

    def _decision(self, packet: Packet, version: str) -> str | None:
        number = self._exact(FINE + version, str(packet.source))
        number = number or self._within(WIDE + version, packet.source)
        if number is None:
            return None
        pair = self._exact(NEAR + version, number, str(packet.destination))
        pair = pair or self._within(FAR + version, packet.destination, before=(number,))
        if pair is None:
            return None
        protocol = str(packet.protocol)
        if packet.protocol in (6, 17, 132):
            found = self._exact(PORTS, pair, protocol, str(packet.port))
            if found is not None:
                return found
            for fields, data in self._sets.get(RANGES, {}).items():
                first, _, last = fields[2].partition("-")
                if fields[:2] == (pair, protocol) and int(first) <= packet.port <= int(last):
                    return data
        return self._exact(PROTOCOLS, pair, protocol) or self._exact(OTHERS, pair)

    def _is_open(self, near: IPAddress, far: IPAddress, version: str) -> bool:
        return not (self._holds(WALLED + version, near) and self._holds(NETWORKS + version, far))

    def _exact(self, name: str, *fields: str) -> str | None:
        return self._sets.get(name, {}).get(fields)

    def _within(self, name: str, address: IPAddress, *, before: tuple[str, ...] = ()) -> str | None:
        found = [
            data
            for fields, data in self._sets.get(name, {}).items()
            if fields[:-1] == before and covers(fields[-1], address)
        ]
        assert len(found) < 2, f"{name} holds {address} twice"
        return found[0] if found else None

    def _holds(self, name: str, *addresses: IPAddress) -> bool:
        return any(all(map(covers, fields, addresses)) for fields in self._sets.get(name, {}))


def covers(text: str, address: IPAddress) -> bool:
    """Tell whether an address lies in a prefix or a range as nft writes it."""
    first, hyphen, last = text.partition("-")
    if hyphen:
        return int(ip_address(first)) <= int(address) <= int(ip_address(last))
    return address in ip_network(first)
