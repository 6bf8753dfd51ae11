"""A rolling upgrade of 100 instances: how few of them ever run, looked at every 10 ms."""

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from claim import Bound, Figure
from daemons import HOST, fleet, marathon, master

from phalanx.labs.simulated.marathon import NO_PORTS, Client

AGENTS = 20
INSTANCES = 100
LOOK_SECONDS = 0.01
STRATEGIES = ((1.0, 1.0), (1.0, 0.0), (0.8, 0.2), (0.5, 0.0))
MOST_SECONDS = 300.0


def measure() -> Sequence[Figure]:
    """Upgrade once with each strategy; one master, one Marathon, one process of agents."""
    figures = []
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(master(place / "master"))
        stack.enter_context(fleet(AGENTS, (port,)))
        here, _ = stack.enter_context(marathon(place / "marathon", [f"{HOST}:{port}"]))
        client = Client(here)
        app: dict[str, Any] = {"id": "/web", "instances": INSTANCES, **NO_PORTS}
        client.change("POST", "/v2/apps", app)
        client.settle(MOST_SECONDS)
        for number, (least, over) in enumerate(STRATEGIES):
            strategy = {"minimumHealthCapacity": least, "maximumOverCapacity": over}
            change = {"upgradeStrategy": strategy, "env": {"TURN": str(number)}}
            with _Watch(here) as watch:
                began = time.monotonic()
                client.change("PUT", "/v2/apps/web", change)
                client.settle(MOST_SECONDS)
                seconds = time.monotonic() - began
            told = f"capacity {least:g} to {1 + over:g}"
            figures += [
                Figure(
                    f"fewest running, {told} ({len(watch.running)} looks, {seconds:.1f} s)",
                    "tasks",
                    min(watch.running),
                    Bound.OURS_AT_LEAST,
                    INSTANCES * least,
                ),
                Figure(
                    f"most tasks, {told}",
                    "tasks",
                    max(watch.present),
                    Bound.OURS_AT_MOST,
                    # With no room either way one more is borrowed.
                    max(INSTANCES * (1 + over), INSTANCES + (1 if (least, over) == (1, 0) else 0)),
                ),
            ]
    return figures


class _Watch:
    """Looks at the tasks of the app all the while: how many run, and how many there are."""

    def __init__(self, port: int) -> None:
        self.running: list[int] = []
        self.present: list[int] = []
        self._client = Client(port)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            _, answer = self._client.ask("GET", "/v2/apps/web/tasks")
            states = Counter(task["state"] for task in answer["tasks"])
            self.running.append(states["TASK_RUNNING"])
            self.present.append(sum(states.values()))
