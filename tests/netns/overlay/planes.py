"""Real planes on two nodes of the cluster in conftest.py, and packets between their containers."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

from phalanx.core.netns import call_in
from phalanx.labs.wait import wait_until
from phalanx.net.feed.record import Numbered, Position
from phalanx.net.model.objects import Network, Node, SubnetLease
from phalanx.net.model.view import View
from phalanx.plane.last_view import LastView

SECONDS = 120.0  # on a machine with much other work
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


@contextmanager
def running_planes(directory: Path, cluster: Mapping[str, str]) -> Iterator[Planes]:
    """Yield a plane on each node that holds the View."""
    made = Planes(directory, cluster)
    try:
        for short in ADDRESS:
            made.start(short)
        for short in ADDRESS:
            made.await_applied(short)
        yield made
    finally:
        made.stop()


class Stream:
    """Numbered datagrams from one container to another, a thousand a second."""

    def __init__(self, cluster: Mapping[str, str], source: str, target: str, to: str) -> None:
        def bound(short: str) -> socket.socket:
            family = socket.AF_INET6 if ":" in to else socket.AF_INET
            netns = Path("/run/netns", cluster[short])
            made = call_in(netns, lambda: socket.socket(family, socket.SOCK_DGRAM))
            made.bind(("", 0))
            made.settimeout(60)
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
