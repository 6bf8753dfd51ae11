"""Which elements go with which services, and what is ours."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.reconcile.delta import Delta, delta
from phalanx.lb.ipvs.layout import (
    CLAIMED,
    REFUSED,
    elements,
    elements_after,
    is_in,
    layout_of,
    vips_of,
)
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.element import Element

POOLS = IPv4Network("11.0.0.0/8"), IPv6Network("fd01:c::/64")
WEB = Vip(ip_address("11.0.0.1"), 80)
OWN = Vip(ip_address("203.0.113.7"), 53, Protocol.UDP)
SIX = Vip(ip_address("fd77::1"), 443)
WEB6 = Vip(ip_address("fd01:c::1"), 443)
SERVED = Service((Backend(ip_address("9.0.1.1"), 80),))
DRAINED = Service((Backend(ip_address("9.0.1.1"), 80, 0),))


def test_service_of_the_range_that_is_served_needs_no_element() -> None:
    assert elements({WEB: SERVED, WEB6: SERVED}, POOLS) == set()


def test_service_without_eligible_backend_is_refused() -> None:
    assert elements({WEB: DRAINED}, POOLS) == {Element("refused4", ("11.0.0.1", "6", "80"))}


def test_services_outside_of_the_range_are_claimed() -> None:
    assert elements({OWN: SERVED, SIX: Service()}, POOLS) == {
        Element("claimed4", ("203.0.113.7", "17", "53")),
        Element("outside4", ("203.0.113.7",)),
        Element("outside6", ("fd77::1",)),
        Element("claimed6", ("fd77::1", "6", "443")),
        Element("refused6", ("fd77::1", "6", "443")),
    }


def test_elements_lead_back_to_their_vips() -> None:
    found = elements({WEB: DRAINED, OWN: SERVED, SIX: DRAINED}, POOLS)

    assert vips_of(found, CLAIMED) == {OWN, SIX}
    assert vips_of(found, REFUSED) == {WEB, SIX}


def test_each_family_has_its_range() -> None:
    assert [is_in(vip, POOLS) for vip in (WEB, WEB6, OWN, SIX)] == [True, True, False, False]


def test_claim_of_the_range_is_given_up() -> None:
    earlier = {Element("claimed6", ("fd01:c::1", "6", "443")), Element("outside6", ("fd01:c::1",))}

    assert elements_after(earlier, Delta({}, frozenset()), POOLS) == set()


def test_node_lends_its_address_only_where_it_is_told() -> None:
    node = ip_address("198.18.0.101")
    assert isinstance(node, IPv4Address)

    assert "snat" not in layout_of(POOLS).body
    assert layout_of(POOLS, node).body.count("snat ip to 198.18.0.101") == 2
    assert layout_of(POOLS, node).body.count("snat ip6 to fd01:a::c612:65") == 2


SERVICES = st.dictionaries(
    st.sampled_from([WEB, WEB6, OWN, SIX, Vip(OWN.address, 80)]),
    st.sampled_from([SERVED, DRAINED, Service()]),
)


@given(SERVICES, SERVICES)
def test_a_change_leads_from_elements_to_elements(
    before: dict[Vip, Service], after: dict[Vip, Service]
) -> None:
    present = elements(before, POOLS)

    assert elements_after(present, delta(after, before), POOLS) == elements(after, POOLS)
