"""Choose the next address of a subnet; pure."""

from collections.abc import Set
from ipaddress import IPv4Address, IPv4Network

from phalanx.core.error import ConflictError, InvalidError, UnavailableError


def next_free(
    subnet: IPv4Network,
    *,
    gateway: IPv4Address,
    taken: Set[IPv4Address],
    last: IPv4Address | None = None,
) -> IPv4Address:
    """Return the first free address after *last*, going round; without *last*, the first free.

    Round robin, so that a container in a crash loop does not get the address
    back that its peers still have in their caches. The network's and the
    broadcast address and the gateway are never given. Raises UnavailableError
    when nothing is free.
    """
    first, end = int(subnet.network_address) + 1, int(subnet.broadcast_address)
    size = max(end - first, 0)
    start = int(last) + 1 if last is not None and first <= int(last) < end else first
    for step in range(size):
        address = IPv4Address(first + (start - first + step) % size)
        if address != gateway and address not in taken:
            return address
    raise UnavailableError(f"no IP addresses available in range set: {usable_range(subnet)}")


def check_requested(
    address: IPv4Address, subnet: IPv4Network, *, gateway: IPv4Address, taken: Set[IPv4Address]
) -> None:
    """Raise InvalidError if *address* can't be given here, ConflictError if someone holds it."""
    if address not in subnet:
        raise InvalidError(f"requested address {address} is not in {subnet}")
    if address == gateway:
        raise InvalidError(f"requested address {address} is the gateway of {subnet}")
    if address in (subnet.network_address, subnet.broadcast_address):
        raise InvalidError(f"requested address {address} is not for a container of {subnet}")
    if address in taken:
        raise ConflictError(f"requested address {address} is taken")


def usable_range(subnet: IPv4Network) -> str:
    """Return the addresses of *subnet* that containers may have, as text."""
    return f"{subnet[1]}-{subnet[-2]}" if subnet.prefixlen < 31 else str(subnet)
