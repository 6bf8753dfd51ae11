"""What a node has besides VIPs: ports that it maps to containers, processes of its own."""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from tests.guest.lb.ipvs_lab import (
    DNS,
    NODE,
    NODE6,
    OWN,
    PORT,
    WEB,
    WEB6,
    Lab,
    address_of,
    answering,
    service,
)

from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.objects import Protocol

REFUSED, REFUSED6 = (Vip(each.address + 1, 80) for each in (WEB, WEB6))
UNUSED, UNUSED6 = (Vip(each.address + 9, 80) for each in (WEB, WEB6))
OWN_REFUSED, OWN_UNUSED = Vip(OWN.address, 80), Vip(OWN.address, 81)
OWN_DNS = Vip(OWN.address, 53, Protocol.UDP)


@pytest.fixture
def mapped(lab: Lab) -> Iterator[Lab]:
    """Map ports to b3 as Docker and our own CNI plugins do: of whatever is the node's address."""
    rule = "meta nfproto {} fib daddr type local tcp dport {{ 80, 81, 443 }} dnat {} to {}"
    rules = (
        rule.format("ipv4", "ip", f"{address_of('b3')}:{PORT}"),
        rule.format("ipv6", "ip6", f"[{address_of('b3', version=6)}]:{PORT}"),
    )
    chains = "".join(
        f"chain {hook} {{ type nat hook {hook} priority -100; {'; '.join(rules)}; }};"
        for hook in ("prerouting", "output")
    )
    lab.inside("nft", f"table inet others {{ {chains} }}")
    yield lab
    lab.inside("nft", "delete table inet others")


def test_mapped_port_of_the_node_takes_nothing_of_a_vip(mapped: Lab) -> None:
    one, one6 = service(b1=1), service(version=6, b1=1)
    drained, drained6 = service(b1=0), service(version=6, b1=0)
    mapped.put(
        {WEB: one, OWN: one, WEB6: one6, REFUSED: drained, OWN_REFUSED: drained, REFUSED6: drained6}
    )

    served = dict.fromkeys((WEB, OWN, WEB6), "b1")
    for place in ("node", "client", "far"):
        assert {vip: mapped.ask(place, vip)[0] for vip in served} == served
        for vip in (REFUSED, UNUSED, REFUSED6, UNUSED6, OWN_REFUSED):
            with pytest.raises(ConnectionRefusedError):
                mapped.ask(place, vip)
    for place in ("node", "far"):
        for own in (Vip(ip_address(NODE), 80), Vip(ip_address(NODE6), 80), OWN_UNUSED):
            assert mapped.ask(place, own)[0] == "b3"


def test_datagram_to_a_process_of_the_node_is_answered_from_the_vip(lab: Lab) -> None:
    on_host = Service.of([Backend(ip_address(NODE), PORT)])
    lab.put({DNS: on_host, OWN_DNS: on_host})

    # It has every address, as most servers do: to a container it would speak from the bridge's.
    with answering(lab.path("node"), "node"):
        for place in ("node", "client", "far", "blue"):
            seen = {vip: lab.ask(place, vip) for vip in (DNS, OWN_DNS)}
            assert seen == dict.fromkeys(seen, ("node", NODE))
