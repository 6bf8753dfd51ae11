"""What befalls the underlay of a node while its plane runs, and what containers feel of it."""

import errno
import socket
from collections.abc import Callable, Iterator, Mapping

import pytest
from tests.netns.overlay.planes import SECONDS, Planes, Stream, running_planes

from phalanx.labs.wait import wait_until

Run = Callable[..., str]
Socket = Callable[..., socket.socket]

IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
D2, D2_OF_IPV6 = "9.0.2.2", "fd01:b::2:0:0:2"


@pytest.fixture(scope="module")
def planes(
    cluster: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Planes]:
    with running_planes(tmp_path_factory.mktemp("planes"), cluster) as made:
        yield made


def routes(run_in: Run) -> set[str]:
    """Return the routes of ours on n1, of both families and every table."""
    lines = [
        line
        for family in ("-4", "-6")
        for line in run_in("n1", "ip", family, "route", "show", "table", "all").splitlines()
        if "proto 122" in line
    ]
    return {line.replace(" linkdown", "").strip() for line in lines}


def passes(cluster: Mapping[str, str], to: str) -> None:
    """Send datagrams from d1 until ten in a row have come."""
    with Stream(cluster, "d1", "d2", to) as stream:
        stream.read_until(10)


def test_underlay_that_lost_its_address_and_its_mtu_is_noticed_when_it_is_back(
    planes: Planes, run_in: Run
) -> None:
    def told() -> int:
        return planes.log("n1").count("underlay_address_missing")

    before = told()
    run_in("n1", "ip", "address", "delete", "198.18.1.1/24", "dev", "eth0")
    assert wait_until(lambda: told() > before, seconds=SECONDS), planes.log("n1")
    run_in("n1", "ip", "link", "set", "eth0", "mtu", "1400")
    run_in("n1", "ip", "address", "add", "198.18.1.1/24", "dev", "eth0")
    run_in("n1", "ip", "route", "add", "default", "via", "198.18.1.254")

    def is_right() -> bool:
        return "encap" in run_in("n1", "ip", "route", "show", "9.0.2.0/24") and (
            "mtu 1364" in run_in("n1", "ip", "link", "show", "phx-vxlan")
        )

    assert wait_until(is_right, seconds=SECONDS), planes.log("n1")
    run_in("n1", "ip", "link", "set", "eth0", "mtu", "1500")


@pytest.mark.parametrize("to", [D2, D2_OF_IPV6], ids=["IPv4", "IPv6"])
def test_underlay_link_that_was_down_carries_at_once(
    planes: Planes, cluster: Mapping[str, str], run_in: Run, to: str
) -> None:
    before = routes(run_in)
    assert before

    run_in("n1", "ip", "link", "set", "eth0", "down")
    run_in("n1", "ip", "link", "set", "eth0", "up")
    # What an operator's own configuration does then: the kernel took this route.
    run_in("n1", "ip", "route", "add", "default", "via", "198.18.1.254")

    passes(cluster, to)

    assert wait_until(lambda: routes(run_in) == before, seconds=SECONDS), planes.log("n1")


def test_change_of_the_underlays_mtu_is_told_to_who_sends_too_much(
    planes: Planes, run_in: Run, socket_in: Socket
) -> None:
    sender = socket_in("d1", socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    large = bytes(1450 - 28)

    def is_told() -> bool:
        try:
            sender.sendto(large, (D2, 4242))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            return True
        return False

    assert not is_told()
    run_in("n1", "ip", "link", "set", "eth0", "mtu", "1400")
    try:
        assert wait_until(is_told, seconds=SECONDS), planes.log("n1")
    finally:
        run_in("n1", "ip", "link", "set", "eth0", "mtu", "1500")

    def is_wide() -> bool:
        return "mtu 1450" in run_in("n1", "ip", "link", "show", "phx-vxlan")

    assert wait_until(is_wide, seconds=SECONDS), planes.log("n1")


def test_another_address_of_the_node_is_never_used_for_the_tunnel(
    planes: Planes, cluster: Mapping[str, str], run_in: Run
) -> None:
    run_in("n1", "ip", "address", "delete", "198.18.1.1/24", "dev", "eth0")
    for address in ("198.18.1.77/24", "198.18.1.1/24"):  # the first is what the kernel prefers
        run_in("n1", "ip", "address", "add", address, "dev", "eth0")
    run_in("n1", "ip", "route", "replace", "default", "via", "198.18.1.254")

    assert "src 198.18.1.77" in run_in("n1", "ip", "route", "get", "198.18.1.254")
    # n2 takes packets to the tunnel from 198.18.1.1 only.
    passes(cluster, D2)
    passes(cluster, D2_OF_IPV6)

    run_in("n1", "ip", "address", "delete", "198.18.1.77/24", "dev", "eth0")
    run_in("n1", "ip", "address", "replace", "198.18.1.1/24", "dev", "eth0")
    run_in("n1", "ip", "route", "replace", "default", "via", "198.18.1.254")


def test_node_with_a_link_into_another_segment_sends_through_it(
    planes: Planes, cluster: Mapping[str, str], run_in: Run, socket_in: Socket
) -> None:
    def on(short: str, *commands: str) -> None:
        for command in commands:
            run_in(short, "ip", *command.split())

    on("n1", f"link add eth1 type veth peer name n1-2 netns {cluster['r']}")
    try:
        on("r", "link set n1-2 master seg2 up")
        # Answers come by eth0 all the same, which only a loose filter takes.
        run_in("n1", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=2")
        on("n1", "address add 198.18.2.101/24 dev eth1", "link set eth1 mtu 1400 up")

        assert "dev eth1" in run_in("n1", "ip", "route", "get", "198.18.2.2")
        passes(cluster, D2)
        passes(cluster, D2_OF_IPV6)
        # The tunnel is as wide as the link of the node's address: outer packets are cut here.
        receiver = socket_in("d2", socket.SOCK_DGRAM)
        receiver.bind(("", 0))
        port = receiver.getsockname()[1]
        word = bytes(range(256)) * 5
        sender = socket_in("d1", socket.SOCK_DGRAM)
        sender.sendto(word + bytes(142), (D2, port))
        assert receiver.recv(2000) == word + bytes(142)
    finally:
        on("n1", "link delete eth1")
        run_in("n1", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    passes(cluster, D2)
