"""What 2,000 apps with 50,000 tasks at rest cost the leader, and how soon the next one serves."""

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from claim import Bound, Figure
from daemons import HOST, fleet_of, marathon

from phalanx.labs.ensemble import Ensemble
from phalanx.labs.simulated.framework import quantile
from phalanx.labs.simulated.marathon import NO_PORTS, Client
from phalanx.labs.wait import wait_until

AGENTS = 200
APPS, EACH = 2000, 25
NET = IPv4Address("127.201.9.0")
SESSION_MILLISECONDS = 6000
WATCHED_SECONDS = 30.0
COUNTS = "/v2/apps?embed=apps.counts"
ASKED = 20


def measure() -> Sequence[Figure]:
    """Deploy, let it rest, then kill the leader of two Marathons that meet in ZooKeeper."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ensemble = stack.enter_context(Ensemble(place / "zk", NET, masters=1))
        zk = str(ensemble.zookeeper).replace("/mesos", "/marathon")
        masters = list(map(str, ensemble.hosts))
        stack.enter_context(fleet_of(AGENTS, masters))
        flags = ("--zk", zk, "--zk-session-timeout", str(SESSION_MILLISECONDS))
        first, pid = stack.enter_context(marathon(place / "one", masters, *flags))
        second, _ = stack.enter_context(marathon(place / "two", masters, *flags))
        client = Client(first)
        apps = [{"id": f"/many/app-{n}", "instances": EACH, **NO_PORTS} for n in range(APPS)]
        for begin in range(0, APPS, 200):
            client.change("PUT", "/v2/apps", apps[begin : begin + 200])
        client.settle(600.0)
        cpu = _share_of_a_core(pid)
        taken = [_seconds_of(first, COUNTS) for _ in range(ASKED)]
        memory = _resident_bytes(pid) / 2**20
        os.killpg(pid, 9)
        began = time.monotonic()
        if not wait_until(lambda: _serves(second), seconds=120.0):
            raise SystemExit("no other Marathon serves")
        failover = time.monotonic() - began
    most = Bound.OURS_AT_MOST
    tasks = f"{APPS:,} apps, {APPS * EACH:,} tasks"
    return [
        Figure(f"CPU of the leader at rest, {tasks}", "% of a core", cpu * 100, most, 25.0),
        Figure("memory of the leader", "MiB", memory, most, 1024.0),
        Figure(f"GET {COUNTS}, median", "ms", 1000 * quantile(taken, 0.5), most, 500.0),
        Figure("kill -9 of the leader to the next one's service", "s", failover, most, 10.0),
    ]


def _share_of_a_core(pid: int) -> float:
    before, began = _cpu_seconds(pid), time.monotonic()
    time.sleep(WATCHED_SECONDS)
    return (_cpu_seconds(pid) - before) / (time.monotonic() - began)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _seconds_of(port: int, path: str) -> float:
    began = time.monotonic()
    with urlopen(f"http://{HOST}:{port}{path}", timeout=60.0) as answer:
        answer.read()
    return time.monotonic() - began


def _serves(port: int) -> bool:
    """Tell whether the Marathon at *port* answers as the leader, and knows every app."""
    try:
        with urlopen(f"http://{HOST}:{port}/v2/leader", timeout=2.0) as answer:
            return f"{HOST}:{port}".encode() in answer.read()
    except (URLError, OSError):
        return False
