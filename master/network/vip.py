"""Which address a named VIP is leased; pure."""

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address

import msgspec

from phalanx.core.error import UnavailableError
from phalanx.master.network.definition import Ground
from phalanx.net.model.lease import lease_vip, lease_vip6
from phalanx.net.model.objects import VipLease


class VipChange(msgspec.Struct, frozen=True):
    """What leads to a VIP for each name that is wanted; *refusals* say why some lack an address."""

    upserts: tuple[VipLease, ...]
    removals: tuple[str, ...]
    refusals: tuple[tuple[str, str], ...]  # name, and why


def vip_change(
    vips: Mapping[str, VipLease],
    wanted: Collection[str],
    *,
    ground: Ground,
    chosen: Collection[IPv4Address | IPv6Address] = (),
) -> VipChange:
    """Lease an address of each family of *ground* to every name of *wanted*, and free all others.

    Who has one keeps it. None of *chosen* is leased: tasks have VIPs by these
    addresses. A full range leaves a name out; it harms no other.
    """
    names = set(wanted)
    removals = sorted(vips.keys() - names)
    kept = {name: lease for name, lease in vips.items() if name in names}
    taken = {lease.address for lease in kept.values()}
    taken |= {each for each in chosen if isinstance(each, IPv4Address)}
    taken6 = {six for lease in kept.values() if (six := lease.address6) is not None}
    taken6 |= {each for each in chosen if isinstance(each, IPv6Address)}
    upserts: list[VipLease] = []
    refusals: list[tuple[str, str]] = []
    for name in sorted(names):
        known = kept.get(name)
        try:
            address = lease_vip(name, ground.vip_range, taken) if known is None else known.address
        except UnavailableError as error:
            refusals.append((name, str(error)))
            continue
        address6 = None if known is None or ground.vip_range6 is None else known.address6
        if ground.vip_range6 is not None and address6 is None:
            try:
                address6 = lease_vip6(name, ground.vip_range6, taken6)
            except UnavailableError as error:
                refusals.append((name, str(error)))
        lease = VipLease(name, address, address6)
        if lease != known:
            upserts.append(lease)
            taken.add(address)
            taken6 |= set() if address6 is None else {address6}
    return VipChange(tuple(upserts), tuple(removals), tuple(refusals))
