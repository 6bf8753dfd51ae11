"""UDP flows under way, which conntrack would go on leading where it led them before.

A rule that translates is asked for the first packet of a flow only, and a
flow of UDP has no end: a client that sends on meets neither a new mapping nor
the end of an old one until conntrack forgets it.
"""

from _struct import pack

from phalanx.net.netlink import route as nl
from phalanx.net.netlink.nft import Element
from phalanx.net.netlink.wire import (
    NETFILTER,
    Attributes,
    Conversation,
    Message,
    attribute,
    attributes,
    nest,
)

GET, DELETE = (1 << 8) + 1, (1 << 8) + 2  # of the subsystem ctnetlink
ORIGINAL, REPLY, ZONE, FILTER = 1, 2, 18, 25  # CTA_*
ADDRESSES, PROTOCOL = 1, 2  # in a tuple
UDP = 17
BY_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5
MAPS = ("any4", "any6", "own4", "own6")
ENOENT = 2


class Target:
    """Where a mapping of UDP leads."""

    __slots__ = ("address", "host", "port")

    def __init__(self, host: bytes, port: bytes, address: bytes) -> None:
        self.host = host  # the node's address, empty for any
        self.port = port
        self.address = address


def targets(elements: list[Element]) -> list[Target]:
    """Return the mappings of UDP among the elements of a container."""
    found = []
    for each in elements:
        name = each.set_name.partition("_")[0]  # after it: the condition
        if name not in MAPS or not each.data:
            continue
        size = 4 if name.endswith("4") else 16
        host = each.key[:size] if name.startswith("own") else b""
        if each.key[len(host)] == UDP:
            port = each.key[len(host) + 4 : len(host) + 6]
            found.append(Target(host, port, each.data[:size]))
    return found


def forget(elements: list[Element], *, mapped: bool) -> int:
    """Make conntrack forget flows to the node's mapped ports; return how many.

    With *mapped* those that lead elsewhere than the mapping says, which has
    just been made; without, those that lead to the container, which has it no
    longer. A kernel without conntrack has none to forget.
    """
    wanted = targets(elements)
    if not wanted:
        return 0
    links, talk = Conversation(), Conversation(NETFILTER)
    try:
        local = {packed for packed, _ in nl.addresses(links, 0)}
        return sum(_forget(talk, target, local, mapped=mapped) for target in wanted)
    except OSError:
        return 0  # the mapping stands; a flow of before may go astray until it times out
    finally:
        links.close()
        talk.close()


def _forget(talk: Conversation, target: Target, local: set[bytes], *, mapped: bool) -> int:
    size = len(target.address)
    head = pack("=BBH", nl.family_of(target.address), 0, 0)
    like = nest(ORIGINAL, nest(PROTOCOL, attribute(1, bytes([UDP])), attribute(3, target.port)))
    flags = nest(FILTER, attribute(1, pack("=I", BY_PROTOCOL_AND_PORT)))
    count = 0
    for payload in talk.dump(GET, head + like + flags):
        flow = attributes(payload, 4)
        destination, port = _end(flow.get(ORIGINAL, b""), size)
        if port != target.port or destination not in ([target.host] if target.host else local):
            continue  # older kernels know no filter, and a flow may be between others
        if (_start(flow.get(REPLY, b""), size) == target.address) == mapped:
            continue
        zone = attribute(ZONE, flow[ZONE]) if ZONE in flow else b""
        original = attribute(ORIGINAL | 0x8000, flow[ORIGINAL])
        [number] = talk.tell(Message(DELETE, 0, head + original + zone))
        count += number == 0
    return count


def _parts(raw: bytes) -> tuple[Attributes, Attributes]:
    found = attributes(raw)
    return attributes(found.get(ADDRESSES, b"")), attributes(found.get(PROTOCOL, b""))


def _end(raw: bytes, size: int) -> tuple[bytes, bytes]:
    """Return the destination and its port of a tuple of UDP."""
    addresses, protocol = _parts(raw)
    if protocol.get(1) != bytes([UDP]):
        return b"", b""
    return addresses.get(2 if size == 4 else 4, b""), protocol.get(3, b"")


def _start(raw: bytes, size: int) -> bytes:
    """Return the source of a tuple."""
    return _parts(raw)[0].get(1 if size == 4 else 3, b"")
