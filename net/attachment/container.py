"""The container's end of an attachment, by way of a netlink socket in its namespace."""

from ipaddress import IPv4Interface
from socket import AF_INET
from typing import Any

from phalanx.net.attachment.spec import AttachmentSpec

UP = 1  # IFF_UP
ROUTE_PROTOCOL = 0x7A  # listed in docs/reference/marks.md


def configure(ipr: Any, index: int, spec: AttachmentSpec) -> None:  # noqa: ANN401 - pyroute2 is untyped
    """Set up the container's end."""
    ipr.link("set", index=index, state="up")
    ipr.addr("add", index=index, **fields_of(spec.address))
    for route in spec.routes:
        ipr.route(
            "add",
            dst=str(route.prefix),
            gateway=str(route.gateway),
            oif=index,
            priority=route.metric,
            proto=ROUTE_PROTOCOL,
        )


def container_differences(ipr: Any, spec: AttachmentSpec) -> list[str]:  # noqa: ANN401 - pyroute2 is untyped
    """Compare the container's end with its plan; say what is missing or otherwise."""
    links = [link for link in ipr.link("dump") if link.get("ifname") == spec.ifname]
    if not links:
        return [f"interface {spec.ifname} is missing"]
    [link] = links
    faults = [] if link["flags"] & UP else [f"interface {spec.ifname} is down"]
    if link.get("address") != spec.mac:
        faults.append(f"interface {spec.ifname} has MAC {link.get('address')}, not {spec.mac}")
    addresses = [
        address_of(item)
        for item in ipr.addr("dump", family=AF_INET)
        if item["index"] == link["index"]
    ]
    if spec.address not in addresses:
        faults.append(f"address {spec.address} is missing")
    routes = {
        (f"{route.get('dst') or '0.0.0.0'}/{route['dst_len']}", route.get("gateway"))
        for route in ipr.route("dump", family=AF_INET)
        if route.get("oif") == link["index"]
    }
    return faults + [
        f"route to {route.prefix} via {route.gateway} is missing"
        for route in spec.routes
        if (str(route.prefix), str(route.gateway)) not in routes
    ]


def address_of(item: Any) -> IPv4Interface:  # noqa: ANN401 - a message of pyroute2, untyped
    """Return the address in a message of the kernel."""
    return IPv4Interface((item.get("local") or item.get("address"), item["prefixlen"]))


def fields_of(address: IPv4Interface) -> dict[str, Any]:
    """Return the fields of a message about an address."""
    broadcast = str(address.network.broadcast_address)
    return {
        "address": str(address.ip),
        "prefixlen": address.network.prefixlen,
        "broadcast": broadcast,
    }
