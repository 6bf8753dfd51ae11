"""What one attachment is made of, decided before anything is touched; pure."""

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from phalanx.net.attachment.bridge import Bridge, LeasedNetwork, bridge_of, mac_of
from phalanx.net.ipam.owner import Owner

VETH_PREFIX = "phxv"  # and 8 hex digits; listed in docs/reference/marks.md
EVERYWHERE = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the container, by way of the bridge."""

    prefix: IPv4Network
    gateway: IPv4Address
    metric: int = 0


@dataclass(frozen=True, slots=True)
class AttachmentSpec:
    """A container's interface on a network, and everything that comes with it."""

    owner: Owner
    netns: tuple[str, ...]  # paths of the container's namespace; the first that opens is used
    bridge: Bridge
    address: IPv4Interface
    gateway: IPv4Address
    mtu: int
    routes: tuple[Route, ...]

    @property
    def ifname(self) -> str:
        """Return the interface's name in the container."""
        return self.owner.ifname

    @property
    def mac(self) -> str:
        """Return the MAC of the container's interface."""
        return mac_of(self.address.ip)

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


def _digest(owner: Owner) -> bytes:
    return hashlib.sha256(f"{owner.container_id}/{owner.ifname}".encode()).digest()


def plan(
    owner: Owner, network: LeasedNetwork, address: IPv4Address, *, netns: tuple[str, ...] = ()
) -> AttachmentSpec:
    """Plan the attachment of *owner* to *network* with *address*.

    A container on several networks has a default route by way of each, eth0's
    first; beside it, an interface after the first has a route to the whole of
    its own network.
    """
    metric = _position(owner.ifname)
    default = Route(EVERYWHERE, network.gateway, metric)
    own = Route(network.prefix, network.gateway, metric)
    routes = (own, default) if metric and own.prefix != network.subnet else (default,)
    return AttachmentSpec(
        owner=owner,
        netns=netns,
        bridge=bridge_of(network),
        address=IPv4Interface((address, network.subnet.prefixlen)),
        gateway=network.gateway,
        mtu=network.mtu,
        routes=routes,
    )


def _position(ifname: str) -> int:
    """Return the number at the end of an interface's name, 0 when there is none."""
    found = re.search(r"[0-9]{1,4}$", ifname)
    return int(found[0]) if found else 0
