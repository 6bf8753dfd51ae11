"""Choose the data plane of the load balancer."""

import enum
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from phalanx.core.error import ConfigError
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.kernel import has_ipvs
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.leftover import Leftovers, leftovers_of_ipvs, leftovers_of_nftables
from phalanx.lb.nftables.services import NftablesServices
from phalanx.net.model.lease import VIP_POOL, VIP_POOL6
from phalanx.net.nft.library import Nft


class Kind(enum.StrEnum):
    """What ``--lb`` may say."""

    AUTO = "auto"
    NFTABLES = "nftables"
    IPVS = "ipvs"


def check_kind(lb: str) -> Kind:
    """Return the kind that *lb* names; raises ConfigError if it is none."""
    try:
        return Kind(lb)
    except ValueError as error:
        raise ConfigError(f"--lb: {lb!r}: is none of {', '.join(Kind)}") from error


def choose_kind(lb: str, *, is_ipvs_there: bool) -> Kind:
    """Return what *lb* comes to here, IPVS or nftables; raises ConfigError for what is not there.

    ``auto`` is IPVS where the kernel has it: it balances by open connections.
    """
    kind = check_kind(lb)
    if kind is Kind.AUTO:
        return Kind.IPVS if is_ipvs_there else Kind.NFTABLES
    if kind is Kind.IPVS and not is_ipvs_there:
        raise ConfigError(f"--lb: {lb!r}: this kernel has no IPVS (module ip_vs); use nftables")
    return kind


def choose_services(
    lb: str,
    nft: Nft,
    *,
    pool: IPv4Network = VIP_POOL,
    pool6: IPv6Network = VIP_POOL6,
    node: IPv4Address | None = None,
    flows: Flows | None = None,
) -> tuple[NftablesServices | IpvsServices, Leftovers]:
    """Return the data plane that *lb* names, and what the other one may have left behind.

    Raises ConfigError for one that is not to be had.
    """
    is_wanted = check_kind(lb) is not Kind.NFTABLES  # to look loads the module
    ipvs = IpvsServices(nft, pool=pool, pool6=pool6, node=node, flows=flows)
    if choose_kind(lb, is_ipvs_there=is_wanted and has_ipvs()) is Kind.IPVS:
        return ipvs, leftovers_of_nftables(nft)
    services = NftablesServices(nft, pool=pool, pool6=pool6, node=node, flows=flows)
    return services, leftovers_of_ipvs(ipvs)
