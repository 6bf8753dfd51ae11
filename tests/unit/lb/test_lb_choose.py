"""Which data plane ``--lb`` leads to."""

import pytest

from phalanx.core.error import ConfigError
from phalanx.lb.choose import Kind, choose_kind, choose_services
from phalanx.lb.nftables.services import NftablesServices
from phalanx.net.nft.library import Nft


@pytest.mark.parametrize(
    ("lb", "is_ipvs_there", "kind"),
    [
        ("auto", True, Kind.IPVS),
        ("auto", False, Kind.NFTABLES),
        ("nftables", True, Kind.NFTABLES),
        ("nftables", False, Kind.NFTABLES),
        ("ipvs", True, Kind.IPVS),
    ],
)
def test_ipvs_serves_where_it_is_unless_refused(lb: str, is_ipvs_there: bool, kind: Kind) -> None:
    assert choose_kind(lb, is_ipvs_there=is_ipvs_there) is kind


@pytest.mark.parametrize(
    ("lb", "reason"),
    [("ipvs", "lb: 'ipvs': this kernel has no IPVS"), ("haproxy", "lb: 'haproxy': is none of")],
)
def test_what_is_not_to_be_had_is_refused_by_name(lb: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        choose_kind(lb, is_ipvs_there=False)


def test_nftables_serves_when_it_is_asked_for() -> None:
    nft = Nft()
    try:
        services, leftovers = choose_services("nftables", nft)
    finally:
        nft.close()

    assert isinstance(services, NftablesServices)
    assert leftovers.name == "services_left_behind"
