"""One contract, two backends: what holds in memory must hold in the kernel."""

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.net.address.kernel import KernelAddresses
from phalanx.net.address.memory import MemoryAddresses
from phalanx.net.model.objects import node6
from phalanx.net.overlay.desired import desired_settings
from phalanx.net.overlay.link.kernel import KernelLinks
from phalanx.net.overlay.link.memory import MemoryLinks
from phalanx.net.overlay.link.value import OtherLink, VxlanLink
from phalanx.net.overlay.mark import TUNNEL, UNDERLAY_MARK
from phalanx.net.overlay.route.kernel import KernelRoutes
from phalanx.net.overlay.route.memory import MemoryRoutes
from phalanx.net.overlay.route.value import (
    LocalRoute,
    Route,
    RouteKey,
    TunnelRoute,
    UnknownRoute,
    UnreachableRoute,
)
from phalanx.net.overlay.rule.kernel import KernelRules
from phalanx.net.overlay.rule.memory import MemoryRules
from phalanx.net.overlay.setting.memory import MemorySettings
from phalanx.net.overlay.setting.proc import ProcSettings
from phalanx.net.rtnl.kernel import Rtnl

NODE = IPv4Address("198.18.1.1")
NODE6 = node6(NODE)
REMOTE = IPv4Address("198.18.2.2")
MARK = UNDERLAY_MARK
LINK = VxlanLink(mtu=1450)

SUBNET = RouteKey(254, IPv4Network("9.0.2.0/24"), 7)
OTHER_SUBNET = RouteKey(254, IPv4Network("9.0.3.0/24"), 8)
NETWORK = RouteKey(254, IPv4Network("9.0.0.0/8"), 1 << 31)
VIPS = RouteKey(255, IPv4Network("11.0.0.0/8"))
SUBNET6 = RouteKey(254, IPv6Network("fd01:b:0:0:2::/80"), 7)
NETWORK6 = RouteKey(254, IPv6Network("fd01:b::/64"), 1 << 31)
NODE_REMOTE6 = RouteKey(254, IPv6Network("fd01:a::c612:202/128"), 7)
VIPS6 = RouteKey(255, IPv6Network("fd01:c::/64"), 1024)
TO_REMOTE = TunnelRoute(REMOTE, 1024, NODE)
ROUTES: dict[RouteKey, Route] = {
    NETWORK: UnreachableRoute(),
    SUBNET: TO_REMOTE,
    SUBNET6: TO_REMOTE,
    NETWORK6: UnreachableRoute(),
    NODE_REMOTE6: TunnelRoute(REMOTE, 1, NODE),
    VIPS6: LocalRoute(NODE6),
    OTHER_SUBNET: TunnelRoute(IPv4Address("198.18.3.3"), (1 << 24) - 1, NODE),
    RouteKey(122, IPv4Network("198.18.2.2/32"), 9): TunnelRoute(REMOTE, 1, NODE),
    RouteKey(40000, IPv4Network("0.0.0.0/0"), 9): TO_REMOTE,
    VIPS: LocalRoute(NODE),
}

Routes = MemoryRoutes | KernelRoutes
Links = MemoryLinks | KernelLinks
Rules = MemoryRules | KernelRules
Settings = MemorySettings | ProcSettings
Addresses = MemoryAddresses | KernelAddresses

both = pytest.mark.parametrize("backend", ["memory", "kernel"])


def ip(ns: str, command: str) -> str:
    done = subprocess.run(["ip", "-n", ns, *command.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sysctl(ns: str, *arguments: str) -> str:
    command = ["ip", "netns", "exec", ns, "sysctl", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def forward_nothing(ns: str) -> None:
    """Let a namespace begin as one does, whatever the machine's own forwards."""
    sysctl(ns, "-qw", "net.ipv4.ip_forward=0", "net.ipv4.conf.all.src_valid_mark=0")


@pytest.fixture
def rtnl(ns: str) -> Iterator[Rtnl]:
    handle = Rtnl(netns=Path("/run/netns", ns))
    yield handle
    handle.close()


@pytest.fixture
async def tunnel(ns: str, rtnl: Rtnl) -> None:
    ip(ns, f"addr add {NODE}/24 dev lo")
    ip(ns, f"addr add {NODE6}/128 dev lo nodad")
    await KernelLinks(rtnl).apply(Delta({TUNNEL: LINK}, frozenset()))


@pytest.fixture(params=["memory", "kernel"])
def routes(request: pytest.FixtureRequest, rtnl: Rtnl, tunnel: None) -> Routes:
    return (
        KernelRoutes(rtnl) if request.param == "kernel" else MemoryRoutes(addresses=[NODE, NODE6])
    )


@pytest.fixture(params=["memory", "kernel"])
def links(request: pytest.FixtureRequest, rtnl: Rtnl) -> Links:
    return KernelLinks(rtnl) if request.param == "kernel" else MemoryLinks()


@pytest.fixture(params=["memory", "kernel"])
def rules(request: pytest.FixtureRequest, rtnl: Rtnl) -> Rules:
    return KernelRules(rtnl) if request.param == "kernel" else MemoryRules()


@pytest.fixture(params=["memory", "kernel"])
def addresses(request: pytest.FixtureRequest, rtnl: Rtnl) -> Addresses:
    return KernelAddresses(rtnl) if request.param == "kernel" else MemoryAddresses()


# Routes


async def test_routes_read_back_as_they_were_written(routes: Routes) -> None:
    await routes.apply(Delta(ROUTES, frozenset()))

    assert await routes.read() == ROUTES


async def test_route_changes_and_goes(routes: Routes) -> None:
    await routes.apply(Delta(ROUTES, frozenset()))
    moved = TunnelRoute(IPv4Address("198.18.3.3"), 1024, NODE)
    await routes.apply(Delta({SUBNET: moved}, frozenset({VIPS})))

    left = {key: route for key, route in ROUTES.items() if key != VIPS}
    assert await routes.read() == {**left, SUBNET: moved}


async def test_refused_route_does_not_hold_up_the_others(routes: Routes) -> None:
    elsewhere = TunnelRoute(REMOTE, 1024, IPv4Address("203.0.113.1"))
    with pytest.raises(DataplaneError, match=r"routes: 9.0.2.0/24 table 254: .*EINVAL"):
        await routes.apply(Delta({SUBNET: elsewhere, NETWORK: UnreachableRoute()}, frozenset()))

    assert await routes.read() == {NETWORK: UnreachableRoute()}


async def test_route_of_unknown_form_is_never_made(routes: Routes) -> None:
    with pytest.raises(DataplaneError, match="not a route that we make: odd"):
        await routes.apply(Delta({SUBNET: UnknownRoute("odd")}, frozenset()))

    assert await routes.read() == {}


async def test_removing_a_route_that_is_gone_is_no_error(routes: Routes) -> None:
    await routes.apply(Delta({}, frozenset({SUBNET})))

    assert await routes.read() == {}


@both
async def test_somebody_elses_route_is_refused_and_stays(
    backend: str, ns: str, rtnl: Rtnl, tunnel: None
) -> None:
    ip(ns, "route add blackhole 9.0.2.0/24 metric 7")
    routes = (
        KernelRoutes(rtnl)
        if backend == "kernel"
        else MemoryRoutes(addresses=[NODE], foreign=[SUBNET])
    )
    with pytest.raises(DataplaneError, match="there is a route that is not ours"):
        await routes.apply(Delta({SUBNET: TO_REMOTE, VIPS: LocalRoute(NODE)}, frozenset()))

    assert await routes.read() == {VIPS: LocalRoute(NODE)}
    await routes.apply(Delta({}, frozenset({SUBNET})))
    assert "blackhole 9.0.2.0/24" in ip(ns, "route")


@both
async def test_without_the_tunnel_its_routes_are_refused_and_others_made(
    backend: str, ns: str, rtnl: Rtnl
) -> None:
    routes = KernelRoutes(rtnl) if backend == "kernel" else MemoryRoutes(has_tunnel=False)
    with pytest.raises(DataplaneError, match="there is no link phx-vxlan"):
        await routes.apply(Delta({SUBNET: TO_REMOTE, NETWORK: UnreachableRoute()}, frozenset()))

    assert await routes.read() == {NETWORK: UnreachableRoute()}


async def test_iproute2_sees_the_routes_as_we_mean_them(ns: str, rtnl: Rtnl, tunnel: None) -> None:
    await KernelRoutes(rtnl).apply(Delta(ROUTES, frozenset()))

    assert (
        f"9.0.2.0/24  encap ip id 1024 src {NODE} dst {REMOTE} ttl 0 tos 0 dev phx-vxlan "
        f"proto 122 scope link src {NODE} metric 7" in ip(ns, "route")
    )


async def test_routes_made_by_hand_with_our_mark_are_seen_and_removed(
    ns: str, rtnl: Rtnl, tunnel: None
) -> None:
    routes = KernelRoutes(rtnl)
    await routes.apply(Delta(ROUTES, frozenset()))
    ip(ns, "route add 10.9.0.0/16 dev phx-vxlan proto 122")
    ip(ns, "route append 9.0.2.0/24 dev phx-vxlan proto 122 metric 7")
    ip(ns, "route add 10.8.0.0/16 dev phx-vxlan")
    change = delta(ROUTES, await routes.read())
    assert RouteKey(254, IPv4Network("10.9.0.0/16")) in change.removals

    await routes.apply(change)
    await routes.apply(delta(ROUTES, await routes.read()))

    assert await routes.read() == ROUTES
    assert "10.9.0.0/16" not in ip(ns, "route")
    assert "10.8.0.0/16" in ip(ns, "route")


async def test_thousands_of_routes_are_made_read_and_removed(rtnl: Rtnl, tunnel: None) -> None:
    many: dict[RouteKey, Route] = {
        RouteKey(254, IPv4Network((0x09000000 + 256 * number, 24)), 1 + number): TunnelRoute(
            IPv4Address(0xC6120000 + number), 1024, NODE
        )
        for number in range(2, 3002)
    }
    routes = KernelRoutes(rtnl)
    await routes.apply(Delta(many, frozenset()))
    assert await routes.read() == many

    await routes.apply(Delta({}, frozenset(many)))
    assert await routes.read() == {}


# The link


async def test_link_is_made_changed_and_removed(links: Links) -> None:
    for link in (LINK, VxlanLink(mtu=8964), VxlanLink(mtu=8964, port=4790)):
        await links.apply(Delta({TUNNEL: link}, frozenset()))
        assert await links.read() == {TUNNEL: link}

    await links.apply(Delta({}, frozenset({TUNNEL})))
    assert await links.read() == {}


async def test_any_other_link_is_refused(links: Links) -> None:
    change: Delta[str, VxlanLink | OtherLink] = Delta(
        {"eth0": LINK, TUNNEL: OtherLink("odd")}, frozenset()
    )
    with pytest.raises(DataplaneError, match="eth0: not a link that we make"):
        await links.apply(change)

    assert await links.read() == {}


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("type bridge", id="another-kind"),
        pytest.param("type vxlan id 1024 dstport 64000 local 127.0.0.1", id="classic"),
        pytest.param("type vxlan external dstport 64000 nolearning", id="no-gpe"),
        pytest.param("type vxlan external gpe dstport 4790", id="another-port"),
    ],
)
async def test_wrong_link_of_our_name_is_made_anew(ns: str, rtnl: Rtnl, form: str) -> None:
    ip(ns, f"link add phx-vxlan {form}")
    links = KernelLinks(rtnl)

    await links.apply(delta({TUNNEL: LINK}, await links.read()))

    assert await links.read() == {TUNNEL: LINK}
    assert "external" in ip(ns, "-d link show phx-vxlan")
    assert "gpe" in ip(ns, "-d link show phx-vxlan")


async def test_link_set_down_by_hand_comes_up_and_keeps_its_index(ns: str, rtnl: Rtnl) -> None:
    links = KernelLinks(rtnl)
    await links.apply(Delta({TUNNEL: LINK}, frozenset()))
    before = ip(ns, "-o link show phx-vxlan").split(":")[0]
    ip(ns, "link set phx-vxlan down mtu 1400")

    await links.apply(delta({TUNNEL: LINK}, await links.read()))

    assert await links.read() == {TUNNEL: LINK}
    assert ip(ns, "-o link show phx-vxlan").split(":")[0] == before


# Rules, settings, service addresses


async def test_rules_come_and_go(rules: Rules) -> None:
    one, two = IPv4Network("9.0.0.0/8"), IPv4Network("10.20.0.0/16")
    await rules.apply(Delta({one: MARK, two: MARK}, frozenset()))
    assert await rules.read() == {one: MARK, two: MARK}

    await rules.apply(Delta({}, frozenset({one})))
    await rules.apply(Delta({}, frozenset({one})))
    assert await rules.read() == {two: MARK}


@pytest.mark.parametrize("before", [0, 0x40000000])
async def test_rule_with_another_mark_makes_room(rules: Rules, before: int) -> None:
    one, two = IPv4Network("9.0.0.0/8"), IPv4Network("10.20.0.0/16")
    await rules.apply(Delta({one: before, two: before}, frozenset()))
    assert await rules.read() == {one: before, two: before}

    await rules.apply(delta({one: MARK}, await rules.read()))

    assert await rules.read() == {one: MARK}


async def test_of_two_rules_with_one_source_the_right_one_stays(ns: str, rtnl: Rtnl) -> None:
    rules, wanted = KernelRules(rtnl), {IPv4Network("9.0.0.0/8"): MARK}
    await rules.apply(Delta({IPv4Network("9.0.0.0/8"): 0}, frozenset()))
    ip(ns, f"rule add from 9.0.0.0/8 fwmark 0/{MARK:#x} lookup 122 priority 12200 protocol 122")

    await rules.apply(delta(wanted, await rules.read()))

    assert await rules.read() == wanted
    assert ip(ns, "rule").count("from 9.0.0.0/8") == 1


async def test_rule_for_marked_packets_alone_is_not_of_our_form(ns: str, rtnl: Rtnl) -> None:
    ip(ns, "rule add from 9.0.0.0/8 fwmark 1 lookup 122 priority 12200 protocol 122")

    assert await KernelRules(rtnl).read() == {}


async def test_somebody_elses_rule_is_not_ours(ns: str, rtnl: Rtnl) -> None:
    rules = KernelRules(rtnl)
    ip(ns, "rule add from 9.0.0.0/8 lookup 122 priority 12200")
    await rules.apply(Delta({IPv4Network("9.0.0.0/8"): MARK}, frozenset()))
    assert await rules.read() == {IPv4Network("9.0.0.0/8"): MARK}

    await rules.apply(Delta({}, frozenset({IPv4Network("9.0.0.0/8")})))

    assert await rules.read() == {}
    assert ip(ns, "rule").count("from 9.0.0.0/8 lookup 122") == 1


@both
async def test_settings_are_written_and_a_missing_one_is_refused(
    backend: str, ns: str, rtnl: Rtnl
) -> None:
    there = {"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/src_valid_mark": "0"}
    forward_nothing(ns)
    wanted = desired_settings(has_ipv6=False)
    settings: Settings = (
        ProcSettings(rtnl, wanted) if backend == "kernel" else MemorySettings(there)
    )
    assert await settings.read() == there

    with pytest.raises(DataplaneError, match="phx-vxlan/rp_filter: '2': No such file"):
        await settings.apply(Delta(wanted, frozenset()))

    assert await settings.read() == dict.fromkeys(there, "1")


async def test_node_that_begins_to_forward_ipv6_keeps_the_routes_of_its_routers(
    ns: str, rtnl: Rtnl, tunnel: None
) -> None:
    ip(ns, "link add eth0 type veth peer name eth1")
    ip(ns, "link add phx-1024 type bridge")
    sysctl(ns, "-qw", "net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.eth0.accept_ra=1")

    await ProcSettings(rtnl, desired_settings()).apply(Delta(desired_settings(), frozenset()))

    shown = ("net.ipv6.conf.eth0.accept_ra", "net.ipv6.conf.phx-1024.accept_ra")
    assert sysctl(ns, "-n", *shown).split() == ["2", "1"]


async def test_settings_are_those_of_the_namespace(ns: str, rtnl: Rtnl, tunnel: None) -> None:
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    await ProcSettings(rtnl, desired_settings()).apply(Delta(desired_settings(), frozenset()))

    assert ip(ns, f"-4 netconf show dev {TUNNEL}").count("rp_filter loose") == 1
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


async def test_service_addresses_come_and_go(addresses: Addresses) -> None:
    one, two = IPv4Address("198.51.100.1"), IPv4Address("198.51.100.2")
    one6, two6 = IPv6Address("fd01:d::c633:6401"), NODE6
    await addresses.apply(Delta(dict.fromkeys([one, two, one6, two6]), frozenset()))
    assert await addresses.read() == {one: None, two: None, one6: None, two6: None}

    await addresses.apply(Delta({}, frozenset({one, one6})))
    await addresses.apply(Delta({}, frozenset({one, one6})))
    assert await addresses.read() == {two: None, two6: None}


async def test_no_connection_leaves_from_an_ipv6_address_of_ours_by_itself(
    ns: str, rtnl: Rtnl
) -> None:
    ip(ns, "link add eth0 up type veth peer name eth1")
    ip(ns, "link set eth1 up")
    ip(ns, "addr add fd99::1/64 dev eth0 nodad")
    await KernelAddresses(rtnl).apply(Delta({NODE6: None}, frozenset()))

    assert " src fd99::1 " in ip(ns, "route get fd99::7")
    assert f" src {NODE6} " in ip(ns, f"route get {NODE6}")


@both
async def test_somebody_elses_address_is_refused_and_stays(
    backend: str, ns: str, rtnl: Rtnl
) -> None:
    theirs, ours = IPv4Address("198.51.100.1"), IPv4Address("198.51.100.2")
    ip(ns, f"addr add {theirs}/32 dev lo")
    addresses: Addresses = (
        KernelAddresses(rtnl) if backend == "kernel" else MemoryAddresses(foreign=[theirs])
    )
    with pytest.raises(DataplaneError, match=r"198.51.100.1: there is one on lo"):
        await addresses.apply(Delta({theirs: None, ours: None}, frozenset()))
    assert await addresses.read() == {ours: None}

    await addresses.apply(Delta({}, frozenset({theirs})))

    assert str(theirs) in ip(ns, "addr show dev lo")
