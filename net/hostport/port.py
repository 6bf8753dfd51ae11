"""Port mappings of one container as elements; pure."""

from phalanx.net.netlink.nft import INET, Element, field
from phalanx.net.netlink.route import address_text, last_of, network_of

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


class Mapping:
    """A port of the node that leads to one of a container."""

    __slots__ = ("container_port", "host", "host_port", "protocol")

    def __init__(self, host: bytes, host_port: int, container_port: int, protocol: str) -> None:
        self.host = host  # an address of the node, empty for any
        self.host_port = host_port
        self.container_port = container_port
        self.protocol = protocol


def mapping_elements(
    mappings: list[Mapping],
    address: bytes,
    length: int,
    *,
    returned: bool = True,
    hidden: bool = False,
    variant: str = "",
) -> list[Element]:
    """Return the elements that lead mapped ports to a container's address.

    *returned*: the node and neighbours on the container's subnet reach the
    ports, too, with an address that the answer comes back by; *hidden* as well:
    every client comes with one of the node's. *variant* is the tag of a condition.
    """
    size = len(address)
    family = 4 if size == 4 else 6
    found = []
    for each in mappings:
        if each.host and len(each.host) != size:
            continue
        protocol = field(bytes([PROTOCOLS[each.protocol]]))
        port = field(each.host_port.to_bytes(2, "big"))
        target = address + field(each.container_port.to_bytes(2, "big"))
        host = each.host if any(each.host) else b""
        found.append(
            Element(
                INET,
                f"{'own' if host else 'any'}{family}{variant and '_' + variant}",
                host + protocol + port,
                data=target,
                what=f"host port {_address(host, each.host_port)}/{each.protocol}",
            )
        )
    if found and hidden and returned:
        found.append(Element(INET, f"hidden{family}", address))
    elif found and returned:
        found += [Element(INET, f"returned{family}", address), near(address, length)]
    return found


def near(address: bytes, length: int) -> Element:
    """Return the element that says: from this subnet to this subnet."""
    first, last = network_of(address, length), last_of(address, length)
    set_name = "near4" if len(address) == 4 else "near6"
    return Element(INET, set_name, first + first, end=last + last, is_shared=True)


def _address(host: bytes, port: int) -> str:
    if not host:
        return str(port)
    text = address_text(host)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
