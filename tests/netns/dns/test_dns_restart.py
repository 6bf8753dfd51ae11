"""A restart in the middle of queries, under a service manager that keeps sockets."""

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from dnslib import DNSRecord

from phalanx.labs.wait import wait_until

HERE = Path(__file__).parent
SECONDS = 120.0  # for what takes a second or two where nothing else runs
ALONE = (str(HERE / "dns_restart.py"),)
WITH_WORKERS = (str(HERE / "dns_workers.py"), "3")


class Manager:
    """Does for a process what systemd does with FileDescriptorStoreMax."""

    def __init__(self, place: Path, command: Sequence[str]) -> None:
        self._command = command
        self._place = str(place)
        self._inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._inbox.bind(self._place)
        self._inbox.settimeout(SECONDS)
        self.kept: dict[str, int] = {}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> int:
        """Start the process with what is kept; return its port."""
        handed = " ".join(f"{3 + n}<&{fd}" for n, fd in enumerate(self.kept.values()))
        script = f'LISTEN_PID=$$ exec "$@" {handed}'
        names = {"LISTEN_FDS": str(len(self.kept)), "LISTEN_FDNAMES": ":".join(self.kept)}
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", sys.executable, *self._command],
            env={**os.environ, **names, "NOTIFY_SOCKET": self._place},
            pass_fds=tuple(self.kept.values()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def take(self) -> None:
        """Take one socket that the process sends."""
        message, fds, _, _ = socket.recv_fds(self._inbox, 4096, 4)
        words = dict(line.split("=", 1) for line in message.decode().splitlines())
        assert words["FDSTORE"] == "1"
        [self.kept[words["FDNAME"]]] = fds

    def stop(self, *, hard: bool) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        if hard:
            process.kill()
        process.stdin.close()
        process.wait(timeout=SECONDS)
        process.stdout.close()
        self._process = None

    @property
    def workers(self) -> int:
        """Return how many processes the process has started that serve."""
        assert self._process is not None
        done = subprocess.run(
            ["pgrep", "--count", "--parent", str(self._process.pid)], capture_output=True, text=True
        )
        return int(done.stdout)

    def close(self) -> None:
        self.stop(hard=True)
        for fd in self.kept.values():
            os.close(fd)
        self._inbox.close()


class Client:
    """Asks one question after the other, as a resolver does: once more when nothing comes."""

    def __init__(self, port: int) -> None:
        self.answered = self.repeated = self.unanswered = 0
        self._place = ("127.0.0.1", port)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        query = bytes(DNSRecord.question("ready.spartan").pack())
        number = 0
        while not self._is_over.is_set():
            number = (number + 1) % 65536
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(self._place)
                sock.settimeout(SECONDS)
                self._ask(sock, struct.pack("!H", number) + query[2:])

    def _ask(self, sock: socket.socket, query: bytes) -> None:
        for turn in range(2):
            try:
                sock.send(query)
                assert sock.recv(512)[:2] == query[:2]
            except OSError:
                self.repeated += not turn
            else:
                self.answered += 1
                return
        self.unanswered += 1

    def end(self) -> None:
        self._is_over.set()
        self._thread.join()


@pytest.fixture(params=[ALONE, WITH_WORKERS], ids=["alone", "with-workers"])
def manager(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify", request.param)
    yield found
    found.close()


@pytest.mark.parametrize("hard", [False, True], ids=["stop", "kill"])
def test_restart_costs_at_most_one_query_a_retry(
    manager: Manager, request: pytest.FixtureRequest, *, hard: bool
) -> None:
    has_workers = "with-workers" in request.node.name
    port = manager.start()
    for _ in range(2):
        manager.take()
    client = Client(port)
    try:
        assert wait_until(lambda: client.answered > 100, seconds=SECONDS)
        assert wait_until(lambda: manager.workers == 2 * has_workers, seconds=SECONDS)
        manager.stop(hard=hard)

        again = manager.start()

        before = client.answered
        assert wait_until(lambda: client.answered > before + 100, seconds=SECONDS)
    finally:
        client.end()
    assert again == port
    assert (client.repeated <= 1, client.unanswered) == (True, 0)
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as stream:
        query = bytes(DNSRecord.question("ready.spartan").pack())
        stream.sendall(struct.pack("!H", len(query)) + query)
        assert stream.recv(2)
