"""Policies in a cluster: by label, changed while it runs, traced and checked beforehand."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phalanx.labs.demo.cluster import Cluster, Instance
from phalanx.labs.demo.proof import until

PHALANX = [sys.executable, "-Im", "phalanx.cli.main"]
SERVE = "exec python3 -m http.server 8000"


@pytest.fixture(scope="module")
def apps(cluster: Cluster) -> Iterator[Cluster]:
    """Yield the cluster with a web app on one network and a store on another, one on each node."""
    cluster.master("POST", "/v1/networks", {"name": "red", "subnet": "10.140.0.0/16"})
    for name, network in (("web", "dcos"), ("store", "red")):
        app = {
            "id": f"/{name}",
            "cmd": SERVE,
            "cpus": 0.1,
            "mem": 32,
            "instances": 2,
            "labels": {"role": name},
            "constraints": [["hostname", "UNIQUE"]],
            "networks": [{"mode": "container", "name": network}],
        }
        cluster.marathon("POST", "/v2/apps", app)
    for name in ("web", "store"):
        cluster.await_app(name, 2)
    yield cluster
    for name in ("web", "store"):
        cluster.marathon("DELETE", f"/v2/apps/{name}")


def master(cluster: Cluster, *words: str) -> str:
    room, *rest = words
    done = cluster.run_here([*PHALANX, room, "--master", cluster.lab.master_url, *rest])
    assert done.returncode == 0, done.stderr
    return done.stdout


def trace(cluster: Cluster, node: str, *words: str) -> tuple[int, str]:
    done = cluster.on(node, *PHALANX, "trace", *words)
    return done.returncode, done.stdout + done.stderr


def reaches(cluster: Cluster, source: Instance, destination: Instance) -> bool:
    return bool(cluster.curl_in(source, f"http://{destination.address}:8000/", seconds=1.0))


def await_reach(cluster: Cluster, *, is_open: bool) -> None:
    webs, stores = cluster.instances("web"), cluster.instances("store")

    def look() -> str | None:
        found = [reaches(cluster, web, store) for web in webs for store in stores]
        return "so" if all(each == is_open for each in found) else None

    until(look, seconds=10, what=f"every store is {'open' if is_open else 'shut'} to every web")


def test_a_policy_by_label_opens_and_closes_on_every_node(apps: Cluster, tmp_path: Path) -> None:
    await_reach(apps, is_open=False)
    file = tmp_path / "policies.json"
    policy = {"name": "web", "source": "role=web", "destination": "/store", "ports": "8000"}
    file.write_text(json.dumps([policy | {"reason": "the shop reads its store"}]))

    checked = json.loads(master(apps, "network", "check", "--json", str(file)))
    before = trace(apps, "a1", "/web", "/store", "8000", "--probe")
    master(apps, "policy", "apply", str(file))
    await_reach(apps, is_open=True)
    opened = trace(apps, "a1", "/web", "/store", "8000", "--probe")
    master(apps, "policy", "remove", "web")
    await_reach(apps, is_open=False)

    [effect] = checked
    assert (effect["change"], effect["source"], effect["destination"], effect["ports"]) == (
        "opens",
        "web in dcos",
        "store in red",
        "8000-8000",
    )
    assert before[0] == 1
    assert "isolated" in before[1]
    assert "it did not arrive" in before[1]
    assert opened[0] == 0, opened[1]
    assert "policy web of tier network: the shop reads its store" in opened[1]
    assert "(in the kernel)" in opened[1]
    assert "it arrived" in opened[1]
    assert "NOT" not in opened[1]


def test_a_container_reaches_declared_services_of_a_node_only(apps: Cluster) -> None:
    [web, *_] = apps.instances("web")
    node = apps.lab.node(web.node).address

    assert apps.curl_in(web, f"http://{node}:5051/version", seconds=1.0)
    assert "declared" in trace(apps, web.node, "/web", node, "5051")[1]
    assert "no service" in trace(apps, web.node, "/web", node, "22")[1]
