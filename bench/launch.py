"""How many launches a master carries a second, from ACCEPT to running and acknowledged."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import uvloop
from claim import Bound, Figure
from daemons import fleet, master

from phalanx.labs.simulated.framework import Launcher, quantile

AGENTS = 100
TASKS = 10_000
PER_OFFER = 50
GOAL = 1000.0


def measure() -> Sequence[Figure]:
    """Launch on simulated agents: one master process, one process of agents, this one."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(master(place))
        stack.enter_context(fleet(AGENTS, (port,)))
        launcher = Launcher(
            "127.0.0.1",
            port,
            count=TASKS,
            resources={"cpus": 0.01, "mem": 16.0},
            per_offer=PER_OFFER,
        )
        uvloop.run(launcher.run())
    if launcher.refused or len(launcher.running) != TASKS:
        raise SystemExit(f"{len(launcher.running)} run; refused: {launcher.refused[:1]}")
    began = min(launcher.accepted.values())
    seconds = max(launcher.running.values()) - began
    taken = [launcher.running[id] - at for id, at in launcher.accepted.items()]
    return [
        Figure(
            f"launches a second ({TASKS:,} tasks on {AGENTS} simulated agents)",
            "tasks/s",
            TASKS / seconds,
            Bound.OURS_AT_LEAST,
            GOAL,
        ),
        Figure(
            "ACCEPT to TASK_RUNNING, median, meanwhile",
            "s",
            quantile(taken, 0.5),
            Bound.OURS_AT_MOST,
            TASKS / GOAL,
        ),
    ]
