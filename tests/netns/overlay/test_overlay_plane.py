"""Real planes on the nodes: what is changed by hand is right again at once; restarts cost nothing.

The planes have the View from their disk, for their source is nowhere; a resync
is an hour away, so what is repaired was noticed.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest

from phalanx.core.netns import call_in
from phalanx.labs.wait import wait_until
from phalanx.net.feed.record import Numbered, Position
from phalanx.net.model.objects import Network, Node, SubnetLease
from phalanx.net.model.view import View
from phalanx.plane.last_view import LastView

SECONDS = 20.0
SO_RCVBUFFORCE = 33
ADDRESS = {"n1": IPv4Address("198.18.1.1"), "n2": IPv4Address("198.18.2.2")}
VIEW = View().changed(
    [
        *(Node(address, name, agent_id=name) for name, address in ADDRESS.items()),
        Network(
            "dcos",
            IPv4Network("9.0.0.0/8"),
            24,
            1024,
            1450,
            subnet6=IPv6Network("fd01:b::/64"),
            prefix6=80,
        ),
        SubnetLease(
            "dcos", ADDRESS["n1"], IPv4Network("9.0.1.0/24"), IPv6Network("fd01:b:0:0:1::/80")
        ),
        SubnetLease(
            "dcos", ADDRESS["n2"], IPv4Network("9.0.2.0/24"), IPv6Network("fd01:b:0:0:2::/80")
        ),
    ]
)

Run = Callable[..., str]


class Planes:
    """A plane on each node, each a process in its namespace."""

    def __init__(self, directory: Path, cluster: Mapping[str, str]) -> None:
        self._directory = directory
        self._cluster = cluster
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for short in ADDRESS:
            numbered = Numbered(Position("e", 1), VIEW)
            LastView(directory / short / "view.json").save(numbered)

    def start(self, short: str) -> None:
        place = self._directory / short
        with (place / "log").open("ab") as log:
            self._running[short] = subprocess.Popen(
                [
                    "ip", "netns", "exec", self._cluster[short],
                    sys.executable, "-m", "phalanx.cli.main", "plane",
                    f"--ip={ADDRESS[short]}", "--source=http://127.0.0.1:1", "--resync=3600",
                    f"--state-dir={place}", f"--socket={place}/plane.sock",
                    f"--cni-socket={place}/cni.sock", "--upstreams=", "--lb=nftables",
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(place)},
            )  # fmt: skip

    def kill(self, short: str) -> None:
        process = self._running.pop(short)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for short in list(self._running):
            self.kill(short)

    def applied(self, short: str) -> int:
        """Return the number of the View that every table of a plane holds, 0 for none."""
        try:
            with socket.socket(socket.AF_UNIX) as asker:
                asker.connect(str(self._directory / short / "plane.sock"))
                asker.sendall(b"GET /v1/status HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: asker.recv(65536), b""))
            return int(json.loads(answer.partition(b"\r\n\r\n")[2])["applied"])
        except (OSError, ValueError, KeyError):
            return 0

    def await_applied(self, short: str) -> None:
        assert wait_until(lambda: self.applied(short) == 1, seconds=SECONDS), self.log(short)

    def log(self, short: str) -> str:
        return (self._directory / short / "log").read_text()


@pytest.fixture(scope="module")
def planes(
    cluster: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Planes]:
    made = Planes(tmp_path_factory.mktemp("planes"), cluster)
    try:
        for short in ADDRESS:
            made.start(short)
        for short in ADDRESS:
            made.await_applied(short)
        yield made
    finally:
        made.stop()


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
        "from 9.0.0.0/8 lookup 122",
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


def test_underlay_that_lost_its_address_and_its_mtu_is_noticed_when_it_is_back(
    planes: Planes, run_in: Run
) -> None:
    run_in("n1", "ip", "address", "delete", "198.18.1.1/24", "dev", "eth0")
    run_in("n1", "ip", "link", "set", "eth0", "mtu", "1400")
    run_in("n1", "ip", "address", "add", "198.18.1.1/24", "dev", "eth0")
    run_in("n1", "ip", "route", "add", "default", "via", "198.18.1.254")

    def is_right() -> bool:
        return "encap" in run_in("n1", "ip", "route", "show", "9.0.2.0/24") and (
            "mtu 1364" in run_in("n1", "ip", "link", "show", "phx-vxlan")
        )

    assert wait_until(is_right, seconds=SECONDS), planes.log("n1")
    run_in("n1", "ip", "link", "set", "eth0", "mtu", "1500")


class Stream:
    """Numbered datagrams from one container to another, a thousand a second."""

    def __init__(self, cluster: Mapping[str, str], source: str, target: str, to: str) -> None:
        def bound(short: str) -> socket.socket:
            family = socket.AF_INET6 if ":" in to else socket.AF_INET
            netns = Path("/run/netns", cluster[short])
            made = call_in(netns, lambda: socket.socket(family, socket.SOCK_DGRAM))
            made.bind(("", 0))
            made.settimeout(5)
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)  # all of the test
            return made

        self._sender, self._receiver = bound(source), bound(target)
        self._to = (to, self._receiver.getsockname()[1])
        self._ended = threading.Event()
        self._sent = 0
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        while not self._ended.wait(0.001):
            self._sender.sendto(self._sent.to_bytes(4, "big"), self._to)
            self._sent += 1

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.close()

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()

    def read_until(self, number: int) -> list[int]:
        """Return all numbers up to *number*, in the order in which they came."""
        seen = [int.from_bytes(self._receiver.recv(4), "big")]
        while seen[-1] < number:
            seen.append(int.from_bytes(self._receiver.recv(4), "big"))
        return seen

    @property
    def sent(self) -> int:
        return self._sent


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
