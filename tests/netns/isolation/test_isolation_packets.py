"""What the walls between networks stop and let through, with packets."""

import socket
import struct
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from threading import Event

import msgspec
import pytest
from tests.netns.isolation.test_isolation_matrix import CLUSTER

from phalanx.net.model.objects import Network, Node, Policy, SubnetLease, Traffic, node6
from phalanx.net.model.view import View

Socket = Callable[..., socket.socket]
Run = Callable[..., str]
Reconcile = Callable[[View], Awaitable[None]]

ADDRESS = {
    "d1": "9.0.1.2",
    "e1": "9.0.1.3",
    "b1": "10.20.1.2",
    "d2": "9.0.2.2",
    "b2": "10.20.2.2",
    "n1": "198.18.1.1",
    "n2": "198.18.2.2",
    "out": "192.0.2.9",
}
DCOS = Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450)
BLUE = Network("blue", IPv4Network("10.20.0.0/16"), 24, 1025, 1450)
VIEW = View().changed(
    [
        *(Node(IPv4Address(ADDRESS[name]), name) for name in ("n1", "n2")),
        Node(IPv4Address("198.18.1.3"), "m1"),
        DCOS,
        BLUE,
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
PORT = 5432
TO_DATABASE = Policy("app-to-db", "dcos", "blue", Traffic.TCP, PORT, PORT)
UDP_TO_DATABASE = Policy("udp", "dcos", "blue", Traffic.UDP, PORT, PORT)
VIP_RULES = """
table inet vip {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr 11.0.0.1 tcp dport 80 dnat ip to 10.20.2.2:5432
  }
}
"""
MAPPED_RULES = """
table inet mapped {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    fib daddr type local tcp dport 8080 dnat ip to 10.20.2.2:5432
    fib daddr type local tcp dport 8080 dnat ip6 to [fd02:b:0:0:2::2]:5432
  }
}
"""


@pytest.fixture(autouse=True)
async def walls(reconcile: Reconcile) -> None:
    await reconcile(VIEW)


def listen(socket_in: Socket, server: str, port: int = PORT) -> socket.socket:
    listener = socket_in(server)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    return listener


def connect(
    socket_in: Socket, client: str, server: str, port: int = PORT, **source: int
) -> socket.socket:
    caller = socket_in(client)
    if source:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        caller.bind(("0.0.0.0", source["source_port"]))
    caller.connect((ADDRESS[server], port))
    return caller


PAIRS_BETWEEN = [("d1", "b1"), ("d1", "b2"), ("b1", "d1"), ("b2", "d1")]


@pytest.mark.parametrize(("client", "server"), PAIRS_BETWEEN)
def test_tcp_between_networks_is_refused_at_once(
    socket_in: Socket, client: str, server: str
) -> None:
    listen(socket_in, server)

    with pytest.raises(ConnectionRefusedError):
        connect(socket_in, client, server)


@pytest.mark.parametrize(("client", "server"), PAIRS_BETWEEN)
def test_udp_between_networks_is_refused_at_once(
    socket_in: Socket, client: str, server: str
) -> None:
    receiver = socket_in(server, socket.SOCK_DGRAM)
    receiver.bind(("0.0.0.0", PORT))
    sender = socket_in(client, socket.SOCK_DGRAM)
    sender.connect((ADDRESS[server], PORT))
    sender.send(b"knock")

    with pytest.raises(OSError, match="No route to host"):
        sender.recv(100)
    receiver.setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver.recv(100)


@pytest.mark.parametrize("server", ["b1", "b2"])
def test_borrowed_address_leads_through_no_wall(
    socket_in: Socket, run_in: Run, server: str
) -> None:
    for node in ("n1", "n2"):  # else the kernel's own filter would do it
        settings = run_in(node, "sysctl", "-aN", "-r", r"net\.ipv4\.conf\..*\.rp_filter").split()
        run_in(node, "sysctl", "-qw", *(f"{name}=0" for name in settings))
    receiver = socket_in(server, socket.SOCK_DGRAM)
    receiver.bind(("0.0.0.0", PORT))
    receiver.setblocking(False)
    raw = socket_in("d1", socket.SOCK_RAW, socket.IPPROTO_RAW)

    for source in ("10.20.1.77", "9.0.2.2", "192.0.2.9", ADDRESS["n2"]):
        raw.sendto(udp_packet(source, ADDRESS[server]), (ADDRESS[server], 0))
    neighbour = "b2" if server == "b1" else "b1"
    knock = socket_in(neighbour, socket.SOCK_DGRAM)
    knock.sendto(b"honest", (ADDRESS[server], PORT))
    receiver.settimeout(30)
    heard = receiver.recv(100)
    for node in ("n1", "n2"):
        run_in(node, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")

    assert heard == b"honest"


def udp_packet(source: str, destination: str) -> bytes:
    """Return a packet that says it comes from *source*; the kernel fills in length and sum."""
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    payload = b"borrowed"
    udp = struct.pack("!HHHH", PORT, PORT, 8 + len(payload), 0) + payload
    return struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0) + ends + udp


async def test_container_of_a_network_that_is_gone_stays_behind_its_wall(
    socket_in: Socket, reconcile: Reconcile
) -> None:
    gone = [(lease.kind, lease.key) for lease in VIEW.subnets.values() if lease.network == "dcos"]
    await reconcile(VIEW.changed((), [(DCOS.kind, DCOS.key), *gone]))
    listen(socket_in, "b1")
    listen(socket_in, "d1")

    for client, server in (("d1", "b1"), ("b1", "d1")):
        with pytest.raises(ConnectionRefusedError):
            connect(socket_in, client, server)


def test_ping_between_networks_is_filtered(run_in: Run) -> None:
    script = f"ping -c1 -W2 {ADDRESS['b2']} || true"

    assert "Packet filtered" in run_in("d1", "sh", "-c", script)


@pytest.mark.parametrize(
    ("client", "server"),
    [
        pytest.param("d1", "e1", id="same-network-same-node"),
        pytest.param("d1", "d2", id="same-network-across"),
        pytest.param("d1", "n2", id="to-a-node"),
        pytest.param("n2", "b1", id="from-a-node"),
        pytest.param("b1", "out", id="to-the-world"),
    ],
)
def test_all_else_passes(socket_in: Socket, client: str, server: str) -> None:
    listener = listen(socket_in, server)
    connect(socket_in, client, server)

    listener.accept()[0].close()


@pytest.mark.parametrize("server", ["b1", "b2"])
async def test_policy_opens_one_port_in_one_direction(
    socket_in: Socket, reconcile: Reconcile, server: str
) -> None:
    await reconcile(VIEW.changed([TO_DATABASE]))
    for name in (server, "d1"):
        listen(socket_in, name)
        listen(socket_in, name, PORT + 1)

    connect(socket_in, "d1", server)
    with pytest.raises(ConnectionRefusedError):
        connect(socket_in, "d1", server, PORT + 1)
    with pytest.raises(ConnectionRefusedError):
        connect(socket_in, server, "d1")
    with pytest.raises(ConnectionRefusedError):  # not even from the port that is open
        connect(socket_in, "b2" if server == "b1" else "b1", "d1", PORT + 1, source_port=PORT)


async def test_policy_for_one_container_opens_nothing_for_its_neighbour(
    socket_in: Socket, reconcile: Reconcile
) -> None:
    narrow = Policy("one", ADDRESS["d1"], f"{ADDRESS['b2']}/32", Traffic.TCP, 5000, 6000)
    await reconcile(VIEW.changed([narrow]))
    listen(socket_in, "b1")
    listen(socket_in, "b2")

    connect(socket_in, "d1", "b2")
    with pytest.raises(ConnectionRefusedError):
        connect(socket_in, "e1", "b2")
    with pytest.raises(ConnectionRefusedError):
        connect(socket_in, "d1", "b1")


@pytest.mark.parametrize("server", ["b1", "b2"])
async def test_taking_a_policy_back_ends_the_connections_it_had_let_in(
    socket_in: Socket, reconcile: Reconcile, server: str
) -> None:
    await reconcile(VIEW.changed([TO_DATABASE]))
    listener = listen(socket_in, server)
    caller = connect(socket_in, "d1", server)
    called, _ = listener.accept()
    with called:
        caller.sendall(b"ping")
        assert called.recv(4) == b"ping"

        await reconcile(VIEW)

        caller.sendall(b"more")
        with pytest.raises(ConnectionResetError):
            caller.recv(4)
        called.setblocking(False)
        with pytest.raises(BlockingIOError):
            called.recv(4)


async def test_taking_a_policy_back_ends_answers_as_well(
    socket_in: Socket, reconcile: Reconcile
) -> None:
    await reconcile(VIEW.changed([UDP_TO_DATABASE]))
    server = socket_in("b2", socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", PORT))
    client = socket_in("d1", socket.SOCK_DGRAM)
    client.sendto(b"question", (ADDRESS["b2"], PORT))
    _, asker = server.recvfrom(100)
    server.sendto(b"answer", asker)
    assert client.recv(100) == b"answer"

    await reconcile(VIEW)

    server.connect(asker)
    server.send(b"more")
    with pytest.raises(OSError, match="No route to host"):
        server.recv(100)
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(100)


async def test_behind_a_vip_the_real_destination_counts(
    socket_in: Socket, run_in: Run, reconcile: Reconcile
) -> None:
    run_in("n1", "nft", VIP_RULES)
    try:
        listener = listen(socket_in, "b2")
        with pytest.raises(OSError, match="No route to host"):
            socket_in("d1").connect(("11.0.0.1", 80))

        await reconcile(VIEW.changed([TO_DATABASE]))

        socket_in("d1").connect(("11.0.0.1", 80))
        with listener.accept()[0] as called:
            assert called.getpeername()[0] == ADDRESS["d1"]
    finally:
        run_in("n1", "nft", "delete table inet vip")


async def test_open_networks_reach_one_another(socket_in: Socket, reconcile: Reconcile) -> None:
    listen(socket_in, "b2")
    await reconcile(VIEW.changed([msgspec.structs.replace(BLUE, isolated=False)]))
    with pytest.raises(ConnectionRefusedError):
        connect(socket_in, "d1", "b2")

    both = [msgspec.structs.replace(network, isolated=False) for network in (DCOS, BLUE)]
    await reconcile(VIEW.changed(both))

    connect(socket_in, "d1", "b2")


@pytest.mark.parametrize(
    "damage",
    [
        "flush chain inet phalanx_isolation forward",
        "flush chain inet phalanx_isolation default",
        "flush set inet phalanx_isolation networks4",
        "insert rule inet phalanx_isolation forward accept",
        "delete element inet phalanx_isolation walled4 { 10.20.0.0/16, 9.0.0.0/8 }",
        "delete table inet phalanx_isolation",
    ],
)
async def test_what_was_torn_down_by_hand_stands_again_after_one_pass(
    socket_in: Socket, run_in: Run, reconcile: Reconcile, damage: str
) -> None:
    listener = listen(socket_in, "b1")
    run_in("n1", "nft", damage)
    connect(socket_in, "d1", "b1")
    listener.accept()[0].close()

    await reconcile(VIEW)

    with pytest.raises(ConnectionRefusedError):
        connect(socket_in, "d1", "b1")


async def test_wall_has_no_gap_while_it_is_made_anew(
    socket_in: Socket, run_in: Run, reconcile: Reconcile
) -> None:
    receiver = socket_in("b1", socket.SOCK_DGRAM)
    receiver.bind(("0.0.0.0", PORT))
    sender = socket_in("d1", socket.SOCK_DGRAM)
    is_over = Event()
    allowed = VIEW.changed([TO_DATABASE])
    await reconcile(allowed)
    listener = listen(socket_in, "b1")
    caller = connect(socket_in, "d1", "b1")

    def knock() -> int:
        count = 0
        while not is_over.is_set():
            with suppress(OSError):  # the refusals of the packets before
                sender.sendto(b"knock", (ADDRESS["b1"], PORT))
                count += 1
        return count

    with ThreadPoolExecutor(1) as thread, listener.accept()[0] as called:
        knocking = thread.submit(knock)
        try:
            for _ in range(10):
                run_in("n1", "nft", "add chain inet phalanx_isolation stray")
                await reconcile(allowed)
        finally:
            is_over.set()
        caller.sendall(b"still here")
        assert called.recv(100) == b"still here"

    assert knocking.result() > 100
    receiver.setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver.recv(100)


async def test_behind_a_mapped_port_the_real_ends_count(
    socket_in: Socket, run_in: Run, reconcile: Reconcile
) -> None:
    run_in("n2", "nft", MAPPED_RULES)
    try:
        listener = listen(socket_in, "b2")
        connect(socket_in, "out", "n2", 8080)  # the world comes in
        listener.accept()[0].close()
        connect(socket_in, "b1", "n2", 8080)  # and who is in the same network
        listener.accept()[0].close()
        with pytest.raises(OSError, match="No route to host"):
            connect(socket_in, "d1", "n2", 8080)

        await reconcile(VIEW.changed([TO_DATABASE]))

        connect(socket_in, "d1", "n2", 8080)
        with listener.accept()[0] as called:
            assert called.getpeername()[0] == ADDRESS["d1"]
    finally:
        run_in("n2", "nft", "delete table inet mapped")


async def test_behind_a_mapped_port_the_real_ends_count_in_ipv6_as_well(
    socket_in: Socket, run_in: Run, reconcile: Reconcile
) -> None:
    node = str(node6(IPv4Address(ADDRESS["n2"])))
    await reconcile(CLUSTER)
    run_in("n2", "nft", MAPPED_RULES)
    try:
        listener = socket_in("b2", family=socket.AF_INET6)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("::", PORT))
        listener.listen()
        with pytest.raises(OSError, match="Permission denied"):  # as ICMPv6 says it
            socket_in("d1", family=socket.AF_INET6).connect((node, 8080))

        await reconcile(CLUSTER.changed([TO_DATABASE]))

        socket_in("d1", family=socket.AF_INET6).connect((node, 8080))
        listener.accept()[0].close()
    finally:
        run_in("n2", "nft", "delete table inet mapped")
