"""A rolling upgrade of 100 instances: how few of them are ever healthy, looked at every 10 ms."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from claim import Bound, Figure
from daemons import HOST, fleet, marathon, master

from phalanx.labs.simulated.framework import quantile
from phalanx.labs.simulated.marathon import NO_PORTS, Client
from phalanx.labs.simulated.watch import Look

AGENTS = 20
INSTANCES = 100
LOOK_SECONDS = 0.01
CHECK = {"protocol": "MESOS_HTTP", "path": "/", "port": 80, "gracePeriodSeconds": 30}
STRATEGIES = ((1.0, 1.0), (1.0, 0.0), (0.8, 0.2), (0.5, 0.0))
MOST_SECONDS = 300.0


@dataclass
class Watched:
    """What was seen of an app, once nobody looks any more."""

    looks: list[Look] = field(default_factory=list)


def measure() -> Sequence[Figure]:
    """Upgrade once with each strategy; one master, one Marathon, one process of agents."""
    figures = []
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(master(place / "master"))
        stack.enter_context(fleet(AGENTS, (port,)))
        here, _ = stack.enter_context(marathon(place / "marathon", [f"{HOST}:{port}"]))
        client = Client(here)
        app: dict[str, Any] = {"id": "/web", "instances": INSTANCES, "healthChecks": [CHECK]}
        client.change("POST", "/v2/apps", {**app, **NO_PORTS})
        client.settle(MOST_SECONDS)
        for number, (least, over) in enumerate(STRATEGIES):
            strategy = {"minimumHealthCapacity": least, "maximumOverCapacity": over}
            change = {"upgradeStrategy": strategy, "env": {"TURN": str(number)}}
            with _watched(here) as watch:
                began = time.monotonic()
                client.change("PUT", "/v2/apps/web", change)
                client.settle(MOST_SECONDS)
                seconds = time.monotonic() - began
            told = f"capacity {least:g} to {1 + over:g}"
            gaps = [1000 * (later[0] - sooner[0]) for sooner, later in pairwise(watch.looks)]
            apart = f"{median(gaps):.1f} ms apart, 99 % {quantile(gaps, 0.99):.1f}"
            looks = f"{seconds:.1f} s, {len(gaps)} looks {apart}"
            figures += [
                Figure(
                    f"fewest healthy, {told} ({looks})",
                    "tasks",
                    min(healthy for _, _, healthy, _ in watch.looks),
                    Bound.OURS_AT_LEAST,
                    INSTANCES * least,
                ),
                Figure(
                    f"most tasks, {told}",
                    "tasks",
                    max(there for _, _, _, there in watch.looks),
                    Bound.OURS_AT_MOST,
                    # With no room either way one more is borrowed.
                    max(INSTANCES * (1 + over), INSTANCES + (1 if (least, over) == (1, 0) else 0)),
                ),
            ]
    return figures


@contextmanager
def _watched(port: int) -> Iterator[Watched]:
    """Look at the app all the while, from another process: what it saw is there at the end."""
    module = [sys.executable, "-Im", "phalanx.labs.simulated.watch"]
    what = ["--port", str(port), "--app", "/web", "--every", str(LOOK_SECONDS)]
    seen = Watched()
    with subprocess.Popen(
        [*module, *what], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as looker:
        try:
            yield seen
            out, _ = looker.communicate(timeout=MOST_SECONDS)
        finally:
            looker.kill()
    seen.looks = json.loads(out)
