"""A lab with an app behind a VIP, for benchmarks, and clients on its nodes."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.lab import Lab
from phalanx.labs.topology import spread
from phalanx.labs.wait import wait_until

PORT = 80
CLIENT = Path(__file__).with_name("lb_client.py")


@contextmanager
def cluster(agents: int, name: str) -> Iterator[Cluster]:
    """Run a lab of one master and *agents* agents."""
    lab = Lab.up(spread(agents=agents), name=name)
    try:
        yield Cluster(lab)
    finally:
        lab.down()


def app(name: str, *, instances: int = 1, **more: object) -> dict[str, Any]:
    """Return an app whose instances answer with their task's id behind the VIP ``/web:80``."""
    server = "exec python3 -m http.server --protocol HTTP/1.1 80"
    labels = {"VIP_0": f"/web:{PORT}"}
    return {
        "id": f"/{name}",
        "cmd": f'echo "$MESOS_TASK_ID" > index.html && {server}',
        "instances": instances,
        "cpus": 0.05,
        "mem": 48,
        "networks": [{"mode": "container", "name": "dcos"}],
        "container": {
            "type": "MESOS",
            "portMappings": [{"containerPort": 80, "name": "http", "labels": labels}],
        },
        "healthChecks": [
            {
                "protocol": "MESOS_TCP",
                "portIndex": 0,
                "delaySeconds": 0,
                "gracePeriodSeconds": 60,
                "intervalSeconds": 1,
                "timeoutSeconds": 5,
                "maxConsecutiveFailures": 10,
            }
        ],
        "backoffSeconds": 0.1,
        **more,
    }


def deployed(cluster: Cluster, definition: Mapping[str, Any], *, seconds: float = 120.0) -> None:
    """Post an app and wait until all of it is healthy."""
    cluster.marathon("POST", "/v2/apps", definition)
    cluster.await_app(str(definition["id"]).strip("/"), definition["instances"], seconds=seconds)


def removed(cluster: Cluster, name: str, *, seconds: float = 60.0) -> None:
    """Wait until nothing of an app runs."""
    if not wait_until(lambda: not cluster.instances(name), seconds=seconds):
        raise SystemExit(f"{name} does not end")


def vip_of(cluster: Cluster) -> str:
    """Return the address of the VIP ``/web``, known to every node."""
    name = "web.marathon.l4lb.thisdcos.directory"
    if not wait_until(lambda: bool(cluster.dig("m1", name)), seconds=20.0):
        raise SystemExit(f"{name} has no address")
    return cluster.dig("m1", name)[0]


def healthy_at(cluster: Cluster, app: str) -> tuple[str, float]:
    """Return the id of an app's only task and when it was first told to be healthy."""
    for framework in cluster.master("GET", "/state")["frameworks"]:
        for task in framework["tasks"]:
            if task["name"] == app:
                times = [each["timestamp"] for each in task["statuses"] if each.get("healthy")]
                if times:
                    return task["id"], min(times)
    raise SystemExit(f"{app} is not healthy")


@contextmanager
def clients(cluster: Cluster, mode: str, nodes: Sequence[str], vip: str) -> Iterator["Clients"]:
    """Run a client on each node; their output is whole once this is left."""
    running = Clients()
    with ExitStack() as stack:
        for node in nodes:
            command = [sys.executable, "-I", str(CLIENT), mode, vip, str(PORT)]
            output = stack.enter_context((cluster.lab.directory / f"client-{node}").open("w+"))
            process = subprocess.Popen(cluster.lab.node(node).command(command), stdout=output)
            running.outputs[node] = Path(output.name)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield running
    running.end()


class Clients:
    """What clients said, by node."""

    def __init__(self) -> None:
        self.outputs: dict[str, Path] = {}
        self.said: dict[str, str] = {}

    def end(self) -> None:
        """Keep what they said: the lab's directory goes with the lab."""
        self.said = {node: path.read_text() for node, path in self.outputs.items()}

    def probes(self) -> Mapping[str, Sequence[tuple[float, float, str]]]:
        """Return for each node's probes when they began and ended, and who answered."""
        return {
            node: [
                (float(words[0]), float(words[1]), words[2])
                for line in text.splitlines()
                if len(words := line.split()) == 3
            ]
            for node, text in self.said.items()
        }

    def totals(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the counts of all loads, and the reasons of what failed."""
        counts: dict[str, int] = {}
        reasons: dict[str, int] = {}
        for text in self.said.values():
            found = json.loads(text)
            for sums, part in ((counts, found["counts"]), (reasons, found["reasons"])):
                for name, number in part.items():
                    sums[name] = sums.get(name, 0) + number
        return counts, reasons
