"""What may be a virtual network, and what it may become; pure."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import msgspec

from phalanx.core.error import ConflictError, InvalidError
from phalanx.net.model.lease import VIP_POOL, VIP_POOL6
from phalanx.net.model.objects import NODES6, IPNetwork, Network, SubnetLease

NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
GREATEST_NAME = 63
FIRST_VNI = 1024
GREATEST_VNI = 2**24 - 1
PREFIX, PREFIX6 = 24, 80  # of an agent's subnet, where nothing else is asked for
LONGEST_PREFIX = 30  # a gateway and one container
LONGEST_PREFIX6 = 126
MTUS = range(576, 65486)
MTUS6 = range(1280, 65486)  # RFC 8200 §5
DNS_ADDRESSES = IPv4Network("198.51.100.0/24")
DNS_ADDRESSES6 = IPv6Network("fd01:d::/64")
FIRST_SUBNET6 = IPv6Network("100::/8")  # below are loopback, IPv4-mapped and translated addresses


class NetworkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator asks for: a subnet of IPv4, of IPv6 or one of each."""

    name: str
    subnet: str | None = None
    prefix: int = PREFIX
    mtu: int = 1450
    isolated: bool = True
    subnet6: str | None = None
    prefix6: int = PREFIX6
    vni: int | None = None  # the lowest that is free


class NetworkChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator asks to be otherwise; a field that is not given stays."""

    subnet: str | msgspec.UnsetType | None = msgspec.UNSET
    prefix: int | msgspec.UnsetType = msgspec.UNSET
    mtu: int | msgspec.UnsetType = msgspec.UNSET
    isolated: bool | msgspec.UnsetType = msgspec.UNSET
    subnet6: str | msgspec.UnsetType | None = msgspec.UNSET
    prefix6: int | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Ground:
    """Where networks may lie: not in a VIP range; *vip_range6* is None without IPv6."""

    vip_range: IPv4Network = VIP_POOL
    vip_range6: IPv6Network | None = VIP_POOL6

    @property
    def reserved(self) -> Iterable[tuple[IPNetwork, str]]:
        """Yield each prefix that no network may overlap, and what it is."""
        yield DNS_ADDRESSES, "the DNS addresses"
        yield DNS_ADDRESSES6, "the DNS addresses"
        yield NODES6, "the nodes' addresses in IPv6"
        yield self.vip_range, "the VIP range"
        if self.vip_range6 is not None:
            yield self.vip_range6, "the VIP range"


def check_name(name: str) -> None:
    """Raise InvalidError unless *name* can name a network or a policy."""
    if len(name) > GREATEST_NAME or not NAME.fullmatch(name):
        raise InvalidError(
            f"name: {name!r} must be at most {GREATEST_NAME} lower-case letters, digits and"
            " hyphens, no hyphen at either end"
        )


def new_network(
    spec: NetworkSpec,
    existing: Mapping[str, Network],
    *,
    ground: Ground,
    nodes: Collection[IPv4Address],
) -> Network:
    """Return the network that *spec* asks for, with the lowest free VNI unless it names one.

    Raises InvalidError for what no network can be and ConflictError for what
    collides with another network or a node.
    """
    check_name(spec.name)
    network = Network(
        spec.name,
        None if spec.subnet is None else parse_subnet(spec.subnet),
        spec.prefix,
        FIRST_VNI if spec.vni is None else spec.vni,
        spec.mtu,
        spec.isolated,
        None if spec.subnet6 is None else parse_subnet6(spec.subnet6),
        spec.prefix6 if spec.subnet6 is not None else 0,
    )
    _check(network, ground)
    if spec.name in existing:
        raise ConflictError(f"name: network {spec.name!r} is there already")
    _check_room(network, existing.values(), nodes)
    vnis = {other.vni: other.name for other in existing.values()}
    if spec.vni is None:
        return msgspec.structs.replace(network, vni=lowest_vni(vnis))
    if spec.vni in vnis:
        raise ConflictError(f"vni: {spec.vni} is that of network {vnis[spec.vni]!r}")
    return network


def changed_network(
    network: Network,
    change: NetworkChange,
    existing: Mapping[str, Network],
    *,
    ground: Ground,
    nodes: Collection[IPv4Address],
    leases: Collection[SubnetLease],
) -> Network:
    """Return *network* after *change*; *leases* are those of the network.

    A subnet may grow, shrink around what is leased of it, come and go; what
    nodes are leased stays as it is. Raises InvalidError for what no network can
    be, ConflictError for what collides with another network, a node or a lease.
    """
    subnet = network.subnet
    if change.subnet is not msgspec.UNSET:
        subnet = None if change.subnet is None else parse_subnet(change.subnet)
    subnet6 = network.subnet6
    if change.subnet6 is not msgspec.UNSET:
        subnet6 = None if change.subnet6 is None else parse_subnet6(change.subnet6)
    given = {
        name: value
        for name in ("mtu", "isolated", "prefix", "prefix6")
        if (value := getattr(change, name)) is not msgspec.UNSET
    }
    changed = msgspec.structs.replace(network, subnet=subnet, subnet6=subnet6, **given)
    if subnet6 is None and "prefix6" in given:
        raise InvalidError(f"prefix6: {change.prefix6}: the network has no subnet6")
    if subnet6 is None:
        changed = msgspec.structs.replace(changed, prefix6=0)
    elif not changed.prefix6:
        changed = msgspec.structs.replace(changed, prefix6=PREFIX6)
    _check(changed, ground)
    others = (other for other in existing.values() if other.name != network.name)
    _check_room(changed, others, nodes)
    _check_leases(changed, leases)
    return changed


def parse_subnet(text: str) -> IPv4Network:
    """Return the prefix that *text* spells; raise InvalidError when containers can't live in it."""
    try:
        subnet = IPv4Network(text)
    except ValueError as error:
        raise InvalidError(f"subnet: {text!r} is not an IPv4 prefix: {error}") from error
    first = subnet.network_address
    if subnet.is_loopback or subnet.is_multicast or subnet.is_link_local or int(first) < 2**24:
        raise InvalidError(f"subnet: {subnet} is not for containers")
    return subnet


def parse_subnet6(text: str) -> IPv6Network:
    """Return the prefix that *text* spells; raise InvalidError when containers can't live in it."""
    try:
        subnet = IPv6Network(text)
    except ValueError as error:
        raise InvalidError(f"subnet6: {text!r} is not an IPv6 prefix: {error}") from error
    if "%" in text or subnet.is_multicast or subnet.is_link_local or subnet < FIRST_SUBNET6:
        raise InvalidError(f"subnet6: {subnet} is not for containers")
    return subnet


def lowest_vni(taken: Iterable[int]) -> int:
    """Return the lowest free VXLAN network identifier; raise ConflictError when all are used."""
    used = set(taken)
    for vni in range(FIRST_VNI, GREATEST_VNI + 1):
        if vni not in used:
            return vni
    raise ConflictError("vni: none is free")


def _check(network: Network, ground: Ground) -> None:
    """Raise InvalidError for what no network can be."""
    if not network.subnets:
        raise InvalidError("subnet: a network needs a subnet, a subnet6 or both")
    if network.subnet6 is not None and ground.vip_range6 is None:
        raise InvalidError(f"subnet6: {network.subnet6}: this cluster has no IPv6 (--enable-ipv6)")
    for field, subnet, prefix, longest in (
        ("prefix", network.subnet, network.prefix, LONGEST_PREFIX),
        ("prefix6", network.subnet6, network.prefix6, LONGEST_PREFIX6),
    ):
        if subnet is not None and not subnet.prefixlen < prefix <= longest:
            raise InvalidError(
                f"{field}: {prefix} must be longer than that of {subnet} and at most {longest}"
            )
    mtus = MTUS if network.subnet6 is None else MTUS6
    if network.mtu not in mtus:
        raise InvalidError(f"mtu: {network.mtu} is not in {mtus.start}..{mtus.stop - 1}")
    if not FIRST_VNI <= network.vni <= GREATEST_VNI:
        raise InvalidError(f"vni: {network.vni} is not in {FIRST_VNI}..{GREATEST_VNI}")
    for field, mine in _fields(network):
        for reserved, what in ground.reserved:
            if _overlap(mine, reserved):
                raise InvalidError(f"{field}: {mine} overlaps {reserved}, {what}")


def _check_room(
    network: Network, others: Iterable[Network], nodes: Collection[IPv4Address]
) -> None:
    """Raise ConflictError where *network* overlaps another or holds a node."""
    others = list(others)
    for field, mine in _fields(network):
        for other in others:
            for theirs in other.subnets:
                if _overlap(mine, theirs):
                    raise ConflictError(
                        f"{field}: {mine} overlaps {theirs} of network {other.name!r}"
                    )
    for node in sorted(nodes):
        if network.subnet is not None and node in network.subnet:
            raise ConflictError(f"subnet: {network.subnet} holds the address {node} of a node")


def _check_leases(network: Network, leases: Collection[SubnetLease]) -> None:
    """Raise ConflictError where a lease of a family that stays would not be one of *network*."""
    for field, subnet, prefix in (
        ("subnet", network.subnet, network.prefix),
        ("subnet6", network.subnet6, network.prefix6),
    ):
        for lease in leases:
            leased: IPNetwork | None = getattr(lease, field)
            if subnet is None or leased is None:
                continue
            if not contains(subnet, leased):
                raise ConflictError(f"{field}: node {lease.node} is leased {leased}")
            if leased.prefixlen != prefix:
                name = field.replace("subnet", "prefix")
                raise ConflictError(f"{name}: node {lease.node} is leased {leased}")


def contains(outer: IPNetwork | None, inner: IPNetwork | None) -> bool:
    """Tell whether *inner* lies in *outer*: never where one is missing or of another family."""
    return (
        outer is not None
        and inner is not None
        and outer.version == inner.version
        and outer.prefixlen <= inner.prefixlen
        and inner.network_address in outer
    )


def _fields(network: Network) -> Iterable[tuple[str, IPNetwork]]:
    if network.subnet is not None:
        yield "subnet", network.subnet
    if network.subnet6 is not None:
        yield "subnet6", network.subnet6


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return contains(one, other) or contains(other, one)
