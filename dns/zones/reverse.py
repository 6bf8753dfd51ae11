"""Names of addresses, and the zones below which those of our networks lie (RFC 1035 §3.5)."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

_OCTET_BITS = 8
_LONGEST_PREFIX = 24  # a zone of less than 256 addresses would be delegated by RFC 2317


def reverse_name(address: IPv4Address) -> str:
    """Return the name at which an address' own name is asked for."""
    n = int(address)
    return f"{n & 255}.{n >> 8 & 255}.{n >> 16 & 255}.{n >> 24}.in-addr.arpa."


def reverse_apexes(subnets: Iterable[IPv4Network]) -> frozenset[str]:
    """Return the zones that hold just the *subnets*; none for one longer than /24."""
    found = set()
    for subnet in subnets:
        if subnet.prefixlen > _LONGEST_PREFIX or subnet.prefixlen < 1:
            continue
        whole = -(-subnet.prefixlen // _OCTET_BITS)  # octets that name a zone
        for part in subnet.subnets(new_prefix=whole * _OCTET_BITS):
            octets = str(part.network_address).split(".")[:whole]
            found.add(".".join([*reversed(octets), "in-addr.arpa."]))
    return frozenset(found)
