"""What the overlay carries, with packets; the underlay drops all but underlay addresses."""

import errno
import json
import os
import select
import socket
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from phalanx.net.model.objects import Network, Node, SubnetLease, node6
from phalanx.net.model.view import View
from phalanx.net.overlay.mark import TUNNEL

Socket = Callable[..., socket.socket]
Run = Callable[..., str]
Reconcile = Callable[[View], Awaitable[None]]

ADDRESS = {
    "n1": "198.18.1.1",
    "m1": "198.18.1.3",
    "n2": "198.18.2.2",
    "out": "192.0.2.9",
    "d1": "9.0.1.2",
    "d2": "9.0.2.2",
}
ADDRESS6 = {
    **{name: str(node6(IPv4Address(ADDRESS[name]))) for name in ("n1", "m1", "n2")},
    "d1": "fd01:b::1:0:0:2",
    "e1": "fd01:b::1:0:0:3",
    "b1": "fd02:b::1:0:0:2",
    "d2": "fd01:b::2:0:0:2",
    "b2": "fd02:b::2:0:0:2",
}


def network(name: str, subnet: str, subnet6: str, vni: int, mtu: int = 1450) -> Network:
    return Network(
        name, IPv4Network(subnet), 24, vni, mtu, subnet6=IPv6Network(subnet6), prefix6=80
    )


def lease(network: str, node: str, subnet: str, subnet6: str) -> SubnetLease:
    at = IPv4Address(ADDRESS[node])
    return SubnetLease(network, at, IPv4Network(subnet), IPv6Network(subnet6))


BIG = 8900  # of a network whose underlay carries less
VIEW = View().changed(
    [
        *(Node(IPv4Address(ADDRESS[name]), name) for name in ("n1", "m1", "n2")),
        network("dcos", "9.0.0.0/8", "fd01:b::/64", 1024),
        network("blue", "10.20.0.0/16", "fd02:b::/64", 1025),
        lease("dcos", "n1", "9.0.1.0/24", "fd01:b:0:0:1::/80"),
        lease("dcos", "n2", "9.0.2.0/24", "fd01:b:0:0:2::/80"),
        lease("blue", "n1", "10.20.1.0/24", "fd02:b:0:0:1::/80"),
        lease("blue", "n2", "10.20.2.0/24", "fd02:b:0:0:2::/80"),
    ]
)
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24


@pytest.fixture(autouse=True)
async def overlay(reconcile: Reconcile) -> None:
    await reconcile(VIEW)


def refused_by_router(run_in: Run) -> int:
    listing = json.loads(run_in("r", "nft", "-j", "list counter inet guard refused"))
    return int(listing["nftables"][1]["counter"]["packets"])


def talk(socket_in: Socket, client: str, server: str, address: str | None = None) -> str:
    """Have *client* send a word to *server* and back by TCP; return the client as it was seen."""
    to = address or ADDRESS[server]
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    listener = socket_in(server, family=family)
    listener.bind(("", 0))
    listener.listen()
    caller = socket_in(client, family=family)
    caller.connect((to, listener.getsockname()[1]))
    called, seen = listener.accept()
    with called:
        called.settimeout(60)
        caller.sendall(b"ping")
        assert called.recv(4) == b"ping"
        called.sendall(b"pong")
        assert caller.recv(4) == b"pong"
    return str(seen[0])


@pytest.mark.parametrize(
    ("client", "server"),
    [
        pytest.param("d1", "d2", id="container-to-container"),
        pytest.param("n1", "d2", id="node-to-remote-container"),
        pytest.param("d1", "n2", id="container-to-remote-node"),
        pytest.param("m1", "d2", id="master-to-container-in-another-segment"),
        pytest.param("m1", "d1", id="master-to-container-in-its-segment"),
        pytest.param("d2", "m1", id="container-to-master"),
        pytest.param("n1", "d1", id="node-to-own-container"),
        pytest.param("d1", "n1", id="container-to-own-node"),
        pytest.param("n1", "n2", id="node-to-node"),
    ],
)
def test_each_reaches_the_other_and_is_seen_with_its_own_address(
    socket_in: Socket, run_in: Run, client: str, server: str
) -> None:
    before = refused_by_router(run_in)
    seen = talk(socket_in, client, server)

    if (client, server) == ("n1", "d1"):
        assert seen == "9.0.1.1"  # from the bridge, which is nearest
    else:
        assert seen == ADDRESS[client]
    assert refused_by_router(run_in) == before


@pytest.mark.parametrize(
    ("client", "server"),
    [
        pytest.param("d1", "d2", id="container-to-container"),
        pytest.param("n1", "d2", id="node-to-remote-container"),
        pytest.param("d1", "n2", id="container-to-remote-node"),
        pytest.param("m1", "d2", id="master-to-container-in-another-segment"),
        pytest.param("d2", "m1", id="container-to-master"),
        pytest.param("n1", "m1", id="node-to-node"),
        pytest.param("d1", "n1", id="container-to-own-node"),
    ],
)
def test_ipv6_goes_over_an_underlay_of_ipv4(
    socket_in: Socket, run_in: Run, client: str, server: str
) -> None:
    before = refused_by_router(run_in)

    assert talk(socket_in, client, server, ADDRESS6[server]) == ADDRESS6[client]

    assert refused_by_router(run_in) == before


def test_unleased_ipv6_is_unreachable_and_never_leaks(socket_in: Socket, run_in: Run) -> None:
    before = refused_by_router(run_in)

    with pytest.raises(OSError, match="Network is unreachable"):
        socket_in("d1", family=socket.AF_INET6).connect(("fd01:b:0:0:77::1", 80))
    with pytest.raises(OSError, match="Network is unreachable"):
        socket_in("d1", family=socket.AF_INET6).connect(("fd01:a::1.2.3.4", 80))

    assert refused_by_router(run_in) == before


@pytest.mark.parametrize(("client", "server"), [("d1", "d2"), ("n1", "d2"), ("d2", "m1")])
def test_ping_goes_both_ways(run_in: Run, client: str, server: str) -> None:
    assert " 0% packet loss" in run_in(client, "ping", "-c1", "-W5", ADDRESS[server])


def test_container_leaves_the_cluster_with_the_address_of_its_node(socket_in: Socket) -> None:
    assert talk(socket_in, "d1", "out") == ADDRESS["n1"]


def test_unleased_part_of_a_network_is_unreachable_and_never_leaks(
    socket_in: Socket, run_in: Run
) -> None:
    before = refused_by_router(run_in)

    with pytest.raises(OSError, match="No route to host") as refusal:
        socket_in("d1").connect(("9.0.77.1", 80))

    assert refusal.value.errno == errno.EHOSTUNREACH
    assert refused_by_router(run_in) == before


@pytest.mark.parametrize(("client", "server"), [("d1", "d2"), ("n1", "d2"), ("d2", "m1")])
def test_packets_of_the_full_mtu_pass_whole(socket_in: Socket, client: str, server: str) -> None:
    receiver = socket_in(server, socket.SOCK_DGRAM)
    receiver.bind(("0.0.0.0", 0))
    sender = socket_in(client, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    to = (ADDRESS[server], receiver.getsockname()[1])
    largest = 1450 - 28

    sender.sendto(b"x" * largest, to)
    assert len(receiver.recv(2000)) == largest
    with pytest.raises(OSError, match="Message too long"):
        sender.sendto(b"x" * (largest + 1), to)


@pytest.fixture
def narrow(run_in: Run) -> Iterator[None]:
    """Let the underlay between the segments carry 1400 bytes, the last hop towards n2."""
    for short, link in (("n2", "eth0"), ("r", "n2"), ("r", "seg2")):
        run_in(short, "ip", "link", "set", link, "mtu", "1400")
    yield
    for short, link in (("n2", "eth0"), ("r", "n2"), ("r", "seg2")):
        run_in(short, "ip", "link", "set", link, "mtu", "1500")


@pytest.mark.parametrize(("family", "header"), [(socket.AF_INET, 28), (socket.AF_INET6, 48)])
async def test_who_sends_more_than_the_underlay_carries_is_told(
    socket_in: Socket, narrow: None, reconcile: Reconcile, family: int, header: int
) -> None:
    await reconcile(VIEW)
    carried = 1400 - 36
    addresses = ADDRESS if family == socket.AF_INET else ADDRESS6
    receiver = socket_in("d1", socket.SOCK_DGRAM, family=family)
    receiver.bind(("", 0))
    sender = socket_in("d2", socket.SOCK_DGRAM, family=family)
    forbid_fragments(sender)
    sender.connect((addresses["d1"], receiver.getsockname()[1]))

    sender.send(b"x" * (1450 - header))  # as large as its own link takes
    told = await_refusal(sender)
    sender.send(b"x" * (carried - header))

    assert told.errno == errno.EMSGSIZE
    assert path_mtu(sender) == carried
    assert len(receiver.recv(2000)) == carried - header


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
async def test_a_packet_larger_than_a_link_on_the_way_arrives(
    socket_in: Socket, narrow: None, reconcile: Reconcile, family: int
) -> None:
    # n1 can't know of the narrow link behind the router, which cuts the outer packet in two.
    await reconcile(VIEW)
    addresses = ADDRESS if family == socket.AF_INET else ADDRESS6
    receiver = socket_in("d2", socket.SOCK_DGRAM, family=family)
    receiver.bind(("", 0))
    sender = socket_in("d1", socket.SOCK_DGRAM, family=family)
    forbid_fragments(sender)
    sender.connect((addresses["d2"], receiver.getsockname()[1]))

    sender.send(b"x" * 1400)

    assert len(receiver.recv(2000)) == 1400


async def test_network_with_a_larger_mtu_than_the_underlay_has_the_largest_that_passes(
    reconcile: Reconcile, run_in: Run
) -> None:
    await reconcile(VIEW.changed([network("big", "10.99.0.0/16", "fd09::/64", 1030, mtu=BIG)]))

    assert " mtu 1464 " in run_in("n1", "ip", "link", "show", TUNNEL)


def forbid_fragments(sender: socket.socket) -> None:
    if sender.family == socket.AF_INET:
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    else:
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)


def path_mtu(sender: socket.socket) -> int:
    if sender.family == socket.AF_INET:
        return sender.getsockopt(socket.IPPROTO_IP, IP_MTU)
    return sender.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)


def await_refusal(sender: socket.socket) -> OSError:
    """Return the error that an ICMP message brings to a connected socket."""
    poller = select.poll()
    poller.register(sender, select.POLLERR)
    assert poller.poll(60_000)
    number = sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return OSError(number, os.strerror(number))


def test_a_megabyte_arrives(socket_in: Socket) -> None:
    listener = socket_in("d2")
    listener.bind(("0.0.0.0", 0))
    listener.listen()
    sender = socket_in("d1")
    sender.connect((ADDRESS["d2"], listener.getsockname()[1]))
    called, _ = listener.accept()
    with called, ThreadPoolExecutor(1) as thread:
        called.settimeout(60)
        sending = thread.submit(sender.sendall, bytes(1 << 20))
        received = 0
        while received < 1 << 20:
            received += len(called.recv(65536))
        sending.result()

    assert received == 1 << 20


def test_service_address_answers_containers_from_itself(socket_in: Socket) -> None:
    server = socket_in("n1", socket.SOCK_DGRAM)
    server.bind(("198.51.100.1", 0))
    client = socket_in("d1", socket.SOCK_DGRAM)
    client.connect(server.getsockname())
    client.send(b"question")
    question, asker = server.recvfrom(100)
    server.sendto(b"answer", asker)

    assert (question, asker[0]) == (b"question", ADDRESS["d1"])
    assert client.recv(100) == b"answer"


def test_connections_to_a_vip_leave_from_the_address_of_the_node(socket_in: Socket) -> None:
    probe = socket_in("n1", socket.SOCK_DGRAM)
    probe.connect(("11.1.2.3", 80))
    probe6 = socket_in("n1", socket.SOCK_DGRAM, family=socket.AF_INET6)
    probe6.connect(("fd01:c::7", 80))

    assert probe.getsockname()[0] == ADDRESS["n1"]
    assert probe6.getsockname()[0] == ADDRESS6["n1"]


async def test_what_was_removed_by_hand_carries_again_after_one_pass(
    socket_in: Socket, run_in: Run, reconcile: Reconcile
) -> None:
    run_in("n1", "ip", "link", "delete", "phx-vxlan")
    run_in("n2", "ip", "route", "delete", "9.0.1.0/24")
    run_in("n2", "ip", "rule", "delete", "from", "9.0.0.0/8")
    with pytest.raises(OSError, match="No route to host"):
        socket_in("d1").connect((ADDRESS["d2"], 80))

    await reconcile(VIEW)

    assert talk(socket_in, "d1", "d2") == ADDRESS["d1"]
    assert talk(socket_in, "n1", "d2") == ADDRESS["n1"]


async def test_node_that_left_the_view_has_no_routes(
    socket_in: Socket, reconcile: Reconcile
) -> None:
    await reconcile(VIEW.changed([], [("node", ADDRESS["n2"])]))

    with pytest.raises(OSError, match="No route to host"):
        socket_in("d1").connect((ADDRESS["d2"], 80))
