"""Which data plane ``--lb`` leads to."""

from collections.abc import Iterator

import pytest

from phalanx.core.error import ConfigError
from phalanx.lb.choose import choose_services
from phalanx.lb.nftables.services import NftablesServices
from phalanx.net.nft.library import Nft


@pytest.fixture
def nft() -> Iterator[Nft]:
    handle = Nft()
    yield handle
    handle.close()


@pytest.mark.parametrize("lb", ["auto", "nftables"])
def test_nftables_serves_where_it_is_asked_for_or_nothing_is(lb: str, nft: Nft) -> None:
    assert isinstance(choose_services(lb, nft), NftablesServices)


@pytest.mark.parametrize(
    ("lb", "reason"),
    [("ipvs", "lb: 'ipvs': this build has no IPVS"), ("haproxy", "lb: 'haproxy': is none of")],
)
def test_what_is_not_to_be_had_is_refused_by_name(lb: str, reason: str, nft: Nft) -> None:
    with pytest.raises(ConfigError, match=reason):
        choose_services(lb, nft)
