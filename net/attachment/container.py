"""The container's end of an attachment, by way of a netlink socket in its namespace."""

from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from phalanx.net.attachment.spec import AttachmentSpec
from phalanx.net.netlink import route as nl
from phalanx.net.netlink.wire import Conversation, Message, refusal

NO_DEVICE = 19
SETTINGS6 = Path("/proc/sys/net/ipv6/conf")
# An IPv6 interface has the address that it is given, at once, and no other.
INSIDE6 = {"disable_ipv6": "0", "accept_dad": "0", "accept_ra": "0"}


def prepare(spec: AttachmentSpec) -> None:
    """Make the container's end fit for IPv6 if it is to have some; call it in its namespace."""
    if any(address.version == 6 for address in spec.addresses):
        set_ipv6(spec.ifname, INSIDE6)


def set_ipv6(link: str, settings: dict[str, str]) -> None:
    """Write a link's settings of IPv6; a kernel that has none says so with the address."""
    for key, value in settings.items():
        with suppress(OSError):
            (SETTINGS6 / link / key).write_text(value)


def configure(inside: Conversation, spec: AttachmentSpec) -> None:
    """Set up the container's end: up, addresses, routes, in one go; raise OSError."""
    link = nl.find(inside, spec.ifname)
    if link is None:
        raise refusal(NO_DEVICE, spec.ifname)
    messages: list[tuple[str, Message]] = [
        (spec.ifname, nl.link(nl.NEWLINK, index=link.index, flags=nl.UP, change=nl.UP))
    ]
    for address in spec.addresses:
        message = nl.new_address(link.index, address.packed, address.network.prefixlen)
        messages.append((f"address {address}", message))
    for route in spec.routes:
        packed, length = route.prefix.network_address.packed, route.prefix.prefixlen
        more = {6: route.metric.to_bytes(4, "little")} if route.metric else {}
        message = nl.new_route(link.index, packed, length, route.gateway.packed, more)
        messages.append((f"route to {route.prefix}", message))
    numbers = inside.tell(*(message for _, message in messages))
    for (what, _), number in zip(messages, numbers, strict=True):
        if number:
            raise refusal(number, what)


def container_differences(inside: Conversation, spec: AttachmentSpec) -> list[str]:
    """Compare the container's end with its plan; say what is missing or otherwise."""
    link = nl.find(inside, spec.ifname)
    if link is None:
        return [f"interface {spec.ifname} is missing"]
    faults = [] if link.flags & nl.UP else [f"interface {spec.ifname} is down"]
    if link.mac != spec.mac:
        faults.append(f"interface {spec.ifname} has MAC {link.mac}, not {spec.mac}")
    addresses = nl.addresses(inside, link.index)
    faults += [
        f"address {address} is missing"
        for address in spec.addresses
        if (address.packed, address.network.prefixlen) not in addresses
    ]
    routes = {
        (ip_address(packed), length, ip_address(gateway))
        for packed, length, gateway in nl.routes(inside, link.index)
        if gateway
    }
    return faults + [
        f"route to {route.prefix} via {route.gateway} is missing"
        for route in spec.routes
        if (route.prefix.network_address, route.prefix.prefixlen, route.gateway) not in routes
    ]
