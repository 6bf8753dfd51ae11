"""What is known of IPVS follows our changes as if all were listed after each."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.reconcile.delta import Delta
from phalanx.lb.ipvs.known import Known
from phalanx.lb.ipvs.layout import elements
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.lease import VIP_POOL, VIP_POOL6
from phalanx.net.model.objects import Protocol

POOLS = VIP_POOL, VIP_POOL6
ADDRESSES = (
    IPv4Address("11.0.0.1"),
    IPv4Address("203.0.113.7"),
    IPv6Address("fd01:c::1"),
    IPv6Address("fd77::1"),
)
VIPS = st.builds(
    Vip, st.sampled_from(ADDRESSES), st.integers(80, 81), st.sampled_from(list(Protocol))
)
SERVICES = st.sampled_from(
    [
        Service(),
        Service.of([Backend(IPv4Address("9.0.0.1"), 80)]),
        Service.of([Backend(IPv4Address("9.0.0.1"), 80, 0)]),
    ]
)
TABLES = st.dictionaries(VIPS, SERVICES, max_size=6)
CHANGES = st.tuples(TABLES, st.frozensets(VIPS, max_size=4))


@given(TABLES, st.lists(CHANGES, max_size=5))
def test_elements_are_those_of_the_services_after_every_change(
    first: dict[Vip, Service], changes: list[tuple[dict[Vip, Service], frozenset[Vip]]]
) -> None:
    known = Known(first, POOLS)
    marks, services = elements(first, POOLS), dict(first)
    for upserts, removals in changes:
        change = Delta(upserts, removals - upserts.keys())
        marked, growth = known.marked_by(change), known.growth(change)
        before = _ipv4(services)
        assert not marked.removals & marked.upserts.keys()
        assert not marked.upserts.keys() & marks
        assert marked.removals <= marks | marked.upserts.keys()

        known.follow(change)

        marks = marks - marked.removals | marked.upserts.keys()
        services = {vip: each for vip, each in services.items() if vip not in change.removals}
        services |= upserts
        assert known.services == services
        assert known.marks == marks == elements(services, POOLS)
        assert growth == _ipv4(services) - before


def _ipv4(services: dict[Vip, Service]) -> int:
    return sum(vip.address.version == 4 for vip in services)
