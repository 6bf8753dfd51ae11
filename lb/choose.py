"""Choose the data plane of the load balancer."""

import enum
from ipaddress import IPv4Network

from phalanx.core.error import ConfigError
from phalanx.lb.exec import Flows
from phalanx.lb.nftables.services import NftablesServices
from phalanx.net.model.lease import VIP_POOL
from phalanx.net.nft.library import Nft


class Kind(enum.StrEnum):
    """What ``--lb`` may say."""

    AUTO = "auto"
    NFTABLES = "nftables"
    IPVS = "ipvs"


def check_kind(lb: str) -> Kind:
    """Return the kind that *lb* names; raises ConfigError for one that is not to be had."""
    try:
        kind = Kind(lb)
    except ValueError as error:
        raise ConfigError(f"--lb: {lb!r}: is none of {', '.join(Kind)}") from error
    if kind is Kind.IPVS:
        raise ConfigError(f"--lb: {lb!r}: this build has no IPVS data plane; use nftables or auto")
    return kind


def choose_services(
    lb: str, nft: Nft, *, pool: IPv4Network = VIP_POOL, flows: Flows | None = None
) -> NftablesServices:
    """Return the data plane that *lb* names; raises ConfigError for one that is not to be had."""
    check_kind(lb)
    return NftablesServices(nft, pool=pool, flows=flows)
