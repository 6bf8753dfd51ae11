"""What one attachment is made of, decided before anything is touched; pure."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network

from phalanx.core.error import InvalidError
from phalanx.net.attachment.bridge import (
    Bridge,
    Interface,
    LeasedNetwork,
    bridge_of,
    interface_of,
    mac_of,
)
from phalanx.net.attachment.wish import NO_LIMITS, Limits
from phalanx.net.ipam.owner import Owner
from phalanx.net.model.objects import IPAddress, IPNetwork

VETH_PREFIX = "phxv"  # and 8 hex digits; listed in docs/reference/marks.md
IFB_PREFIX = "phxi"  # and the same digits
EVERYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
METRIC6 = 1024  # what the kernel gives an IPv6 route that asks for none


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the container, by way of the bridge."""

    prefix: IPNetwork
    gateway: IPAddress
    metric: int = 0


@dataclass(frozen=True, slots=True)
class AttachmentSpec:
    """A container's interface on a network, and everything that comes with it."""

    owner: Owner
    netns: tuple[str, ...]  # paths of the container's namespace; the first that opens is used
    bridge: Bridge
    addresses: tuple[Interface, ...]  # IPv4 first
    gateways: tuple[IPAddress, ...]  # by position like addresses
    mac: str
    mtu: int
    routes: tuple[Route, ...]
    limits: Limits = NO_LIMITS

    @property
    def ifname(self) -> str:
        """Return the interface's name in the container."""
        return self.owner.ifname

    @property
    def veth(self) -> str:
        """Return the name of the node's end."""
        return veth_name(self.owner)

    @property
    def veth_mac(self) -> str:
        """Return the MAC of the node's end; high, as it is not to become the bridge's."""
        return ":".join(["fe", *(f"{byte:02x}" for byte in _digest(self.owner)[:5])])


def veth_name(owner: Owner) -> str:
    """Return the name of the node's end of an attachment."""
    return f"{VETH_PREFIX}{_digest(owner)[:4].hex()}"


def ifb_name(veth: str) -> str:
    """Return the name of the link that what a limited container sends is led through."""
    return f"{IFB_PREFIX}{veth.removeprefix(VETH_PREFIX)}"


@lru_cache(4096)
def _digest(owner: Owner) -> bytes:
    return hashlib.sha256(f"{owner.container_id}/{owner.ifname}".encode()).digest()


def plan(
    owner: Owner,
    network: LeasedNetwork,
    addresses: Sequence[IPAddress],
    *,
    mac: str = "",
    netns: tuple[str, ...] = (),
    limits: Limits = NO_LIMITS,
) -> AttachmentSpec:
    """Plan the attachment of *owner* to *network* with its *addresses*; raise InvalidError.

    A container on several networks has a default route by way of each, eth0's
    first; beside it, an interface after the first has a route to the whole of
    its own network. Without *mac* it is derived from the first address.
    """
    metric = _position(owner.ifname)
    interfaces: list[Interface] = []
    gateways: list[IPAddress] = []
    routes: list[Route] = []
    for address in addresses:
        leased = network.subnet_of(address)
        if leased is None:
            raise InvalidError(f"address {address}: {network.name} has no such family")
        number = metric + METRIC6 if metric and address.version == 6 else metric
        interfaces.append(interface_of(address, leased.subnet))
        gateways.append(leased.gateway)
        if metric and leased.prefix != leased.subnet:
            routes.append(Route(leased.prefix, leased.gateway, number))
        routes.append(Route(EVERYWHERE[address.version], leased.gateway, number))
    return AttachmentSpec(
        owner=owner,
        netns=netns,
        bridge=bridge_of(network),
        addresses=tuple(interfaces),
        gateways=tuple(gateways),
        mac=mac or mac_of(addresses[0]),
        mtu=network.mtu,
        routes=tuple(routes),
        limits=limits,
    )


def _position(ifname: str) -> int:
    """Return the number at the end of an interface's name, 0 when there is none."""
    found = re.search(r"[0-9]{1,4}$", ifname)
    return int(found[0]) if found else 0
