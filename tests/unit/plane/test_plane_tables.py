"""Which routes go with VIPs outside of the VIP range."""

from ipaddress import IPv4Address, IPv4Network, ip_address

from phalanx.lb.service import Vip
from phalanx.net.overlay.mark import TABLE_LOCAL
from phalanx.net.overlay.route.value import LocalRoute, RouteKey
from phalanx.plane.tables import routes_to_own

NODE = IPv4Address("198.18.0.1")


def test_only_vips_outside_of_the_range_need_a_route_of_their_own() -> None:
    vips = [Vip(ip_address(each), 80) for each in ("11.0.0.1", "203.0.113.7", "fd01:c::1")]

    routes = routes_to_own(vips, node=NODE, pool=IPv4Network("11.0.0.0/8"))

    key = RouteKey(TABLE_LOCAL, IPv4Network("203.0.113.7/32"))
    assert routes == {key: LocalRoute(source=NODE)}
