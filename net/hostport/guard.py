"""What a container may send as its own, as elements; pure."""

from phalanx.net.netlink.nft import BRIDGE, Element, field, name

UNSPECIFIED = bytes(16)  # the source of duplicate address detection (RFC 4862, 5.4)


def guard_elements(port: str, mac: bytes, addresses: "list[bytes]") -> "list[Element]":
    """Return the elements that hold a bridge's port to a MAC and some addresses.

    With them go the address that IPv6 makes of the MAC, and none at all, which
    IPv6 asks with whether an address is taken. What neighbour discovery may
    say of an address is what the address' own container says.
    """
    link, own, what = name(port), field(mac), f"guard of {port}"
    found = [
        *mac_elements(port, mac),
        Element(BRIDGE, "guarded", link, what=what),
        Element(BRIDGE, "linked", link + own, what=what),
    ]
    for packed in sorted({*(each for each in addresses if len(each) == 16), link_local(mac)}):
        found.append(Element(BRIDGE, "target", link + packed, what=what))
    for packed in sorted({*addresses, UNSPECIFIED, link_local(mac)}):
        set_name = "own4" if len(packed) == 4 else "own6"
        found.append(Element(BRIDGE, set_name, link + own + packed, what=what))
    return found


def mac_elements(port: str, mac: bytes) -> "list[Element]":
    """Return the elements that hold a bridge's port to a MAC, whatever its addresses."""
    link, what = name(port), f"guard of {port}"
    return [
        Element(BRIDGE, "mac", link + field(mac), what=what),
        Element(BRIDGE, "tagged", link, what=what),
    ]


def link_local(mac: bytes) -> bytes:
    """Return the link-local address that a MAC brings along (RFC 4291, appendix A)."""
    half = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:6]
    return b"\xfe\x80" + bytes(6) + half
