"""Policies in a cluster: by label, changed while it runs, traced and checked beforehand."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
        if name == "store":
            mapping = {"containerPort": 8000, "hostPort": 0, "labels": {"VIP_0": "/store:80"}}
            app["container"] = {"type": "MESOS", "portMappings": [mapping]}
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

    until(look, seconds=30, what=f"every store is {'open' if is_open else 'shut'} to every web")


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
        "8000",
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

    assert apps.curl_in(web, f"http://{node}:5051/version")
    assert "declared" in trace(apps, web.node, "/web", node, "5051")[1]
    assert "no service" in trace(apps, web.node, "/web", node, "22")[1]


def traced(cluster: Cluster, node: str, *words: str) -> Sequence[Mapping[str, Any]]:
    answer = json.loads(trace(cluster, node, *words, "--json")[1])
    found: Sequence[Mapping[str, Any]] = answer["packets"]
    return found


def looked_up(packet: Mapping[str, Any]) -> list[tuple[str, str, str, list[bool]]]:
    """Return node, hook and table of each hop, and whether the kernel there has what decides."""
    return [
        (
            hop["node"],
            hop["hook"],
            hop["table"],
            [step["in_kernel"] for step in hop["steps"] if step["element"] is not None],
        )
        for hop in packet["hops"]
    ]


def test_a_trace_asks_both_nodes_and_a_probe_is_seen_on_the_other(apps: Cluster) -> None:
    [web] = [each for each in apps.instances("web") if each.node == "a1"]
    [store] = [each for each in apps.instances("store") if each.node == "a2"]
    near, far = (apps.lab.node(name).address for name in ("a1", "a2"))
    [task] = [each for each in apps.marathon("GET", "/v2/apps/store/tasks")["tasks"]
              if each["host"] == far or each["host"] == "a2"]  # fmt: skip
    mapped = str(task["ports"][0])

    [shut] = traced(apps, "a1", web.address, store.address, "8000", "--probe")
    master(apps, "policy", "add", "web", "role=web", "role=store", "8000")
    await_reach(apps, is_open=True)
    [direct] = traced(apps, "a1", web.address, store.address, "8000", "--probe")
    by_vip = traced(apps, "a1", web.address, "store.marathon", "80")
    [by_port] = traced(apps, "a1", web.address, far, mapped, "--probe")
    master(apps, "policy", "remove", "web")
    await_reach(apps, is_open=False)
    [to_node] = traced(apps, "a1", web.address, far, "5051")

    assert (shut["allowed"], shut["probe"]["passed"]) == (False, False), shut
    walls = "inet phalanx_isolation"
    both = [(node, "forward", walls, [True, True, True]) for node in (near, far)]
    assert looked_up(direct) == both
    assert [hop["policy"] for hop in direct["hops"]] == ["web", "web"]
    assert (direct["allowed"], direct["probe"]["passed"]) == (True, True), direct
    assert {packet["destination"]["node"] for packet in by_vip} == {near, far}
    vip = (near, "prerouting", "inet phalanx_lb", [True])
    assert [looked_up(packet)[0] for packet in by_vip] == [vip, vip]
    assert looked_up(by_port)[1:] == [(far, "prerouting", "inet phalanx_cni", [True]), both[1]]
    assert (by_port["allowed"], by_port["probe"]["passed"]) == (True, True), by_port
    assert [each[:2] for each in looked_up(to_node)] == [(far, "input")]
    assert looked_up(to_node)[0][3] == [True]
