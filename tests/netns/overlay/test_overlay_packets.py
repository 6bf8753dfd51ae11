"""What the overlay carries, with packets; the underlay drops all but underlay addresses."""

import errno
import json
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network

import pytest

from phalanx.net.model.objects import Network, Node, SubnetLease
from phalanx.net.model.view import View

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
VIEW = View().changed(
    [
        *(Node(IPv4Address(ADDRESS[name]), name) for name in ("n1", "m1", "n2")),
        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
        Network("blue", IPv4Network("10.20.0.0/16"), 24, 1025, 1450),
        *(
            SubnetLease(network, IPv4Address(ADDRESS[node]), IPv4Network(subnet))
            for network, node, subnet in (
                ("dcos", "n1", "9.0.1.0/24"),
                ("dcos", "n2", "9.0.2.0/24"),
                ("blue", "n1", "10.20.1.0/24"),
                ("blue", "n2", "10.20.2.0/24"),
            )
        ),
    ]
)
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2


@pytest.fixture(autouse=True)
async def overlay(reconcile: Reconcile) -> None:
    await reconcile(VIEW)


def refused_by_router(run_in: Run) -> int:
    listing = json.loads(run_in("r", "nft", "-j", "list counter inet guard refused"))
    return int(listing["nftables"][1]["counter"]["packets"])


def talk(socket_in: Socket, client: str, server: str, address: str | None = None) -> str:
    """Have *client* send a word to *server* and back by TCP; return the client as it was seen."""
    listener = socket_in(server)
    listener.bind(("0.0.0.0", 0))
    listener.listen()
    caller = socket_in(client)
    caller.connect((address or ADDRESS[server], listener.getsockname()[1]))
    called, seen = listener.accept()
    with called:
        called.settimeout(5)
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


def test_a_megabyte_arrives(socket_in: Socket) -> None:
    listener = socket_in("d2")
    listener.bind(("0.0.0.0", 0))
    listener.listen()
    sender = socket_in("d1")
    sender.connect((ADDRESS["d2"], listener.getsockname()[1]))
    called, _ = listener.accept()
    with called, ThreadPoolExecutor(1) as thread:
        called.settimeout(5)
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

    assert probe.getsockname()[0] == ADDRESS["n1"]


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
