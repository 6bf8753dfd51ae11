"""What 2,000 apps with 50,000 tasks at rest cost the leader, and how soon the next one serves."""

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

from claim import Bound, Figure
from daemons import HOST, fleet, marathon, master

from phalanx.labs.simulated.framework import quantile
from phalanx.labs.simulated.marathon import NO_PORTS, Client

AGENTS = 200
APPS, EACH = 2000, 25
WATCHED_SECONDS = 30.0
COUNTS = "/v2/apps?embed=apps.counts"
ASKED = 20


def measure() -> Sequence[Figure]:
    """Deploy, let it rest, then kill Marathon and start it again on the same state."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(master(place / "master"))
        stack.enter_context(fleet(AGENTS, (port,)))
        masters = [f"{HOST}:{port}"]
        with marathon(place / "marathon", masters) as (here, pid):
            client = Client(here)
            apps = [{"id": f"/many/app-{n}", "instances": EACH, **NO_PORTS} for n in range(APPS)]
            for begin in range(0, APPS, 200):
                client.change("PUT", "/v2/apps", apps[begin : begin + 200])
            client.settle(900.0)
            cpu = _share_of_a_core(pid)
            taken = [_seconds_of(here, COUNTS) for _ in range(ASKED)]
            memory = _resident_bytes(pid) / 2**20
        began = time.monotonic()
        with marathon(place / "marathon", masters) as (again, _):
            # It answers no earlier than it knows every app and every task.
            if not Client(again).ask("GET", "/v2/apps/many/app-0")[1]["app"]["tasksRunning"]:
                raise SystemExit("the tasks are forgotten")
            failover = time.monotonic() - began
    most = Bound.OURS_AT_MOST
    tasks = f"{APPS:,} apps, {APPS * EACH:,} tasks"
    return [
        Figure(f"CPU of the leader at rest, {tasks}", "% of a core", cpu * 100, most, 25.0),
        Figure("memory of the leader", "MiB", memory, most, 1024.0),
        Figure(f"GET {COUNTS}, median", "ms", 1000 * quantile(taken, 0.5), most, 500.0),
        Figure("start on the state of a killed leader to service", "s", failover, most, 10.0),
    ]


def _share_of_a_core(pid: int) -> float:
    before, began = _cpu_seconds(pid), time.monotonic()
    time.sleep(WATCHED_SECONDS)  # waits: the time at rest is what is measured
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
