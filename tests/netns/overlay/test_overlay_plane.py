"""Real planes on the nodes: what is changed by hand is right again at once; restarts cost nothing.

The planes have the View from their disk, for their source is nowhere; a resync
is an hour away, so what is repaired was noticed.
"""

from collections.abc import Callable, Iterator, Mapping

import pytest
from tests.netns.overlay.planes import ADDRESS, SECONDS, Planes, Stream, running_planes

from phalanx.labs.wait import wait_until

Run = Callable[..., str]


@pytest.fixture(scope="module")
def planes(
    cluster: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Planes]:
    with running_planes(tmp_path_factory.mktemp("planes"), cluster) as made:
        yield made


ROUTE6 = ("fd01:b:0:0:2::/80", "fd01:b::2:0:0:0/80")
DRIFTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {  # change, look, what is back
    "a-route": (
        ("ip", "route", "delete", "9.0.2.0/24"),
        ("ip", "route", "show", "9.0.2.0/24"),
        "encap ip id 1024",
    ),
    "a-route-of-ipv6": (
        ("ip", "route", "delete", ROUTE6[0]),
        ("ip", "-6", "route", "show", ROUTE6[0]),
        "encap ip id 1024",
    ),
    "a-route-of-nodes": (
        ("ip", "route", "flush", "table", "122"),
        ("ip", "route", "show", "table", "122"),
        "198.18.2.2 ",
    ),
    "the-wall-around-a-network": (
        ("ip", "route", "delete", "unreachable", "9.0.0.0/8", "metric", "2147483648"),
        ("ip", "route", "show", "9.0.0.0/8"),
        "unreachable",
    ),
    "the-route-of-vips": (
        ("ip", "route", "delete", "local", "11.0.0.0/8", "table", "local"),
        ("ip", "route", "show", "table", "local", "11.0.0.0/8"),
        "src 198.18.1.1",
    ),
    "the-link": (
        ("ip", "link", "delete", "phx-vxlan"),
        ("ip", "route", "show", "9.0.2.0/24"),
        "dev phx-vxlan",
    ),
    "the-link-down": (
        ("ip", "link", "set", "phx-vxlan", "down"),
        ("ip", "route", "show", "9.0.2.0/24"),
        "dev phx-vxlan",
    ),
    "the-links-mtu": (
        ("ip", "link", "set", "phx-vxlan", "mtu", "1300"),
        ("ip", "link", "show", "phx-vxlan"),
        "mtu 1450",
    ),
    "the-nodes-ipv6-address": (
        ("ip", "address", "delete", "fd01:a::c612:101/128", "dev", "lo"),
        ("ip", "-6", "route", "show", ROUTE6[0]),
        "src fd01:a::c612:101",
    ),
    "a-service-address": (
        ("ip", "address", "delete", "198.51.100.2/32", "dev", "lo"),
        ("ip", "address", "show", "dev", "lo"),
        "198.51.100.2",
    ),
    "the-rules": (
        ("ip", "rule", "flush", "protocol", "122"),
        ("ip", "rule", "show"),
        "from 9.0.0.0/8 fwmark 0/0x10000000 lookup 122",
    ),
    "forwarding": (
        ("sysctl", "-qw", "net.ipv4.ip_forward=0"),
        ("sysctl", "net.ipv4.ip_forward"),
        "= 1",
    ),
    "the-links-path-filter": (
        ("sysctl", "-qw", "net.ipv4.conf.phx-vxlan.rp_filter=1"),
        ("sysctl", "net.ipv4.conf.phx-vxlan.rp_filter"),
        "= 2",
    ),
    "who-may-send": (
        ("nft", "flush", "set", "inet", "phalanx_overlay", "nodes"),
        ("nft", "list", "set", "inet", "phalanx_overlay", "nodes"),
        "198.18.2.2",
    ),
}


@pytest.mark.parametrize(("change", "look", "back"), DRIFTS.values(), ids=DRIFTS.keys())
def test_what_is_changed_by_hand_is_right_again_at_once(
    planes: Planes, run_in: Run, change: tuple[str, ...], look: tuple[str, ...], back: str
) -> None:
    assert back in run_in("n1", *look)

    run_in("n1", *change)

    assert wait_until(lambda: back in run_in("n1", *look), seconds=SECONDS), planes.log("n1")


@pytest.mark.parametrize("to", ["9.0.2.2", "fd01:b::2:0:0:2"], ids=["IPv4", "IPv6"])
def test_killed_plane_and_its_successor_lose_no_packet(
    planes: Planes, cluster: Mapping[str, str], to: str
) -> None:
    with Stream(cluster, "d1", "d2", to) as stream:
        stream.read_until(10)
        for short in ADDRESS:
            planes.kill(short)
        for short in ADDRESS:
            planes.start(short)
        for short in ADDRESS:
            planes.await_applied(short)
        last = stream.sent + 100

        seen = stream.read_until(last)

    assert seen == list(range(seen[0], last + 1))
