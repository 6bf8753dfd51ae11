"""How soon 2,000 simulated agents with 10,000 tasks are back after the leader is killed."""

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path

from claim import Bound, Figure
from daemons import fleet_of, next_report

from phalanx.labs.ensemble import Ensemble

AGENTS = 2000
TASKS = 5  # on each agent
NET = IPv4Address("127.201.7.0")
FLAGS = ("--agent_ping_timeout=60secs",)
MEBIBYTE = 1024 * 1024


def measure() -> Sequence[Figure]:
    """Kill the leader of two masters; three ZooKeeper servers, one process of agents."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ensemble = stack.enter_context(Ensemble(place, NET, masters=2, flags=FLAGS))
        tasks = ("--tasks", str(TASKS), "--framework", "held-0000")
        began = time.monotonic()
        agents = stack.enter_context(fleet_of(AGENTS, list(map(str, ensemble.hosts)), *tasks))
        registered = time.monotonic() - began
        old = ensemble.await_leader()
        killed = time.monotonic()
        ensemble.kill(old)
        report = next_report(agents)
        new = ensemble.await_leader()
        elected = moment_of_election(ensemble.log(new)) - (time.time() - time.monotonic())
        memory = peak_bytes(ensemble.pid(new)) / MEBIBYTE
    seconds, most = "s", Bound.OURS_AT_MOST
    return [
        Figure(f"{AGENTS:,} agents register for the first time", seconds, registered, most, 20.0),
        Figure("kill -9 to the next leader", seconds, elected - killed, most, 1.0),
        Figure("election to the first agent", seconds, report["first"] - elected, most, 3.0),
        Figure("election to half of them", seconds, report["half"] - elected, most, 7.0),
        Figure("election to all of them", seconds, report["all"] - elected, most, 10.0),
        Figure("memory of the new leader, at most", "MiB", memory, most, 1024.0),
    ]


def moment_of_election(log: str) -> float:
    """Return when a master was elected last, by the clock on the wall."""
    events = (json.loads(line) for line in log.splitlines() if '"leader_elected"' in line)
    elected = [event["timestamp"] for event in events if event["is_me"]]
    return datetime.fromisoformat(elected[-1]).timestamp()


def peak_bytes(pid: int) -> float:
    """Return the most memory that a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return float(line.split()[1]) * 1024
