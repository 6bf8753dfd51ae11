"""phalanx-portmap: ports of the node that lead to a container; elements, never rules."""

from phalanx.cni.phalanx_net import parse, render
from phalanx.cni.results import objects, router_of
from phalanx.cni.skeleton import BAD_CONFIG, DIFFERS, EXISTS, Call, Json, Plugin, Refusal
from phalanx.net.hostport.port import PROTOCOLS, Mapping, mapping_elements
from phalanx.net.hostport.store import Elements, TakenError
from phalanx.net.netlink.nft import Element
from phalanx.net.netlink.route import packed_of, prefix_of

TYPE_CHECKING = False  # typing takes longer to load than a port to map
if TYPE_CHECKING:
    from phalanx.net.hostport.condition import Condition

LARGEST_BIT = 31


class Store(Elements):
    """The elements of a call's owner; a refusal says what is taken."""

    def put(self, elements: list[Element], conditions: "list[Condition] | None" = None) -> None:
        """Add the elements, all or none; raise Refusal when one is another's."""
        try:
            super().put(elements, conditions)
        except TakenError as error:
            raise Refusal(EXISTS, str(error)) from error


def store(call: Call) -> Store:
    """Return where the elements of the call's owner are kept."""
    kind = str(call.config.get("type", ""))
    return Store(call.network, call.owner, kind, render=render, parse=parse)


def mappings(call: Call) -> list[Mapping]:
    """Return the port mappings that the runtime asks for; raise Refusal for one that can't be."""
    check_marks(call)
    conditions(call)
    found = []
    given = call.runtime.get("portMappings")
    if given is not None and not isinstance(given, list):
        raise Refusal(BAD_CONFIG, f"portMappings: {given!r} is not a list")
    for item in given or []:
        if not isinstance(item, dict):
            raise Refusal(BAD_CONFIG, f"portMappings: {item!r} is not an object")
        host_port, container_port = item.get("hostPort", 0), item.get("containerPort", 0)
        for key, value in (("hostPort", host_port), ("containerPort", container_port)):
            if type(value) is not int or not 0 <= value <= 65535:
                raise Refusal(BAD_CONFIG, f"portMappings: {key}: {value!r} is not a port")
        protocol = str(item.get("protocol") or "tcp").lower()
        if protocol not in PROTOCOLS:
            raise Refusal(BAD_CONFIG, f"portMappings: invalid protocol {protocol!r}")
        if host_port == 0:
            continue
        if container_port == 0:
            raise Refusal(BAD_CONFIG, "portMappings: containerPort: 0 is not a port")
        try:
            host = packed_of(str(item["hostIP"])) if item.get("hostIP") else b""
        except ValueError as error:
            raise Refusal(BAD_CONFIG, f"portMappings: hostIP: {error}") from error
        found.append(Mapping(host, host_port, container_port, protocol))
    return found


def check_marks(call: Call) -> None:
    """Raise Refusal for a mark that can't be.

    The reference marks what it will masquerade, by a bit or a chain of the
    host's. Masquerade of ours goes by the container's address, so both are
    taken and neither is needed.
    """
    bit, chain = call.config.get("markMasqBit"), call.text("externalSetMarkChain", "")
    if bit is not None and chain:
        raise Refusal(BAD_CONFIG, "cannot specify externalSetMarkChain and markMasqBit")
    call.number("markMasqBit", LARGEST_BIT)


def conditions(call: Call) -> "list[Condition]":
    """Return what packets to mapped ports have to match beside, of each family at most one."""
    given: dict[int, list[str]] = {}
    for family in (4, 6):
        words = call.config.get(key := f"conditionsV{family}")
        if not words:
            continue
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise Refusal(BAD_CONFIG, f"{key}: {words!r} is not a list of texts")
        given[family] = words
    if not given:
        return []
    from phalanx.net.hostport.condition import Condition

    return [Condition(family, words) for family, words in given.items()]


def elements(call: Call, ports: list[Mapping], result: Json) -> list[Element]:
    """Return the elements for the first address of each family of the container."""
    found: list[Element] = []
    if not ports:
        return found
    seen: set[int] = set()
    tags = {4 if each.family == 4 else 16: each.tag for each in conditions(call)}
    links = objects(result, "interfaces")
    for ip in objects(result, "ips"):
        index = ip.get("interface")
        if type(index) is int and 0 <= index < len(links) and not links[index].get("sandbox"):
            continue
        packed, length = prefix_of(str(ip["address"]))
        if len(packed) not in seen:
            seen.add(len(packed))
            found += mapping_elements(
                ports,
                packed,
                length,
                returned=call.flag("snat", default=True),
                hidden=call.flag("masqAll"),
                variant=tags.get(len(packed), ""),
            )
    return found


def open_loopback(ports: list[Mapping], link: str) -> None:
    """Let connections to 127.0.0.1 be led out over *link*."""
    if ports and link:
        path = f"/proc/sys/net/ipv4/conf/{link.replace('.', '/')}/route_localnet"
        try:
            with open(path, "w") as file:
                file.write("1")
        except OSError:
            return  # the bridge is another plugin's and may be no link of ours to set


class Portmap(Plugin):
    """The chained plugin."""

    about = "phalanx-portmap: leads ports of the node to a container"

    def add(self, call: Call) -> Json:
        """Map."""
        previous = call.needed_previous()
        ports = mappings(call)
        if ports and not objects(previous, "ips"):
            raise Refusal(BAD_CONFIG, "got no IPs in prevResult, cannot map ports")
        store(call).put(elements(call, ports, previous), conditions(call))
        open_loopback(ports, router_of(previous))
        return previous

    def delete(self, call: Call) -> None:
        """Unmap."""
        store(call).drop()

    def check(self, call: Call) -> None:
        """Look for the elements."""
        call.needed_previous()
        kept = store(call)
        wanted = elements(call, mappings(call), call.needed_previous())
        there = {(each.set_name, each.key, each.data) for each in kept.elements()}
        faults = kept.missing() + [
            f"{each.what} is not mapped"
            for each in wanted
            if each.what and (each.set_name, each.key, each.data) not in there
        ]
        if faults:
            raise Refusal(DIFFERS, f"{call.owner}: {'; '.join(faults)}")

    def collect(self, call: Call) -> None:
        """Unmap what is nobody's."""
        store(call).drop_others(call.valid())
