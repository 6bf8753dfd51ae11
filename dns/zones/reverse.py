"""Names of addresses, and the zones below which those of our networks lie (RFC 1035 §3.5)."""

from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network

from phalanx.net.model.objects import IPAddress, IPNetwork

REVERSE4 = "in-addr.arpa."
REVERSE6 = "ip6.arpa."  # RFC 3596 §2.5

_OCTET_BITS = 8
_NIBBLE_BITS = 4
_LONGEST_PREFIX = 24  # a zone of less than 256 addresses would be delegated by RFC 2317
_LONGEST_PREFIX6 = 124


def reverse_name(address: IPAddress) -> str:
    """Return the name at which an address' own name is asked for."""
    if address.version == 6:
        return f"{'.'.join(reversed(address.packed.hex()))}.{REVERSE6}"
    n = int(address)
    return f"{n & 255}.{n >> 8 & 255}.{n >> 16 & 255}.{n >> 24}.in-addr.arpa."


def reverse_names(addresses: Sequence[IPAddress]) -> Collection[str]:
    """Return the names at which those of *addresses* are asked for, each once."""
    names = list(map(reverse_name, addresses))
    return names if len(names) < 2 else dict.fromkeys(names)


def reverse_apexes(subnets: Iterable[IPNetwork]) -> frozenset[str]:
    """Return the zones that hold just the *subnets*.

    None for one of IPv4 longer than /24 or of IPv6 longer than /124.
    """
    found: set[str] = set()
    for subnet in subnets:
        if isinstance(subnet, IPv6Network):
            found |= _apexes6(subnet)
        else:
            found |= _apexes4(subnet)
    return frozenset(found)


def _apexes4(subnet: IPv4Network) -> set[str]:
    if not 1 <= subnet.prefixlen <= _LONGEST_PREFIX:
        return set()
    whole = -(-subnet.prefixlen // _OCTET_BITS)  # octets that name a zone
    return {
        ".".join([*reversed(str(part.network_address).split(".")[:whole]), REVERSE4])
        for part in subnet.subnets(new_prefix=whole * _OCTET_BITS)
    }


def _apexes6(subnet: IPv6Network) -> set[str]:
    if not 1 <= subnet.prefixlen <= _LONGEST_PREFIX6:
        return set()
    whole = -(-subnet.prefixlen // _NIBBLE_BITS)
    return {
        ".".join([*reversed(part.network_address.packed.hex()[:whole]), REVERSE6])
        for part in subnet.subnets(new_prefix=whole * _NIBBLE_BITS)
    }
