"""Which routes go with VIPs outside of the VIP ranges."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.objects import Protocol, node6
from phalanx.net.overlay.mark import METRIC6, TABLE_LOCAL
from phalanx.net.overlay.route.value import LocalRoute, RouteKey
from phalanx.plane.tables import claimed, routes_to_own

NODE = IPv4Address("198.18.0.1")
VIPS = [Vip(ip_address(each), port) for each in ("203.0.113.7", "fd01:f::1") for port in (80, 81)]
FOUR = RouteKey(TABLE_LOCAL, IPv4Network("203.0.113.7/32"))
SIX = RouteKey(TABLE_LOCAL, IPv6Network("fd01:f::1/128"), METRIC6)


def test_an_address_has_one_route_however_many_ports() -> None:
    routes = routes_to_own(VIPS, node=NODE)

    assert routes == {FOUR: LocalRoute(source=NODE), SIX: LocalRoute(source=node6(NODE))}


def test_kernel_without_ipv6_has_no_routes_of_it() -> None:
    assert routes_to_own(VIPS, node=NODE, has_ipv6=False).keys() == {FOUR}


def test_vips_that_refuse_datagrams_and_those_of_ipv6_are_claimed() -> None:
    address = IPv4Address("203.0.113.7")
    udp, tcp = (Vip(address, 53, protocol) for protocol in (Protocol.UDP, Protocol.TCP))
    busy, six = Vip(address, 54, Protocol.UDP), Vip(IPv6Address("fd01:f::1"), 80)
    drained, open_ = (Service((Backend(IPv4Address("9.0.0.1"), 53, each),)) for each in (0, 1))

    found = list(claimed({udp: drained, tcp: drained, busy: open_, six: open_}))

    assert found == [udp, six]
