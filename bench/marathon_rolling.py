"""A rolling upgrade of 100 instances: how few of them are ever healthy, looked at every 10 ms."""

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from claim import Bound, Figure
from daemons import HOST, fleet, marathon, master

from phalanx.labs.simulated.marathon import NO_PORTS, Client

AGENTS = 20
INSTANCES = 100
LOOK_SECONDS = 0.01
LOOK_AT_ALL_SECONDS = 0.1
CHECK = {"protocol": "MESOS_HTTP", "path": "/", "port": 80, "gracePeriodSeconds": 30}
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
        app: dict[str, Any] = {"id": "/web", "instances": INSTANCES, "healthChecks": [CHECK]}
        client.change("POST", "/v2/apps", {**app, **NO_PORTS})
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
            apart = 1000 * median(later - sooner for sooner, later in pairwise(watch.at))
            looks = f"{seconds:.1f} s, looks {apart:.1f} ms apart"
            figures += [
                Figure(
                    f"fewest healthy, {told} ({looks})",
                    "tasks",
                    min(watch.healthy),
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
    """Looks at the app all the while: how many tasks are healthy, and how many there are."""

    def __init__(self, port: int) -> None:
        self.at: list[float] = []
        self.healthy: list[int] = []
        self.present: list[int] = []
        self._port = port
        self._over = threading.Event()
        looks = ((LOOK_SECONDS, self._look), (LOOK_AT_ALL_SECONDS, self._look_at_all))
        self._threads = [threading.Thread(target=self._every, args=look) for look in looks]

    def __enter__(self) -> "_Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _every(self, seconds: float, look: Callable[[Client], None]) -> None:
        client, due = Client(self._port), time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + seconds, time.monotonic())
            look(client)

    def _look(self, client: Client) -> None:
        self.at.append(time.monotonic())
        self.healthy.append(client.ask("GET", "/v2/apps/web")[1]["app"]["tasksHealthy"])

    def _look_at_all(self, client: Client) -> None:
        self.present.append(len(client.ask("GET", "/v2/apps/web/tasks")[1]["tasks"]))
