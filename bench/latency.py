"""How long a container takes from ACCEPT to TASK_RUNNING, and how many start a second on a node."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from claim import Bound, Figure

from phalanx.core.netns import call_in
from phalanx.labs.lab import Lab
from phalanx.labs.simulated.framework import Launcher, quantile
from phalanx.labs.topology import spread
from phalanx.labs.wait import wait_until

ALONE = 25
TOGETHER = 60
NETWORK = {"type": "MESOS", "network_infos": [{"name": "dcos"}]}
RESOURCES = {"cpus": 0.01, "mem": 32.0}


def measure() -> Sequence[Figure]:
    """Launch in a lab with one agent: real containers, each with its own address by our plugin."""
    lab = Lab.up(spread(agents=1), name="latency")
    try:
        own = _launch(lab, ALONE, per_offer=1, container=NETWORK, one_by_one=True)
        host = _launch(lab, ALONE, per_offer=1, one_by_one=True)
        many = _launch(lab, TOGETHER, per_offer=TOGETHER, container=NETWORK)
        bare = _launch(lab, TOGETHER, per_offer=TOGETHER)
    finally:
        lab.down()
    return [
        _latency("ACCEPT to TASK_RUNNING with an own address, median", own, 0.5, 0.250),
        _latency("ACCEPT to TASK_RUNNING with an own address, 90 %", own, 0.9, 0.500),
        _latency("ACCEPT to TASK_RUNNING on the agent's network, median", host, 0.5, 0.250),
        _rate("containers with an own address a second on a node", many),
        _rate("containers on the agent's network a second on a node", bare),
    ]


def _launch(lab: Lab, count: int, **how: Any) -> Launcher:  # noqa: ANN401 - the launcher's own
    """Launch tasks from the master's own network, and end them all."""
    [master] = [node for node in lab.status().nodes if node.name.startswith("m")]
    launcher = Launcher(master.address, 5050, count=count, resources=RESOURCES, **how)
    call_in(Path("/run/netns") / master.netns, lambda: asyncio.run(launcher.run()))
    if launcher.refused or len(launcher.running) != count:
        raise SystemExit(f"{len(launcher.running)} run; refused: {launcher.refused[:1]}")
    if not wait_until(lambda: not _is_busy(lab), seconds=60.0):
        raise SystemExit("the agent does not get rid of its containers")
    return launcher


def _is_busy(lab: Lab) -> bool:
    """Tell whether the agent still has containers, or what is left of them."""
    place = Path("/sys/fs/cgroup/pids/phalanx") / lab.name / "a1"
    return place.is_dir() and any(path.is_dir() for path in place.iterdir())


def _taken(launcher: Launcher) -> Mapping[str, float]:
    return {name: launcher.running[name] - at for name, at in launcher.accepted.items()}


def _latency(name: str, launcher: Launcher, part: float, goal: float) -> Figure:
    taken = list(_taken(launcher).values())
    return Figure(name, "s", quantile(taken, part), Bound.OURS_AT_MOST, goal)


def _rate(name: str, launcher: Launcher) -> Figure:
    seconds = max(launcher.running.values()) - min(launcher.accepted.values())
    return Figure(name, "1/s", len(launcher.running) / seconds, Bound.OURS_AT_LEAST, 20.0)
