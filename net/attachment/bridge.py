"""The bridges that a node needs: one for each network that leases it a subnet; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from phalanx.net.model.view import View

BRIDGE_PREFIX = "phx-"  # and the VNI; listed in docs/reference/marks.md


@dataclass(frozen=True, slots=True)
class LeasedNetwork:
    """A virtual network and the part of it that one node gives to its containers."""

    name: str
    vni: int
    mtu: int
    prefix: IPv4Network  # of the whole network
    subnet: IPv4Network  # leased to the node
    gateway: IPv4Address


@dataclass(frozen=True, slots=True)
class Bridge:
    """The bridge of one network on one node."""

    vni: int
    network: str
    gateway: IPv4Interface | None  # None, when read back, unless it has exactly one address
    mtu: int
    mac: str
    is_up: bool = True

    @property
    def name(self) -> str:
        """Return the link's name."""
        return bridge_name(self.vni)


def bridge_name(vni: int) -> str:
    """Return the name of the bridge of the network with this VNI."""
    return f"{BRIDGE_PREFIX}{vni}"


def vni_of(name: str) -> int | None:
    """Return the VNI in the name of one of our bridges; None for any other link."""
    digits = name.removeprefix(BRIDGE_PREFIX)
    return int(digits) if digits != name and digits.isdecimal() else None


def mac_of(address: IPv4Address) -> str:
    """Derive the MAC of the one who has *address*.

    An address that is given again brings its MAC along, so neighbours' caches
    stay true, and a filter can tell a source's MAC from its address.
    """
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + address.packed)


def bridge_of(network: LeasedNetwork) -> Bridge:
    """Return the bridge that a leased network needs."""
    return Bridge(
        vni=network.vni,
        network=network.name,
        gateway=IPv4Interface((network.gateway, network.subnet.prefixlen)),
        mtu=network.mtu,
        mac=mac_of(network.gateway),
    )


def leased_networks(view: View, *, node: IPv4Address) -> Mapping[str, LeasedNetwork]:
    """Return the networks that lease a subnet to *node*, by name."""
    return {
        network.name: LeasedNetwork(
            name=network.name,
            vni=network.vni,
            mtu=network.mtu,
            prefix=network.subnet,
            subnet=lease.subnet,
            gateway=lease.gateway,
        )
        for lease in view.subnets.values()
        if lease.node == node
        and (network := view.networks.get(lease.network)) is not None
        and network.subnet is not None
        and lease.subnet is not None
        and lease.gateway is not None
    }


def desired_bridges(view: View, *, node: IPv4Address) -> Mapping[int, Bridge]:
    """Return the bridges that *node* needs, by VNI."""
    networks = leased_networks(view, node=node).values()
    return {network.vni: bridge_of(network) for network in networks}
