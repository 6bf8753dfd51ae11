"""Several processes at one address: killed, stuck, asked all the time, and told what is new."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from dnslib import DNSRecord

from phalanx.labs.wait import wait_until

SERVE = Path(__file__).parent / "dns_workers.py"
WORKERS = 3
SECONDS = 120.0  # for what takes a second or two where nothing else runs
NAME = "web.marathon.mesos"


class Plane:
    """The first process and those it keeps."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVE), str(WORKERS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.pid = self._process.pid

    def say(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def pids(self) -> set[int]:
        return set(map(int, self.say("pids").split()))

    def metric(self, name: str) -> float:
        found = re.findall(rf"{re.escape(name)}(?:{{[^}}]*}})? ([\d.e+]+)", self.say("metrics"))
        return sum(map(float, found))

    def are_all_there(self) -> bool:
        return len(self.pids()) == WORKERS - 1

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=SECONDS)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=SECONDS)
        finally:
            self._process.kill()
            self._process.stdout.close()


@pytest.fixture
def start() -> Iterator[Callable[[], Plane]]:
    """Yield a function that starts all processes; they serve when it returns."""
    planes = []

    def started() -> Plane:
        plane = Plane()
        planes.append(plane)
        assert wait_until(plane.are_all_there, seconds=SECONDS)
        return plane

    yield started
    for plane in planes:
        plane.close()


def asked(port: int, times: int, name: str = NAME) -> list[int]:
    """Ask from as many ports, so that everybody gets some; return the numbers of addresses."""
    query = bytes(DNSRecord.question(name).pack())
    counts = []
    for number in range(times):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", port))
            sock.settimeout(SECONDS)
            sock.send(struct.pack("!H", number) + query[2:])
            reply = sock.recv(4096)
            assert reply[:2] == struct.pack("!H", number)
            counts.append(int.from_bytes(reply[6:8], "big"))
    return counts


class Asker(threading.Thread):
    """Asks one question after the other, each from a port of its own, until it is told to end."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.answered = self.unanswered = 0
        self._place = ("127.0.0.1", port)
        self._is_over = threading.Event()

    def run(self) -> None:
        query = bytes(DNSRecord.question(NAME).pack())
        while not self._is_over.is_set():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(self._place)
                sock.settimeout(5)
                try:
                    sock.send(query)
                    sock.recv(512)
                    self.answered += 1
                except OSError:
                    self.unanswered += 1

    def end(self) -> None:
        self._is_over.set()
        self.join()


def test_everybody_answers_alike_and_counts_add_up(start: Callable[[], Plane]) -> None:
    plane = start()
    before = plane.metric("phalanx_dns_replies_total")
    assert asked(plane.port, 60) == [1] * 60

    plane.say("publish 3")

    assert wait_until(lambda: asked(plane.port, 30) == [3] * 30, seconds=SECONDS)
    total = before + 60 + 30
    assert wait_until(lambda: plane.metric("phalanx_dns_replies_total") >= total, seconds=SECONDS)
    command = ["dig", "@127.0.0.1", "-p", str(plane.port), "+tcp", "+short", NAME]
    for _ in range(4):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert len(done.stdout.split()) == 3
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(OSError, match="Address already in use"),
    ):
        sock.bind(("127.0.0.1", plane.port))  # another name server is told, as ever


def test_killed_worker_costs_a_query_or_two_and_comes_back(start: Callable[[], Plane]) -> None:
    plane = start()
    assert asked(plane.port, 30) == [1] * 30
    assert wait_until(lambda: plane.metric("phalanx_dns_replies_total") >= 30, seconds=SECONDS)
    plane.say("publish 2")
    before = plane.pids()
    victim = min(before)
    asker = Asker(plane.port)
    asker.start()
    try:
        assert wait_until(lambda: asker.answered > 50, seconds=SECONDS)

        os.kill(victim, signal.SIGKILL)

        so_far = asker.answered
        assert wait_until(lambda: asker.answered > so_far + 50, seconds=SECONDS)
        assert wait_until(
            lambda: plane.are_all_there() and victim not in plane.pids(), seconds=SECONDS
        )
    finally:
        asker.end()
    assert asker.unanswered <= 2
    assert len(plane.pids() - before) == 1
    assert asked(plane.port, 60) == [2] * 60
    assert plane.metric("phalanx_dns_worker_restarts_total") == 1
    assert plane.metric("phalanx_dns_replies_total") >= 30


def test_stuck_worker_is_replaced(start: Callable[[], Plane]) -> None:
    plane = start()
    victim = min(plane.pids())

    os.kill(victim, signal.SIGSTOP)
    plane.say("silence 1")  # on a busy machine that ends workers that are well, too

    assert wait_until(lambda: victim not in plane.pids(), seconds=SECONDS)
    plane.say("silence 30")
    assert wait_until(lambda: plane.are_all_there() and victim not in plane.pids(), seconds=SECONDS)
    assert asked(plane.port, 40) == [1] * 40
    assert not Path(f"/proc/{victim}").exists()


def test_workers_end_with_their_plane(start: Callable[[], Plane]) -> None:
    plane = start()
    pids = plane.pids()

    plane.kill()

    assert wait_until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), seconds=SECONDS
    )


class Mirror(threading.Thread):
    """An upstream that asks us what we ask it."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._place = ("127.0.0.1", port)
        self.address = f"127.0.0.1:{self._sock.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self.asked = self.passed = 0

    def run(self) -> None:
        while message := self._sock.recv(4096):
            self.asked += b"example" in message
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._open.append(sock)
            sock.sendto(message, self._place)
            self.passed += 1

    def end(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self._sock.getsockname())
        self.join()
        for sock in (self._sock, *self._open):
            sock.close()


def test_upstream_that_leads_back_is_found_by_whoever_is_asked(
    start: Callable[[], Plane],
) -> None:
    plane = start()
    workers = plane.pids()
    mirror = Mirror(plane.port)
    mirror.start()
    try:
        for pid in workers:  # who wakes up is asked by the mirror before it has read of it
            os.kill(pid, signal.SIGSTOP)
        assert plane.say(f"upstreams {mirror.address}") == "rerouted"
        assert wait_until(lambda: mirror.passed > 0, seconds=SECONDS)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)

        def rcodes() -> Sequence[int]:
            query = bytes(DNSRecord.question("www.example.com").pack())
            found = []
            for _ in range(12):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.connect(("127.0.0.1", plane.port))
                    sock.settimeout(SECONDS)
                    sock.send(query)
                    found.append(sock.recv(512)[3] & 15)
            return found

        def is_left_alone() -> bool:
            before = mirror.asked
            return rcodes() == [2] * 12 and mirror.asked == before

        assert wait_until(is_left_alone, seconds=SECONDS)
        assert 'reason="loop"' in plane.say("metrics")
    finally:
        mirror.end()
