"""How soon one app of 10,000 instances runs, and 1,000 of 5, and how REST answers meanwhile."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from claim import Bound, Figure
from daemons import HOST, fleet, marathon, master

from phalanx.labs.simulated.framework import quantile
from phalanx.labs.simulated.marathon import NO_PORTS, Client, asking

AGENTS = 100
INSTANCES = 10_000
APPS, EACH = 1000, 5
MOST_SECONDS = 60.0
PATHS = ("/v2/apps?embed=apps.counts", "/v2/deployments", "/v2/queue", "/v2/info", "/v2/groups")


def measure() -> Sequence[Figure]:
    """Deploy on simulated agents: one master, one Marathon, one process of agents, this one."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(master(place / "master"))
        stack.enter_context(fleet(AGENTS, (port,)))
        here, _ = stack.enter_context(marathon(place / "marathon", [f"{HOST}:{port}"]))
        client = Client(here)
        with asking(here, PATHS) as one_app:
            began = time.monotonic()
            client.change("POST", "/v2/apps", {"id": "/big", "instances": INSTANCES, **NO_PORTS})
            client.settle(MOST_SECONDS * 5)
            big = time.monotonic() - began
        client.change("DELETE", "/v2/apps/big")
        client.settle(MOST_SECONDS * 5)
        with asking(here, PATHS) as many_apps:
            began = time.monotonic()
            for number in range(APPS):
                app = {"id": f"/many/app-{number}", "instances": EACH, **NO_PORTS}
                client.change("POST", "/v2/apps", app)
            client.settle(MOST_SECONDS * 5)
            many = time.monotonic() - began
    most = Bound.OURS_AT_MOST
    return [
        Figure(f"one app of {INSTANCES:,} instances to running", "s", big, most, MOST_SECONDS),
        Figure("REST meanwhile, 99 %", "ms", 1000 * quantile(one_app, 0.99), most, 200.0),
        Figure(f"{APPS:,} apps of {EACH} instances to running", "s", many, most, MOST_SECONDS),
        Figure("REST meanwhile, 99 %", "ms", 1000 * quantile(many_apps, 0.99), most, 200.0),
    ]
