"""Links, addresses and routes in rtnetlink's terms; messages are made here, sent elsewhere."""

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from _struct import pack, unpack_from

from phalanx.net.netlink.wire import (
    CREATE,
    EXCL,
    Attributes,
    Conversation,
    Message,
    attribute,
    attributes,
    nest,
    text,
    u32,
)

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, GETROUTE = 24, 26
UP, PROMISC = 0x1, 0x100
MAC, NAME, MTU, MASTER, INFO, ALIAS, NETNS_FD = 1, 3, 4, 10, 18, 20, 28  # IFLA_*
TX_QUEUES, RX_QUEUES = 31, 32
KIND, DATA, SLAVE_KIND, SLAVE_DATA = 1, 2, 4, 5  # inside INFO
NODAD, DAD_FAILED, TENTATIVE = 0x02, 0x08, 0x40  # IFA_F_*
ROUTE_PROTOCOL = 0x7A  # listed in docs/reference/marks.md


class Link:
    """A link as the kernel tells of it."""

    __slots__ = ("alias", "flags", "index", "kind", "mac", "master", "mtu", "name")

    def __init__(self, payload: bytes) -> None:
        found = attributes(payload, 16)
        info = attributes(found.get(INFO, b""))
        self.index: int
        self.flags: int
        self.index, self.flags = unpack_from("=iI", payload, 4)
        self.name = found[NAME].rstrip(b"\0").decode()
        self.mac = ":".join(f"{byte:02x}" for byte in found.get(MAC, b""))
        self.mtu: int = unpack_from("=I", found[MTU])[0]
        self.master: int = unpack_from("=I", found[MASTER])[0] if MASTER in found else 0
        self.kind = info.get(KIND, b"").rstrip(b"\0").decode()
        self.alias = found.get(ALIAS, b"").rstrip(b"\0").decode(errors="replace")


def link(
    kind: int, *inner: bytes, index: int = 0, flags: int = 0, change: int = 0, options: int = 0
) -> Message:
    """Return a message about one link; *options* are netlink's, *flags* the link's."""
    return Message(kind, options, header(index, flags, change) + b"".join(inner))


def header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """Return the fixed part of a message about a link."""
    return pack("=BxHiII", 0, 0, index, flags, change)


def find(talk: Conversation, name: str) -> Link | None:
    """Return the link of this name, or None."""
    try:
        return Link(talk.ask(link(GETLINK, text(NAME, name))))
    except OSError as error:
        if error.errno in (19, 22):  # ENODEV; EINVAL for a name that no link can have
            return None
        raise


def links(talk: Conversation) -> list[Link]:
    """Return all links."""
    return [Link(payload) for payload in talk.dump(GETLINK, header())]


def new_bridge(name: str, mac: bytes, mtu: int) -> Message:
    """Return the message that makes a bridge, up; its MAC is set, so ports don't change it."""
    return link(
        NEWLINK,
        text(NAME, name),
        attribute(MAC, mac),
        u32(MTU, mtu) if mtu else b"",
        nest(INFO, text(KIND, "bridge")),
        flags=UP,
        change=UP,
        options=CREATE | EXCL,
    )


def new_veth(
    name: str, mac: bytes, bridge: int, peer: str, peer_mac: bytes, netns: int, mtu: int
) -> Message:
    """Return the message that makes a pair: one end up on the bridge, the other in *netns*.

    With one queue each, which is what the kernel uses in the end: unless it is told so it makes
    one for each CPU, takes the others away again and waits, all of rtnetlink with it.
    """
    common = u32(TX_QUEUES, 1) + u32(RX_QUEUES, 1) + (u32(MTU, mtu) if mtu else b"")
    other = header() + text(NAME, peer) + attribute(MAC, peer_mac) + common + u32(NETNS_FD, netns)
    return link(
        NEWLINK,
        text(NAME, name),
        attribute(MAC, mac),
        common,
        u32(MASTER, bridge),
        nest(INFO, text(KIND, "veth"), nest(DATA, attribute(1 | 0x8000, other))),
        flags=UP,
        change=UP,
        options=CREATE | EXCL,
    )


def port(name: str, *, alias: str, hairpin: bool, isolated: bool) -> Message:
    """Return the message that says whose a port is and how the bridge treats it."""
    settings = [attribute(4, b"\1")] if hairpin else []
    settings += [attribute(33, b"\1")] if isolated else []
    info = nest(INFO, text(SLAVE_KIND, "bridge"), nest(SLAVE_DATA, *settings)) if settings else b""
    return link(NEWLINK, text(NAME, name), attribute(ALIAS, alias[:255].encode()), info)


def family_of(packed: bytes) -> int:
    """Return the address family of an address's bytes."""
    return AF_INET if len(packed) == 4 else AF_INET6


def new_address(index: int, packed: bytes, length: int, *, asks: bool = False) -> Message:
    """Return the message that gives a link an address; who has it is asked for IPv6 by *asks*."""
    family = family_of(packed)
    inner = attribute(2, packed) + attribute(1, packed)
    if family == AF_INET and length < 31:
        mask = (1 << 32 - length) - 1
        inner += attribute(4, pack("!I", int.from_bytes(packed, "big") | mask))
    flags = NODAD if family == AF_INET6 and not asks else 0
    head = pack("=BBBBi", family, length, flags, 0, index)
    return Message(NEWADDR, CREATE | EXCL, head + inner)


def del_address(index: int, packed: bytes, length: int) -> Message:
    """Return the message that takes an address from a link."""
    head = pack("=BBBBi", family_of(packed), length, 0, 0, index)
    return Message(DELADDR, 0, head + attribute(2, packed) + attribute(1, packed))


def addresses(talk: Conversation, index: int) -> list[tuple[bytes, int]]:
    """Return the addresses of a link with the lengths of their prefixes."""
    found = []
    for payload in talk.dump(GETADDR, pack("=BBBBi", 0, 0, 0, 0, index)):
        inner = attributes(payload, 8)
        found.append((inner.get(2) or inner[1], payload[1]))
    return found


def doubts(talk: Conversation, index: int) -> tuple[bool, list[bytes]]:
    """Tell whether the kernel still asks who has a link's addresses; and those that others have."""
    is_asking, taken = False, []
    for payload in talk.dump(GETADDR, pack("=BBBBi", AF_INET6, 0, 0, 0, index)):
        is_asking = is_asking or payload[2] & (TENTATIVE | DAD_FAILED) == TENTATIVE
        if payload[2] & DAD_FAILED:
            taken.append(attributes(payload, 8)[1])
    return is_asking, taken


def new_route(index: int, packed: bytes, length: int, gateway: bytes, more: Attributes) -> Message:
    """Return the message that makes a route; *more* may hold priority, table, mtu, advmss, scope.

    These are numbers, by the attribute that carries them: 6, 15, and 2 and 8
    inside the metrics (negated here: -2, -8), 0 for the scope.
    """
    scope = more.get(0, b"\0" if gateway else b"\xfd")[0]
    table = unpack_from("=I", more[15])[0] if 15 in more else 254
    head = pack(
        "=BBBBBBBBI",
        family_of(packed), length, 0, 0, min(table, 255), ROUTE_PROTOCOL, scope, 1, 0,
    )  # fmt: skip
    inner = attribute(1, packed) if length else b""
    inner += u32(4, index) + (attribute(5, gateway) if gateway else b"")
    inner += attribute(6, more[6]) if 6 in more else b""
    inner += u32(15, table)
    metrics = b"".join(attribute(-kind, value) for kind, value in more.items() if kind < 0)
    return Message(NEWROUTE, CREATE | EXCL, head + inner + (nest(8, metrics) if metrics else b""))


def routes(talk: Conversation, index: int) -> list[tuple[bytes, int, bytes]]:
    """Return destination, prefix length and gateway of the routes over a link."""
    found = []
    for family, none in ((AF_INET, bytes(4)), (AF_INET6, bytes(16))):
        for payload in talk.dump(GETROUTE, pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)):
            inner = attributes(payload, 12)
            if 4 in inner and unpack_from("=i", inner[4])[0] == index:
                found.append((inner.get(1, none), payload[1], inner.get(5, b"")))
    return found


def packed_of(address: str) -> bytes:
    """Return an address's bytes; raise ValueError if it is none."""
    try:
        return inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    except OSError as error:
        raise ValueError(f"{address!r} is not an IP address") from error


def address_text(packed: bytes) -> str:
    """Return an address as text."""
    return inet_ntop(family_of(packed), packed)


def prefix_of(value: str) -> tuple[bytes, int]:
    """Return the address and length of ``address/length``; raise ValueError if it is none."""
    address, slash, length = value.partition("/")
    packed = packed_of(address)
    if not slash or not length.isdecimal() or int(length) > 8 * len(packed):
        raise ValueError(f"{value!r} is not an address with the length of its prefix")
    return packed, int(length)


def network_of(packed: bytes, length: int) -> bytes:
    """Return the first address of the prefix that an address is in."""
    rest = 8 * len(packed) - length
    return (int.from_bytes(packed, "big") >> rest << rest).to_bytes(len(packed), "big")


def last_of(packed: bytes, length: int) -> bytes:
    """Return the last address of the prefix that an address is in."""
    mask = (1 << 8 * len(packed) - length) - 1
    return (int.from_bytes(packed, "big") | mask).to_bytes(len(packed), "big")


def mac_of(value: str) -> bytes:
    """Return the bytes of a MAC; raise ValueError if it is none, or a group's."""
    parts = value.split(":")
    if len(parts) != 6 or any(len(part) != 2 for part in parts):
        raise ValueError(f"{value!r} is not a MAC address")
    packed = bytes(int(part, 16) for part in parts)
    if packed[0] & 1 or not any(packed):
        raise ValueError(f"{value!r} is not the MAC address of one link")
    return packed


def mac_text(packed: bytes) -> str:
    """Return a MAC as text."""
    return ":".join(f"{byte:02x}" for byte in packed)
