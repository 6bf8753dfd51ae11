"""Requests that fail while one of 20 backends leaves, and while Marathon restarts them all."""

import sys
from collections.abc import Sequence

from claim import Bound, Figure
from lb_lab import Clients, app, clients, cluster, deployed, vip_of

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.wait import wait_until

BACKENDS = 20
RESTARTED = 6
NODES = ("m1", "a1", "a2")
AFTER_SECONDS = 2.0


def measure() -> Sequence[Figure]:
    """Load a VIP from three nodes over new and kept connections."""
    with cluster(2, "disrupt") as lab:
        deployed(lab, app("many", instances=BACKENDS))
        leaving = _leaves(lab, vip_of(lab))
        lab.marathon("PUT", "/v2/apps/many", {"instances": RESTARTED})
        lab.await_app("many", RESTARTED)
        restart = _restarted(lab, vip_of(lab))
    return [*_figures(f"1 of {BACKENDS} leaves", leaving), *_figures("rolling restart", restart)]


def _leaves(lab: Cluster, vip: str) -> Clients:
    task = lab.instances("many")[0].task_id
    with clients(lab, "load", NODES, vip) as loading:
        lab.marathon("DELETE", f"/v2/apps/many/tasks/{task}?scale=true")
        lab.await_app("many", BACKENDS - 1)
        wait_until(lambda: False, seconds=AFTER_SECONDS)
    return loading


def _restarted(lab: Cluster, vip: str) -> Clients:
    before = {instance.task_id for instance in lab.instances("many")}

    def is_done() -> bool:
        now = {instance.task_id for instance in lab.instances("many")}
        is_over = not lab.marathon("GET", "/v2/deployments")
        return is_over and len(now) == RESTARTED and not now & before

    if not wait_until(lambda: not lab.marathon("GET", "/v2/deployments"), seconds=60.0):
        raise SystemExit("the deployment before the restart does not end")
    with clients(lab, "load", NODES, vip) as loading:
        lab.marathon("POST", "/v2/apps/many/restart")
        if not wait_until(is_done, seconds=120.0, interval=0.2):
            raise SystemExit("the restart does not end")
        wait_until(lambda: False, seconds=AFTER_SECONDS)
    return loading


def _figures(what: str, loading: Clients) -> Sequence[Figure]:
    counts, reasons = loading.totals()
    for reason, number in reasons.items():
        print(f"{what}: {number} x {reason}", file=sys.stderr)
    return [
        Figure(
            f"{what}: failed of {counts.get(kind, 0):,} requests over {name} connections",
            "",
            counts.get(f"{kind} failed", 0),
            Bound.OURS_AT_MOST,
            0.0,
        )
        for kind, name in (("new", "new"), ("kept", "kept"))
    ]
