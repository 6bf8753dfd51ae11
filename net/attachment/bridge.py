"""The bridges that a node needs: one for each network that leases it a subnet; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_interface

from phalanx.net.model.objects import IPAddress, IPNetwork, Network, SubnetLease
from phalanx.net.model.view import View

BRIDGE_PREFIX = "phx-"  # and the VNI; listed in docs/reference/marks.md

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class LeasedSubnet:
    """What a network has of one family, and the part of it that one node has."""

    prefix: IPNetwork  # of the whole network
    subnet: IPNetwork  # leased to the node
    gateway: IPAddress

    @property
    def interface(self) -> Interface:
        """Return the gateway's address with the length of the subnet's prefix."""
        return interface_of(self.gateway, self.subnet)


@dataclass(frozen=True, slots=True)
class LeasedNetwork:
    """A virtual network as one node has it."""

    name: str
    vni: int
    mtu: int
    subnets: tuple[LeasedSubnet, ...]  # one of a family, IPv4 first

    def subnet_of(self, address: IPAddress) -> LeasedSubnet | None:
        """Return the subnet of the family of an address, None when there is none."""
        return next((s for s in self.subnets if s.subnet.version == address.version), None)


@dataclass(frozen=True, slots=True)
class Bridge:
    """The bridge of one network on one node."""

    vni: int
    network: str
    gateways: tuple[Interface, ...]  # IPv4 first; link-local addresses are not counted
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


def mac_of(address: IPAddress) -> str:
    """Derive the MAC of the one who has *address*, from its last four bytes.

    An address that is given again brings its MAC along, so neighbours' caches
    stay true, and a filter can tell a source's MAC from its address.
    """
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + address.packed[-4:])


@lru_cache(4096)
def interface_of(address: IPAddress, subnet: IPNetwork) -> Interface:
    """Return an address with the length of its subnet's prefix."""
    return ip_interface((address, subnet.prefixlen))


@lru_cache(4096)
def interface(packed: bytes, length: int) -> Interface:
    """Return an address, given as bytes, with the length of its prefix."""
    return ip_interface((packed, length))


def bridge_of(network: LeasedNetwork) -> Bridge:
    """Return the bridge that a leased network needs."""
    return Bridge(
        vni=network.vni,
        network=network.name,
        gateways=tuple(each.interface for each in network.subnets),
        mtu=network.mtu,
        mac=mac_of(network.subnets[0].gateway),
    )


def leased_networks(view: View, *, node: IPv4Address) -> Mapping[str, LeasedNetwork]:
    """Return the networks that lease a subnet to *node*, by name."""
    found = {}
    for network in view.networks.values():
        lease = view.subnets.get(SubnetLease(network.name, node, None).key)  # of tens of thousands
        if lease is None:
            continue
        if subnets := tuple(_leased_subnets(network, lease)):
            found[network.name] = LeasedNetwork(network.name, network.vni, network.mtu, subnets)
    return found


def desired_bridges(view: View, *, node: IPv4Address) -> Mapping[int, Bridge]:
    """Return the bridges that *node* needs, by VNI."""
    networks = leased_networks(view, node=node).values()
    return {network.vni: bridge_of(network) for network in networks}


def _leased_subnets(network: Network, lease: SubnetLease) -> list[LeasedSubnet]:
    families = (
        (network.subnet, lease.subnet, lease.gateway),
        (network.subnet6, lease.subnet6, lease.gateway6),
    )
    return [
        LeasedSubnet(prefix, subnet, gateway)
        for prefix, subnet, gateway in families
        if prefix is not None and subnet is not None and gateway is not None
    ]
