"""What may be a virtual network; pure."""

import re
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network

import msgspec

from phalanx.core.error import ConflictError, InvalidError
from phalanx.net.model.objects import Network

NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
GREATEST_NAME = 63
FIRST_VNI = 1024
GREATEST_VNI = 2**24 - 1
LONGEST_PREFIX = 30  # a gateway and one container
MTUS = range(576, 65486)
DNS_ADDRESSES = IPv4Network("198.51.100.0/24")


class NetworkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator asks for."""

    name: str
    subnet: str
    prefix: int = 24
    mtu: int = 1450
    isolated: bool = True


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
    vip_range: IPv4Network,
    nodes: Collection[IPv4Address],
) -> Network:
    """Return the network that *spec* asks for, with the lowest free VNI.

    Raises InvalidError for what no network can be and ConflictError for what
    collides with another network or a node.
    """
    check_name(spec.name)
    subnet = parse_subnet(spec.subnet)
    if not subnet.prefixlen < spec.prefix <= LONGEST_PREFIX:
        raise InvalidError(
            f"prefix: {spec.prefix} must be longer than that of {subnet}"
            f" and at most {LONGEST_PREFIX}"
        )
    if spec.mtu not in MTUS:
        raise InvalidError(f"mtu: {spec.mtu} is not in {MTUS.start}..{MTUS.stop - 1}")
    for reserved, what in ((DNS_ADDRESSES, "the DNS addresses"), (vip_range, "the VIP range")):
        if subnet.overlaps(reserved):
            raise InvalidError(f"subnet: {subnet} overlaps {reserved}, {what}")
    if spec.name in existing:
        raise ConflictError(f"name: network {spec.name!r} is there already")
    for other in existing.values():
        if other.subnet is not None and subnet.overlaps(other.subnet):
            raise ConflictError(
                f"subnet: {subnet} overlaps {other.subnet} of network {other.name!r}"
            )
    for node in sorted(nodes):
        if node in subnet:
            raise ConflictError(f"subnet: {subnet} holds the address {node} of a node")
    return Network(
        spec.name,
        subnet,
        spec.prefix,
        lowest_vni(network.vni for network in existing.values()),
        spec.mtu,
        spec.isolated,
    )


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


def lowest_vni(taken: Iterable[int]) -> int:
    """Return the lowest free VXLAN network identifier; raise ConflictError when all are used."""
    used = set(taken)
    for vni in range(FIRST_VNI, GREATEST_VNI + 1):
        if vni not in used:
            return vni
    raise ConflictError("vni: none is free")
