"""What 2,000 apps with 50,000 tasks at rest cost the leader, and how soon the next one leads."""

import os
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from claim import Bound, Figure
from daemons import HOST, fleet, marathon, master, zookeeper

from phalanx.labs.simulated.framework import quantile
from phalanx.labs.simulated.marathon import NO_PORTS, Client
from phalanx.labs.wait import wait_until

AGENTS = 200
APPS, EACH = 2000, 25
DEPLOY_SECONDS = 900.0
QUIET, LOOK_SECONDS, REST_SECONDS = 0.25, 2.0, 60.0
WATCHED_SECONDS = 30.0
FAILOVER_SECONDS = 60.0
COUNTS = "/v2/apps?embed=apps.counts"
ASKED = 20
MEBIBYTE = 2**20


def measure() -> Sequence[Figure]:
    """Deploy, let it rest, kill the leader, stop the next one; state and election in ZooKeeper."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(master(place / "master"))
        stack.enter_context(fleet(AGENTS, (port,)))
        hosts = stack.enter_context(zookeeper(place / "zookeeper"))
        shared = ("--zk", f"zk://{hosts}/marathon")
        leading = stack.enter_context(ExitStack())
        masters = [f"{HOST}:{port}"]
        here, pid = leading.enter_context(marathon(place / "first", masters, *shared))
        there, next_pid = stack.enter_context(marathon(place / "second", masters, *shared))
        client = Client(here)
        apps = [{"id": f"/many/app-{n}", "instances": EACH, **NO_PORTS} for n in range(APPS)]
        began = time.monotonic()
        for begin in range(0, APPS, 200):
            client.change("PUT", "/v2/apps", apps[begin : begin + 200])
        client.settle(DEPLOY_SECONDS)
        deployed = time.monotonic() - began
        # The last updates are still being acknowledged when the last task runs.
        wait_until(lambda: _share_of_a_core(pid, LOOK_SECONDS) < QUIET, seconds=REST_SECONDS)
        cpu = _share_of_a_core(pid, WATCHED_SECONDS)
        taken = [_seconds_of(here, COUNTS) for _ in range(ASKED)]
        memory, peak = _bytes_of(pid, "VmRSS") / MEBIBYTE, _bytes_of(pid, "VmHWM") / MEBIBYTE
        reason = _seconds_to_reason(here)
        began = time.monotonic()
        leading.close()  # with SIGKILL
        killed = _seconds_to_service(there, began, APPS - 1)
        last, _ = stack.enter_context(marathon(place / "third", masters, *shared))
        began = time.monotonic()
        os.kill(next_pid, signal.SIGSTOP)
        hung = _seconds_to_service(last, began, APPS - 2)
    most = Bound.OURS_AT_MOST
    return [
        Figure(f"{APPS:,} apps of {EACH} instances to running", "s", deployed, most, 300.0),
        Figure(
            f"CPU of the leader at rest, {APPS * EACH:,} tasks",
            "% of a core",
            cpu * 100,
            most,
            25.0,
        ),
        Figure("memory of the leader at rest", "MiB", memory, most, 1024.0),
        Figure("memory of the leader, at most", "MiB", peak, most, 1024.0),
        Figure(f"GET {COUNTS}, median", "ms", 1000 * quantile(taken, 0.5), most, 500.0),
        Figure("an app that fits nowhere to the reason in the queue", "s", reason, most, 1.0),
        Figure("kill -9 to the next leader's service", "s", killed, most, 3.0),
        Figure("a leader that hangs to the next one's service", "s", hung, most, 10.0),
    ]


def _seconds_to_service(port: int, began: float, app: int) -> float:
    if not wait_until(lambda: _is_in_service(port, app), seconds=FAILOVER_SECONDS):
        raise SystemExit("nobody took over")
    return time.monotonic() - began


def _is_in_service(port: int, app: int) -> bool:
    """Tell whether a Marathon leads, knows one app's tasks, and takes orders for it."""
    try:
        with urlopen(f"http://{HOST}:{port}/v2/leader", timeout=1.0) as answer:
            if f":{port}".encode() not in answer.read():
                return False
    except (URLError, OSError):
        return False
    client, path = Client(port), f"/v2/apps/many/app-{app}"
    status, answer = client.ask("GET", path)
    if status != 200 or answer["app"]["tasksRunning"] != EACH:
        return False
    return client.ask("PUT", path, {"labels": {"led": f"{port}"}})[0] in (200, 201)


def _seconds_to_reason(port: int) -> float:
    """Return how long it takes until the queue says why an app waits that no agent can hold."""
    client, began = Client(port), time.monotonic()
    client.change("POST", "/v2/apps", {**NO_PORTS, "id": "/huge", "cpus": 1e6})

    def is_said() -> bool:
        for item in client.ask("GET", "/v2/queue")[1]["queue"]:
            rows = item["processedOffersSummary"]["rejectSummaryLastOffers"]
            if any(row["reason"] == "InsufficientCpus" and row["declined"] for row in rows):
                return True
        return False

    if not wait_until(is_said, seconds=REST_SECONDS):
        raise SystemExit("nobody says why the app waits")
    taken = time.monotonic() - began
    client.change("DELETE", "/v2/apps/huge?force=true")
    return taken


def _share_of_a_core(pid: int, seconds: float) -> float:
    before, began = _cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)  # waits: the time itself is what is measured
    return (_cpu_seconds(pid) - before) / (time.monotonic() - began)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _bytes_of(pid: int, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(name))
    return float(line.split()[1]) * 1024


def _seconds_of(port: int, path: str) -> float:
    began = time.monotonic()
    with urlopen(f"http://{HOST}:{port}{path}", timeout=60.0) as answer:
        answer.read()
    return time.monotonic() - began
