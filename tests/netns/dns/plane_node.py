"""A namespace with a real plane and a feed that a test writes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

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
