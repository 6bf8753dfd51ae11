"""What befalls a plane's names from outside: a full disk, an address and a file taken away."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phalanx.labs.wait import wait_until

FEED = Path(__file__).parent / "dns_feed.py"
THEIRS = "# of another program\nsearch example.com\nnameserver 192.0.2.7\n"
OURS = ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
SECONDS = 120.0  # for what takes a second or two where nothing else runs


class Node:
    """A namespace with a plane and the feed that it follows."""

    def __init__(self, ns: str, directory: Path) -> None:
        self.resolv_conf = directory / "resolv.conf"
        self.resolv_conf.write_text(THEIRS)
        self.state = directory / "state"
        self.state.mkdir()
        self._ns = ns
        self._directory = directory
        self._plane: subprocess.Popen[bytes] | None = None
        self._feed = subprocess.Popen(
            ["ip", "netns", "exec", ns, sys.executable, str(FEED)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self) -> None:
        place = self._directory
        with (place / "log").open("ab") as log:
            self._plane = subprocess.Popen(
                [
                    "ip", "netns", "exec", self._ns,
                    sys.executable, "-m", "phalanx.cli.main", "plane",
                    "--ip=198.18.0.2", "--source=http://127.0.0.1:62081", "--lb=nftables",
                    "--feed-port=0", "--dns-transfer=198.51.100.0/24",
                    f"--state-dir={self.state}", f"--socket={place}/plane.sock",
                    f"--cni-socket={place}/cni.sock", f"--upstreams={self.resolv_conf}",
                    f"--resolv-conf={self.resolv_conf}",
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(place)},
            )  # fmt: skip

    def end(self, number: int) -> None:
        plane, self._plane = self._plane, None
        if plane is not None:
            plane.send_signal(number)
            plane.wait(timeout=SECONDS)

    def tell(self, number: int) -> None:
        """Send the plane a signal."""
        assert self._plane is not None
        self._plane.send_signal(number)

    def tell_feed(self, number: int) -> None:
        """Send a signal to whom the plane follows."""
        self._feed.send_signal(number)

    def close(self) -> None:
        self.tell_feed(signal.SIGCONT)
        self.end(signal.SIGKILL)
        assert self._feed.stdin is not None
        assert self._feed.stdout is not None
        self._feed.stdin.close()
        self._feed.wait(timeout=SECONDS)
        self._feed.stdout.close()

    def publish(self, count: int) -> None:
        assert self._feed.stdin is not None
        assert self._feed.stdout is not None
        self._feed.stdin.write(f"{count}\n")
        self._feed.stdin.flush()
        assert self._feed.stdout.readline() == "published\n"

    def ip(self, *words: str) -> None:
        subprocess.run(["ip", "-n", self._ns, *words], check=True)

    def dig(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "ip",
                "netns",
                "exec",
                self._ns,
                "dig",
                "@198.51.100.1",
                "+tries=1",
                "+timeout=60",
                *words,
            ],
            capture_output=True,
            text=True,
        )

    def addresses(self, name: str) -> int:
        """Return how many addresses the resolver knows of *name*, 0 also when it is silent."""
        done = self.dig("+short", "+timeout=1", name)
        return 0 if done.returncode else len(done.stdout.split())

    def knows(self, count: int) -> bool:
        return wait_until(lambda: self.addresses("web.marathon.mesos") == count, seconds=SECONDS)

    def write(self, text: str) -> None:
        """Replace the resolv.conf at once: in between the plane might write, and be lost."""
        new = self._directory / "resolv.conf.theirs"
        new.write_text(text)
        new.replace(self.resolv_conf)

    def servers(self) -> list[str]:
        lines = (line.split() for line in self.resolv_conf.read_text().splitlines())
        return [words[1] for words in lines if words[:1] == ["nameserver"]]

    def log(self) -> str:
        return (self._directory / "log").read_text()


@pytest.fixture
def node(ns: str, tmp_path: Path) -> Iterator[Node]:
    """Yield a node whose plane knows of three tasks."""
    made = Node(ns, tmp_path)
    try:
        made.publish(3)
        made.start()
        assert made.knows(3), made.log()
        yield made
    finally:
        made.close()


def test_names_follow_the_cluster_while_the_disk_is_full(ns: str, tmp_path: Path) -> None:
    made = Node(ns, tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", made.state], check=True)
    try:
        made.publish(2)
        made.start()
        assert made.knows(2), made.log()
        with pytest.raises(OSError, match="No space"):
            (made.state / "filler").write_bytes(bytes(1 << 20))
        for count in (40, 41):  # more than fits into what is left of a page
            made.publish(count)
            assert made.knows(count), made.log()
        assert wait_until(lambda: "last_view_not_saved" in made.log(), seconds=SECONDS)

        made.end(signal.SIGKILL)
        made.start()  # a disk that is full keeps nobody from starting

        assert made.knows(41), made.log()
    finally:
        made.close()
        subprocess.run(["umount", made.state], check=True)


def test_an_address_that_is_taken_away_comes_back(node: Node) -> None:
    for _ in range(3):
        node.ip("address", "delete", "198.51.100.1/32", "dev", "lo")

        assert node.knows(3), node.log()

    assert "listener_not_restarted" not in node.log()


def test_another_programs_resolv_conf_is_followed_and_given_back(node: Node) -> None:
    assert wait_until(lambda: node.servers() == OURS, seconds=SECONDS), node.log()
    theirs = THEIRS.replace("192.0.2.7", "192.0.2.8")
    node.write(theirs)

    assert wait_until(lambda: node.servers() == OURS, seconds=SECONDS), node.log()
    assert "# upstream 192.0.2.8:53" in node.resolv_conf.read_text().splitlines()

    node.end(signal.SIGTERM)
    assert node.resolv_conf.read_text() == theirs


def test_a_killed_plane_leaves_resolv_conf_to_the_next(node: Node) -> None:
    assert wait_until(lambda: node.servers() == OURS, seconds=SECONDS), node.log()
    node.end(signal.SIGKILL)
    assert node.servers() == OURS

    node.start()
    assert node.knows(3), node.log()
    node.end(signal.SIGTERM)

    assert node.resolv_conf.read_text() == THEIRS


def test_a_whole_zone_goes_to_whom_it_may_go(node: Node) -> None:
    whole = node.dig("mesos", "AXFR", "+noall", "+answer", "+onesoa").stdout.split("\n")
    others = node.dig("mesos", "AXFR", "-b", "127.0.0.1")

    records = {tuple(line.split()[::4]) for line in whole if line}
    assert {("web.marathon.mesos.", f"9.0.0.{n}") for n in (1, 2, 3)} <= records
    assert [line.split()[3] for line in whole if line].count("SOA") == 1
    assert "Transfer failed" in others.stdout
    assert "web.marathon" not in others.stdout


def test_dig_and_the_resolver_know_each_other_by_cookies(node: Node) -> None:
    first = node.dig("web.marathon.mesos").stdout
    [cookie] = [line.split()[2] for line in first.splitlines() if line.startswith("; COOKIE:")]

    again = node.dig("web.marathon.mesos", f"+cookie={cookie}").stdout

    assert f"; COOKIE: {cookie} (good)" in again
