"""Addresses of named VIPs: kept while wanted, freed after, never two of one, nobody's own."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from phalanx.master.network.definition import Ground
from phalanx.master.network.vip import vip_change
from phalanx.net.model.objects import VipLease

GROUND = Ground(IPv4Network("11.0.0.0/29"), vip_range6=IPv6Network("fd01:c::/125"))
NAMES = st.frozensets(st.sampled_from([f"app{number}" for number in range(12)]))


def after(
    vips: dict[str, VipLease], wanted: frozenset[str], ground: Ground = GROUND, *chosen: IPv4Address
) -> dict[str, VipLease]:
    change = vip_change(vips, wanted, ground=ground, chosen=chosen)
    kept = {name: lease for name, lease in vips.items() if name not in change.removals}
    return kept | {lease.name: lease for lease in change.upserts}


@given(NAMES, NAMES)
def test_who_stays_keeps_its_addresses_and_no_two_share_one(
    first: frozenset[str], second: frozenset[str]
) -> None:
    before = after({}, first)
    now = after(before, second)

    assert all(now[name] == before[name] for name in before.keys() & now.keys())
    assert now.keys() <= second
    assert len({lease.address for lease in now.values()}) == len(now)
    sixes = [lease.address6 for lease in now.values() if lease.address6 is not None]
    assert len(set(sixes)) == len(sixes)


def test_full_range_leaves_names_out_and_says_so() -> None:
    wanted = [f"app{number}" for number in range(12)]

    change = vip_change({}, wanted, ground=GROUND)

    left_out = {name for name, _ in change.refusals}
    assert left_out
    assert {lease.name for lease in change.upserts if lease.address6 is not None} == (
        set(wanted) - left_out
    )


def test_address_of_a_task_s_own_vip_is_leased_to_nobody() -> None:
    [mine] = after({}, frozenset({"web"})).values()

    [other] = after({}, frozenset({"web"}), GROUND, mine.address).values()

    assert other.address != mine.address


def test_a_cluster_that_gets_or_loses_ipv6_changes_that_address_alone() -> None:
    without = Ground(GROUND.vip_range, vip_range6=None)
    before = after({}, frozenset({"web"}), without)

    grown = after(before, frozenset({"web"}))
    shrunk = after(grown, frozenset({"web"}), without)

    assert isinstance(grown["web"].address6, IPv6Address)
    assert grown["web"].address == before["web"].address
    assert shrunk == before


class Walked(list[str]):
    """Names that count how often somebody looks at every one of them."""

    walks = 0

    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return super().__iter__()


def test_wanted_names_are_not_walked_once_more_for_each_vip() -> None:
    ground = Ground(IPv4Network("11.0.0.0/20"))
    walks = []
    for count in (1, 100):
        wanted = Walked(f"app{number}" for number in range(count))
        vip_change(after({}, frozenset(wanted), ground), wanted, ground=ground)
        walks.append(wanted.walks)

    assert 0 < walks[0] == walks[1]
