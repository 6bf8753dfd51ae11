"""Which subnet of a network a node is leased; pure."""

from collections.abc import Collection
from ipaddress import IPv4Network

from phalanx.core.error import UnavailableError
from phalanx.net.model.objects import Network


def lease_subnet(network: Network, taken: Collection[IPv4Network]) -> IPv4Network:
    """Return the lowest subnet of *network* that is not taken.

    Pass *taken* as a set. Raises UnavailableError when the network is full.
    """
    for subnet in network.subnet.subnets(new_prefix=network.prefix):
        if subnet not in taken:
            return subnet
    raise UnavailableError(
        f"network {network.name!r}: all {len(taken)} subnets of {network.subnet} are leased"
    )
