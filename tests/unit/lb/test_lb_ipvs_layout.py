"""Which elements go with which services, and what is ours."""

from ipaddress import IPv4Network, ip_address

from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.reconcile.delta import delta
from phalanx.lb.ipvs.layout import CLAIMED, REFUSED, elements, elements_after, is_in, vips_of
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.element import Element

POOL = IPv4Network("11.0.0.0/8")
WEB = Vip(ip_address("11.0.0.1"), 80)
OWN = Vip(ip_address("203.0.113.7"), 53, Protocol.UDP)
SIX = Vip(ip_address("fd01:c::1"), 443)
SERVED = Service((Backend(ip_address("9.0.1.1"), 80),))
DRAINED = Service((Backend(ip_address("9.0.1.1"), 80, 0),))


def test_service_of_the_range_that_is_served_needs_no_element() -> None:
    assert elements({WEB: SERVED}, POOL) == set()


def test_service_without_eligible_backend_is_refused() -> None:
    assert elements({WEB: DRAINED}, POOL) == {Element("refused4", ("11.0.0.1", "6", "80"))}


def test_services_outside_of_the_range_are_claimed() -> None:
    assert elements({OWN: SERVED, SIX: Service()}, POOL) == {
        Element("claimed4", ("203.0.113.7", "17", "53")),
        Element("outside4", ("203.0.113.7",)),
        Element("outside6", ("fd01:c::1",)),
        Element("claimed6", ("fd01:c::1", "6", "443")),
        Element("refused6", ("fd01:c::1", "6", "443")),
    }


def test_elements_lead_back_to_their_vips() -> None:
    found = elements({WEB: DRAINED, OWN: SERVED, SIX: DRAINED}, POOL)

    assert vips_of(found, CLAIMED) == {OWN, SIX}
    assert vips_of(found, REFUSED) == {WEB, SIX}


def test_only_ipv4_can_be_of_the_range() -> None:
    assert [is_in(vip, POOL) for vip in (WEB, OWN, SIX)] == [True, False, False]


SERVICES = st.dictionaries(
    st.sampled_from([WEB, OWN, SIX, Vip(OWN.address, 80)]),
    st.sampled_from([SERVED, DRAINED, Service()]),
)


@given(SERVICES, SERVICES)
def test_a_change_leads_from_elements_to_elements(
    before: dict[Vip, Service], after: dict[Vip, Service]
) -> None:
    present = elements(before, POOL)

    assert elements_after(present, delta(after, before), POOL) == elements(after, POOL)
