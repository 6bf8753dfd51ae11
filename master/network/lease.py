"""Which subnets of a network a node is leased; pure."""

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address

import msgspec

from phalanx.core.error import UnavailableError
from phalanx.master.network.definition import contains
from phalanx.net.model.objects import IPNetwork, Network, SubnetLease


def free_subnets(
    network: Network, taken: Collection[IPNetwork], *, version: int = 4
) -> Iterator[IPNetwork]:
    """Yield the subnets of *network* in one family that are not taken, the lowest first.

    Pass *taken* as a set. Raises UnavailableError when there are no more;
    yields nothing when the network lacks the family.
    """
    whole = network.subnet if version == 4 else network.subnet6
    if whole is None:
        return
    prefix = network.prefix if version == 4 else network.prefix6
    for subnet in whole.subnets(new_prefix=prefix):
        if subnet not in taken:
            yield subnet
    raise UnavailableError(
        f"network {network.name!r}: all {len(taken)} subnets of {whole} are leased"
    )


def new_leases(
    network: Network, nodes: Iterable[IPv4Address], leases: Collection[SubnetLease]
) -> tuple[list[SubnetLease], list[str]]:
    """Return what *nodes* are leased beyond *leases*, those of the network, and what was refused.

    A node has one subnet of each family of the network; it keeps what it has.
    A family that is full leaves the nodes without one, and is told of once.
    """
    known = {lease.node: lease for lease in leases}
    found = {node: known.get(node, SubnetLease(network.name, node, None)) for node in nodes}
    refusals: list[str] = []
    for version, field in ((4, "subnet"), (6, "subnet6")):
        taken = {mine for lease in leases if (mine := getattr(lease, field)) is not None}
        free = free_subnets(network, taken, version=version)
        lacking = [node for node, lease in found.items() if getattr(lease, field) is None]
        try:
            for node, subnet in zip(lacking, free, strict=False):
                found[node] = msgspec.structs.replace(found[node], **{field: subnet})
        except UnavailableError as error:
            left = [str(n) for n in lacking if getattr(found[n], field) is None]
            refusals.append(f"{error}; none for {', '.join(left)}")
    fresh = [lease for node, lease in found.items() if lease.subnets and lease != known.get(node)]
    return fresh, refusals


def lacks(network: Network, lease: SubnetLease | None) -> bool:
    """Tell whether a node with *lease* has less of *network* than a subnet of each family."""
    if lease is None:
        return True
    return (lease.subnet is None and network.subnet is not None) or (
        lease.subnet6 is None and network.subnet6 is not None
    )


def fitting_lease(network: Network, lease: SubnetLease) -> SubnetLease | None:
    """Return what of *lease* is in *network*, None when nothing is."""
    fitting = msgspec.structs.replace(
        lease,
        subnet=lease.subnet if contains(network.subnet, lease.subnet) else None,
        subnet6=lease.subnet6 if contains(network.subnet6, lease.subnet6) else None,
    )
    return fitting if fitting.subnets else None


def distinct(
    leases: Iterable[SubnetLease], homes: Collection[IPv4Address]
) -> Iterator[SubnetLease]:
    """Yield *leases* without those of a subnet that another node is leased, too.

    All are of networks that are there: what is left of others must hide none.
    Whoever moved one from node to node was ended in between. It stays at *homes*, the
    nodes of admitted agents: from there it moves again when its agent registers, unless
    that is back where it was.
    """
    seen: set[IPNetwork] = set()
    for lease in sorted(leases, key=lambda lease: lease.node not in homes):
        if seen.isdisjoint(lease.subnets):
            yield lease
        seen.update(lease.subnets)
