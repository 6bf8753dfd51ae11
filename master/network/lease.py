"""Which subnet of a network a node is leased; pure."""

from collections.abc import Collection, Iterator
from ipaddress import IPv4Network

from phalanx.core.error import UnavailableError
from phalanx.net.model.objects import Network


def free_subnets(network: Network, taken: Collection[IPv4Network]) -> Iterator[IPv4Network]:
    """Yield the IPv4 subnets of *network* that are not taken, the lowest first.

    Pass *taken* as a set. Raises UnavailableError when there are no more.
    """
    if network.subnet is None:
        return
    for subnet in network.subnet.subnets(new_prefix=network.prefix):
        if subnet not in taken:
            yield subnet
    raise UnavailableError(
        f"network {network.name!r}: all {len(taken)} subnets of {network.subnet} are leased"
    )
