"""Name servers to measure, ours and others', and dnsperf to measure them with."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemons import HOST, START_SECONDS, free_port, running

from phalanx.labs.wait import wait_until

ANY_CPU = f"0-{(os.cpu_count() or 1) - 1}"
SERVER_CPU, CLIENT_CPU = ("0", "1") if (os.cpu_count() or 1) > 1 else ("0", "0")
ZONE = "marathon.mesos"


@dataclass(frozen=True, slots=True)
class Measured:
    """What dnsperf saw."""

    per_second: float
    answered: int
    lost: int
    latencies: Sequence[float]  # in seconds, sorted; only where each query was asked about

    def quantile(self, part: float) -> float:
        """Return the latency in seconds within which *part* of the answers came."""
        last = len(self.latencies) - 1
        return self.latencies[min(last, int(part * len(self.latencies)))]


@dataclass(frozen=True, slots=True)
class Resolver:
    """A running name server."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """Return the CPU time that it and its workers have used."""
        workers = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(map(_cpu_seconds, (self.pid, *map(int, workers))))


@contextmanager
def ours(
    apps: int, *upstreams: int, rate: int = 0, workers: int = 1, cpu: str = SERVER_CPU
) -> Iterator[Resolver]:
    """Run our server with *apps* names; yield it when it serves."""
    script = str(Path(__file__).with_name("nameserver.py"))
    servers = [f"{HOST}:{port}" for port in upstreams]
    pinned = _pinned(cpu)
    numbers = map(str, (apps, rate, workers))
    with running([*pinned, sys.executable, script, *numbers, *servers]) as process:
        assert process.stdout is not None
        yield Resolver(process.pid, int(process.stdout.readline()))


@contextmanager
def dnsmasq(apps: int, *upstreams: int, races: bool = False) -> Iterator[Resolver]:
    """Run dnsmasq with the same names; if it *races*, it asks all upstreams, as we do."""
    port = free_port()
    command = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
        f"--port={port}", f"--listen-address={HOST}", "--bind-interfaces", "--pid-file=",
        "--user=root", "--local=/mesos/", "--local-ttl=5", "--dns-forward-max=1000",
        *(["--all-servers"] if races else ()),
        *(f"--server={HOST}#{each}" for each in upstreams),
        *(f"--host-record={name},{address}" for name, address in _names(apps)),
    ]  # fmt: skip
    with running([*_pinned(SERVER_CPU), *command]) as process:
        _await(port)
        yield Resolver(process.pid, port)


@contextmanager
def unbound(directory: Path, apps: int = 0, *, cpu: str = SERVER_CPU) -> Iterator[Resolver]:
    """Run unbound with the same names, and an address for any name below ``example``."""
    port = free_port()
    lines = [
        "server:", " do-daemonize: no", " num-threads: 1", ' username: ""', ' chroot: ""',
        ' pidfile: ""', f' directory: "{directory}"', f" interface: {HOST}@{port}",
        " use-syslog: no",
        " verbosity: 0", ' module-config: "iterator"', ' local-zone: "mesos." static',
        ' local-zone: "example." redirect', ' local-data: "example. 60 IN A 192.0.2.1"',
        *(f' local-data: "{name}. 5 IN A {address}"' for name, address in _names(apps)),
    ]  # fmt: skip
    config = directory / f"unbound-{port}.conf"
    config.write_text("\n".join(lines) + "\n")
    with running([*_pinned(cpu), "unbound", "-d", "-c", str(config)]) as process:
        _await(port)
        yield Resolver(process.pid, port)


def write_queries(path: Path, names: Iterable[str]) -> Path:
    """Write a file of A queries for dnsperf."""
    path.write_text("".join(f"{name} A\n" for name in names))
    return path


def app_names(apps: int) -> Iterator[str]:
    """Return the names that all servers have."""
    return (name for name, _ in _names(apps))


def dnsperf(
    port: int,
    queries: Path,
    *,
    seconds: int,
    per_second: int = 0,
    at_once: int = 50,
    source: str = HOST,
    niceness: int = 0,
    ports: int = 1,
    cpu: str = CLIENT_CPU,
) -> Measured:
    """Ask for some seconds, as fast as answers come, or *per_second* and with latencies.

    The questions come from as many *ports*.
    """
    command = [
        *_pinned(cpu), "nice", "-n", str(niceness),
        "dnsperf", "-c", str(ports), "-s", HOST, "-p", str(port), "-d", str(queries),
        "-l", str(seconds), "-q", str(at_once), "-a", source, "-t", "1",
        *(("-v", "-Q", str(per_second)) if per_second else ()),
    ]  # fmt: skip
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    latencies = re.findall(r"^> NOERROR .* ([\d.]+)$", text, re.MULTILINE)
    return Measured(
        _number(text, r"Queries per second:\s+([\d.]+)"),
        int(_number(text, r"Queries completed:\s+(\d+)")),
        int(_number(text, r"Queries lost:\s+(\d+)")),
        sorted(map(float, latencies)),
    )


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"dnsperf said nothing of {pattern}")
    return float(found[1])


def _names(apps: int) -> Iterator[tuple[str, str]]:
    return ((f"app-{n}.{ZONE}", f"9.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(apps))


def _pinned(cpu: str) -> Sequence[str]:
    return ("taskset", "-c", cpu)


def _await(port: int) -> None:
    probe = ["dig", f"@{HOST}", "-p", str(port), "+tries=1", "+timeout=1", "app-0.marathon.mesos"]

    def is_up() -> bool:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0

    if not wait_until(is_up, seconds=START_SECONDS):
        raise SystemExit("a name server does not come up")
