"""VLANs of a bridge's ports, and the node's own end of one, by netlink."""

from _sha1 import sha1  # type: ignore[import-not-found]  # hashlib loads OpenSSL
from _struct import pack

from phalanx.cni.setting import Settings
from phalanx.cni.skeleton import EXISTS, KERNEL, Refusal
from phalanx.net.netlink import route as nl
from phalanx.net.netlink.wire import (
    CREATE,
    EXCL,
    Conversation,
    Message,
    attribute,
    nest,
    text,
    u32,
)

SETLINK = 19
AF_BRIDGE = 7
AF_SPEC, VLAN_INFO = 26, 2
VLAN_FILTERING = 7  # IFLA_BR_VLAN_FILTERING
PVID, UNTAGGED, RANGE_BEGIN, RANGE_END = 2, 4, 8, 16  # BRIDGE_VLAN_INFO_*
DEFAULT = 1  # the VLAN that every port begins in
PREFIX = "phxg"  # and ten hex digits: the bridge's end of a gateway; docs/reference/marks.md


def filter_vlans(node: Conversation, bridge: nl.Link) -> None:
    """Let the bridge tell VLANs apart; raise Refusal when the kernel can't."""
    data = nest(nl.DATA, attribute(VLAN_FILTERING, b"\1"))
    info = nest(nl.INFO, text(nl.KIND, "bridge"), data)
    try:
        node.change(nl.link(nl.NEWLINK, info, index=bridge.index), f"bridge {bridge.name}")
    except OSError as error:
        raise Refusal(KERNEL, f"vlan: the kernel's bridges have no VLANs: {error}") from error


def join(node: Conversation, port: nl.Link, settings: Settings) -> None:
    """Put a port into its VLANs: into one without tags, or into several with."""
    if not settings.keeps_default_vlan:
        node.change(_vlan(nl.DELLINK, port, [(0, DEFAULT)]), f"VLAN {DEFAULT} of {port.name}")
    if settings.vlan:
        flags = PVID | UNTAGGED
        message = _vlan(SETLINK, port, [(flags, settings.vlan)])
        node.change(message, f"VLAN {settings.vlan} of {port.name}")
    for first, last in settings.trunk:
        given = [(0, first)] if first == last else [(RANGE_BEGIN, first), (RANGE_END, last)]
        node.change(_vlan(SETLINK, port, given), f"VLANs {first} to {last} of {port.name}")


def gateway(node: Conversation, bridge: nl.Link, settings: Settings) -> nl.Link:
    """Return the node's own link in the VLAN, made if it isn't there."""
    name = gateway_name(settings)
    peer = f"{PREFIX}{sha1(name.encode()).hexdigest()[:10]}"
    link = nl.find(node, name)
    if link is None:
        message = nl.link(
            nl.NEWLINK,
            text(nl.NAME, peer),
            u32(nl.MTU, bridge.mtu),
            u32(nl.MASTER, bridge.index),
            nest(
                nl.INFO,
                text(nl.KIND, "veth"),
                nest(nl.DATA, attribute(1 | 0x8000, nl.header() + text(nl.NAME, name))),
            ),
            flags=nl.UP,
            change=nl.UP,
            options=CREATE | EXCL,
        )
        node.tell(message)  # another plugin may be faster
        link = nl.find(node, name)
    if (port := nl.find(node, peer)) is not None:
        join(node, port, settings)  # whoever made it may have died before
    if link is None or link.kind != "veth":
        raise Refusal(EXISTS, f"{name} is not the gateway of a VLAN")
    if not link.flags & nl.UP:
        up = nl.link(nl.NEWLINK, index=link.index, flags=nl.UP, change=nl.UP)
        node.change(up, name)
    return link


def gateway_name(settings: Settings) -> str:
    """Return the name of the node's own link in the VLAN."""
    return f"{settings.bridge}.{settings.vlan}"


def _vlan(kind: int, port: nl.Link, given: "list[tuple[int, int]]") -> Message:
    infos = [attribute(VLAN_INFO, pack("=HH", flags, vlan)) for flags, vlan in given]
    head = pack("=BxHiII", AF_BRIDGE, 0, port.index, 0, 0)
    return Message(kind, 0, head + nest(AF_SPEC, *infos))
