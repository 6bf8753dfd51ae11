"""From a healthy task, a killed one, a dead node to what the VIP does on every node of a lab."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from claim import Bound, Figure
from lb_lab import Clients, app, clients, cluster, deployed, healthy_at, removed, vip_of

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.simulated.framework import quantile
from phalanx.labs.wait import wait_until

AGENTS = 4
NODES = ("m1", *(f"a{number}" for number in range(1, AGENTS + 1)))
ROUNDS = 20
SPREAD = [["hostname", "UNIQUE"]]
WATCH_SECONDS = 8.0
ANSWER_SECONDS = 20.0

Probes = Sequence[tuple[float, float, str]]


def measure() -> Sequence[Figure]:
    """Start and kill tasks while every node asks the VIP all the time; then cut a node's power."""
    with cluster(AGENTS, "converge") as lab:
        up, down = _comes_and_goes(lab)
        dead = _dies(lab)
    return [
        _figure("healthy to the VIP answering, every node, median", quantile(up, 0.5), 0.15),
        _figure("the same, 99 %", quantile(up, 0.99), 0.5),
        _figure("killed to the last new connection, median", quantile(down, 0.5), 0.5),
        _figure("the same, 99 %", quantile(down, 0.99), 0.5),
        _figure("a node's power fails to drained everywhere", dead, 4.0),
    ]


def _figure(name: str, seconds: float, goal: float) -> Figure:
    return Figure(name, "s", seconds, Bound.OURS_AT_MOST, goal)


def _comes_and_goes(lab: Cluster) -> tuple[list[float], list[float]]:
    """Return the seconds from each task's health to its answer, and from its kill to its last."""
    deployed(lab, app("first"))
    vip = vip_of(lab)
    lab.marathon("DELETE", "/v2/apps/first")
    removed(lab, "first")
    healthy: dict[str, float] = {}
    killed: dict[str, float] = {}
    with clients(lab, "probe", NODES, vip) as probing:
        for number in range(ROUNDS):
            name = f"round-{number}"
            deployed(lab, app(name))
            task, at = healthy_at(lab, name)
            healthy[task] = at
            _answers_everywhere(task, probing)
            killed[task] = time.time()
            lab.marathon("DELETE", f"/v2/apps/{name}")
            removed(lab, name)
    probes = probing.probes()
    up, down = [], []
    for task, at in healthy.items():
        for found in probes.values():
            begun = [(began, ended) for began, ended, who in found if who == task]
            up.append(max(begun[0][1] - at, 0.0))
            down.append(max(begun[-1][0] - killed[task], 0.0))
    return up, down


def _answers_everywhere(task: str, probing: Clients) -> None:
    """Wait until every node had an answer of *task*: one killed before would never give it."""
    outputs = probing.outputs
    seen = {node: path.open() for node, path in outputs.items()}
    waiting = set(outputs)

    def is_done() -> bool:
        waiting.difference_update([node for node in waiting if task in seen[node].read()])
        return not waiting

    try:
        if not wait_until(is_done, seconds=ANSWER_SECONDS):
            raise SystemExit(f"{task} never answered on {', '.join(sorted(waiting))}")
    finally:
        for file in seen.values():
            file.close()


def _have_begun(outputs: Iterable[Path]) -> bool:
    return all(path.stat().st_size for path in outputs)


def _dies(lab: Cluster) -> float:
    """Return the seconds from a node's last moment to the last connection that went there."""
    deployed(lab, app("all", instances=AGENTS, constraints=SPREAD))
    vip, lost = vip_of(lab), NODES[-1]
    with clients(lab, "probe", NODES[:-1], vip) as probing:
        if not wait_until(lambda: _have_begun(probing.outputs.values()), seconds=10.0):
            raise SystemExit("the clients do not begin")
        at = time.time()
        lab.lab.kill(lost)
        wait_until(lambda: False, seconds=WATCH_SECONDS)
    failed = [
        began - at
        for found in probing.probes().values()
        for began, _, who in found
        if who == "-" and began >= at
    ]
    return max(failed, default=0.0)
