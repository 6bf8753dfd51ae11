"""Memory and CPU of each daemon at rest, with 50 containers on one agent."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from claim import Bound, Figure

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.lab import Lab
from phalanx.labs.topology import spread

CONTAINERS = 50
SETTLE_SECONDS = 60.0
REST_SECONDS = 35.0  # long enough for one resync of the plane
APP = {
    "id": "/idle",
    "cmd": "exec sleep 1d",
    "instances": CONTAINERS,
    "cpus": 0.01,
    "mem": 32,
    "networks": [{"mode": "container", "name": "dcos"}],
    "container": {"type": "MESOS", "portMappings": []},
}


def measure() -> Sequence[Figure]:
    """Start a lab with one agent, fill it, let it rest, read /proc."""
    lab = Lab.up(spread(agents=1), name="bench")
    try:
        cluster = Cluster(lab)
        cluster.marathon("POST", "/v2/apps", APP)
        cluster.await_app("idle", CONTAINERS, seconds=120.0)
        return _figures(_daemons(lab))
    finally:
        lab.down()


def _daemons(lab: Lab) -> Mapping[str, int]:
    return {
        f"{process.name} on {node.name}": process.pid
        for node in lab.status().nodes
        for process in node.processes
        if process.pid is not None
    }


def _figures(daemons: Mapping[str, int]) -> Sequence[Figure]:
    _settle(daemons)
    before = {name: _cpu_seconds(pid) for name, pid in daemons.items()}
    began = time.monotonic()
    time.sleep(REST_SECONDS)  # waits: the time at rest is what is measured
    rested = time.monotonic() - began
    percent = {
        name: (_cpu_seconds(pid) - before[name]) / rested * 100 for name, pid in daemons.items()
    }
    memory = [
        Figure(f"memory of {name}", "MiB", _memory(pid), Bound.OURS_AT_MOST, 80.0)
        for name, pid in daemons.items()
    ]
    node = sum(value for name, value in percent.items() if name.endswith(" on a1"))
    return [
        *memory,
        Figure("CPU of plane and agent on a1", "% of a core", node, Bound.OURS_AT_MOST, 1.0),
    ]


def _settle(daemons: Mapping[str, int]) -> None:
    """Wait until two looks a second apart differ by less than 5 %; a minute at most.

    Whoever never comes to rest is measured as it is, and misses the goal.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        before = sum(map(_cpu_seconds, daemons.values()))
        time.sleep(1.0)  # waits: between two looks
        if sum(map(_cpu_seconds, daemons.values())) - before < 0.05:
            return


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> float:
    """Return the resident memory of a process, MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024
