"""VIPs as their users see them: labels in every place, clients in every place, and why."""

import json
import sys
from collections import Counter
from functools import partial
from subprocess import CompletedProcess
from typing import Any

import pytest

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import until

PHALANX = [sys.executable, "-Im", "phalanx.cli.main"]
ZONE = "marathon.l4lb.thisdcos.directory"
SERVE = 'echo "$MESOS_TASK_ID" > index.html && exec python3 -m http.server'
SMALL: dict[str, Any] = {"cpus": 0.1, "mem": 32, "backoffSeconds": 0.5}
CHECK: dict[str, Any] = {
    **{"protocol": "MESOS_HTTP", "portIndex": 0, "delaySeconds": 0, "gracePeriodSeconds": 30},
    **{"intervalSeconds": 1, "timeoutSeconds": 5, "maxConsecutiveFailures": 1000},
}
NODES = ("m1", "a1", "a2")
GATEWAY = "198.18.0.1"  # of m1 and a1
NAMES = ("web", "six", "old", "bridged", "mapped", "pod", "legacy", "203.0.113.7", "fd01:f::7")


def app(name: str, cmd: str, instances: int, **fields: object) -> dict[str, Any]:
    return {**SMALL, "id": f"/{name}", "cmd": cmd, "instances": instances, **fields}


def on_network(name: str, network: str, labels: dict[str, str], port: int = 80) -> dict[str, Any]:
    mapping = {"containerPort": port, "name": "http", "labels": labels}
    return app(
        name,
        f"{SERVE} {port} --bind ::",
        2,
        networks=[{"mode": "container", "name": network}],
        container={"type": "MESOS", "portMappings": [mapping]},
        healthChecks=[{**CHECK, "path": "/index.html"}],
    )


def on_hosts(name: str, port_labels: dict[str, str], **fields: object) -> dict[str, Any]:
    ports = [{"port": 0, "name": "http", "labels": port_labels}]
    return app(name, f"{SERVE} $PORT0", 2, portDefinitions=ports, **fields)


APPS = [
    on_network("web", "dcos", {"VIP_0": "/web:8080", "LB_SCHEDULER": "mh"}),
    on_network("six", "dcos6", {"VIP_http": "six:80", "VIP_own": "[fd01:f::7]:80"}),
    on_hosts(
        "old",
        {
            **{"vip_a": "/old:80", "vip_b": "nonsense", "VIP_0": "203.0.113.7:80"},
            **{"VIP_1": f"{GATEWAY}:81", "LB_WEIGHT": "x"},
        },
        labels={"VIP_PORT0": "tcp://legacy:80"},
        healthChecks=[{**CHECK, "path": "/index.html"}],
    ),
]


MAPPING: dict[str, Any] = {"containerPort": 80, "hostPort": 0, "name": "http"}
BRIDGED = app(
    "bridged",
    f"{SERVE} 80",
    2,
    networks=[{"mode": "container/bridge"}],
    container={"type": "MESOS", "portMappings": [{**MAPPING, "labels": {"VIP_0": "bridged:80"}}]},
    constraints=[["hostname", "UNIQUE"]],
)
APPS.append(BRIDGED)
# On a network of the cluster, with a port of its node beside.
MAPPED = on_network("mapped", "dcos", {"VIP_0": "mapped:81"})
MAPPED["container"]["portMappings"][0]["hostPort"] = 0
MAPPED["constraints"] = [["hostname", "UNIQUE"]]
APPS.append(MAPPED)


POD: dict[str, Any] = {
    "id": "/pod",
    "scaling": {"kind": "fixed", "instances": 2},
    "networks": [{"mode": "container", "name": "dcos"}],
    "containers": [
        {
            "name": "server",
            "resources": {"cpus": 0.1, "mem": 32},
            "exec": {"command": {"shell": f"{SERVE} 80"}},
            "endpoints": [
                {
                    **{"name": "http", "containerPort": 80, "protocol": ["tcp"]},
                    "labels": {"VIP_0": "/pod:80", "LB_AFFINITY": "60"},
                }
            ],
            "healthCheck": {
                **{"http": {"endpoint": "http", "path": "/index.html"}, "intervalSeconds": 2},
                **{"timeoutSeconds": 1.9, "delaySeconds": 0, "gracePeriodSeconds": 30},
                "maxConsecutiveFailures": 1000,
            },
        }
    ],
}


@pytest.fixture(scope="module")
def apps(cluster: Cluster) -> Cluster:
    """Return the lab with the apps running and every VIP serving on every node."""
    for definition in APPS:
        cluster.marathon("POST", "/v2/apps", definition)
    cluster.marathon("POST", "/v2/pods", POD)
    for definition in APPS:
        cluster.await_app(definition["id"].strip("/"), 2)
    for node in NODES:
        for name in NAMES:
            look = partial(serving, cluster, node, name)
            until(look, seconds=30, what=f"{name} serves on {node}")
    return cluster


def phalanx_vip(cluster: Cluster, node: str, *words: str) -> CompletedProcess[str]:
    return cluster.on(node, *PHALANX, "vip", *words)


def services(cluster: Cluster, node: str, name: str) -> list[dict[str, Any]]:
    done = phalanx_vip(cluster, node, "show", name, "--json")
    found: list[dict[str, Any]] = json.loads(done.stdout)["services"] if not done.returncode else []
    return found


def serving(cluster: Cluster, node: str, name: str) -> str | None:
    found = services(cluster, node, name)
    weights = [backend["weight"] for each in found for backend in each["backends"]]
    return "2 backends" if len(weights) == 2 and all(weights) else None


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"http://six.{ZONE}/", id="ipv6"),
        pytest.param(f"http://old.{ZONE}/", id="host-network"),
        pytest.param(f"http://legacy.{ZONE}/", id="label-of-the-task"),
        pytest.param("http://203.0.113.7/", id="own-address"),
        pytest.param("http://[fd01:f::7]/", id="own-ipv6-address"),
        pytest.param(f"http://bridged.{ZONE}/", id="bridge-of-the-node"),
        pytest.param(f"http://mapped.{ZONE}:81/", id="port-of-the-node-beside"),
    ],
)
def test_nodes_reach_every_instance(apps: Cluster, node: str, url: str) -> None:
    answers = Counter(apps.curl(node, url, times=40))

    assert (len(answers), answers.total()) == (2, 40), answers


@pytest.mark.parametrize("node", NODES)
def test_nodes_reach_the_port_of_a_node_that_leads_into_a_container(
    apps: Cluster, node: str
) -> None:
    tasks = apps.marathon("GET", "/v2/apps/mapped/tasks")["tasks"]

    for task in tasks:
        host = apps.lab.node(task["host"]).address
        assert apps.curl(node, f"http://{host}:{task['ports'][0]}/") == [task["id"]]


@pytest.mark.parametrize(
    ("name", "port", "backends"),
    [("web", 8080, 1), ("six", 80, 2), ("bridged", 80, 2), ("mapped", 81, 2)],
)
def test_containers_reach_the_vip_that_they_serve(
    apps: Cluster, name: str, port: int, backends: int
) -> None:
    [vip] = services(apps, "a1", name)
    host = f"[{vip['address']}]" if ":" in vip["address"] else vip["address"]

    for instance in apps.instances(name):
        answers = apps.curl_in(instance, f"http://{host}:{port}/", times=20)

        assert (len(answers), len(set(answers))) == (20, backends)


def test_scheduler_by_label_keeps_a_client_at_its_backend(apps: Cluster) -> None:
    answers = Counter(apps.curl("a1", f"http://web.{ZONE}:8080/", times=20))

    [web] = services(apps, "a1", "web")
    assert web["scheduler"] == "mh"
    assert list(answers.values()) == [20]


def test_pod_serves_by_its_endpoint_and_keeps_its_clients(apps: Cluster) -> None:
    answers = Counter(apps.curl("a2", f"http://pod.{ZONE}/", times=20))

    [pod] = services(apps, "a2", "pod")
    assert pod["affinity_seconds"] == 60
    assert list(answers.values()) == [20]


def test_public_node_serves_clients_outside_by_a_proxy(apps: Cluster) -> None:
    node = apps.lab.node("a1")
    proxy = f"""
import asyncio
async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
async def serve(reader, writer):
    to = await asyncio.open_connection("old.{ZONE}", 80)
    await asyncio.gather(pump(reader, to[1]), pump(to[0], writer), return_exceptions=True)
async def main():
    async with await asyncio.start_server(serve, "0.0.0.0", 8000) as server:
        await server.serve_forever()
asyncio.run(main())
"""
    apps.marathon(
        "POST", "/v2/apps", app("edge", f"exec python3 -c '{proxy}'", 2, portDefinitions=[])
    )

    def look() -> str | None:
        answers = Counter(apps.curl("c1", f"http://{node.address}:8000/", times=20))
        return "both" if len(answers) == 2 and answers.total() == 20 else None

    try:
        until(look, seconds=60, what="c1 reaches both instances through a1")
    finally:
        apps.marathon("DELETE", "/v2/apps/edge")


def test_problems_of_labels_are_listed(apps: Cluster) -> None:
    shown = phalanx_vip(apps, "a1", "list", "--problems")
    problems = json.loads(phalanx_vip(apps, "a1", "list", "--problems", "--json").stdout)

    assert shown.returncode == 0, shown.stderr
    assert "vip_b=nonsense" in shown.stdout
    number = len(problems["problems"])
    assert f"labels with problems: {number}" in phalanx_vip(apps, "a1", "list").stdout
    meant = phalanx_vip(apps, "a1", "explain", "nonsense").stderr
    assert "vip_b=nonsense: VIP 'nonsense': no port" in meant
    labels = {each["label"] or each["vip"] for each in problems["problems"]}
    assert labels == {"vip_b=nonsense", "LB_WEIGHT=x", f"{GATEWAY}:81/tcp"}
    assert all(len(each["tasks"]) == 2 for each in problems["problems"])


def test_address_of_a_nodes_gateway_is_no_vip_there(apps: Cluster) -> None:
    for node in ("m1", "a1"):
        explained = phalanx_vip(apps, node, "explain", GATEWAY)

        assert explained.returncode == 1
        assert f"{GATEWAY}:81/tcp: address in use" in explained.stdout


def test_connections_are_counted_by_backend(apps: Cluster) -> None:
    def counted() -> int:
        [old] = services(apps, "a2", "old")
        assert old["connections"] == sum(each["connections"] for each in old["backends"])
        return int(old["connections"])

    before = counted()
    apps.curl("a2", f"http://old.{ZONE}/", times=10)

    assert counted() == before + 10
    metrics = apps.on("a2", "curl", "-sS", "http://127.0.0.1:62080/metrics").stdout
    assert 'phalanx_lb_connections_total{address="' in metrics
    assert 'phalanx_lb_vips{state="refusing"} 0.0' in metrics


def test_list_and_show_are_tables_for_people(apps: Cluster) -> None:
    listed = phalanx_vip(apps, "a1", "list")
    shown = phalanx_vip(apps, "a1", "show", "six")

    assert f"web.{ZONE}:8080" in listed.stdout
    assert "2/2" in listed.stdout
    assert "[fd01:b:" in shown.stdout


def test_weight_0_is_explained(apps: Cluster) -> None:
    first, second = apps.instances("web")
    name = f"web.{ZONE}:8080"
    [page] = [
        page
        for page in apps.lab.node(first.node).directory.rglob("index.html")
        if page.read_text().strip() == first.task_id
    ]
    page.unlink()

    def look() -> str | None:
        done = phalanx_vip(apps, "a2", "explain", name)
        lines = [line for line in done.stdout.splitlines() if first.task_id in line]
        return lines[0] if lines and "it fails its health check" in lines[0] else None

    line = until(look, seconds=30, what="the reason")
    other = phalanx_vip(apps, "a2", "explain", name)

    def only_second() -> str | None:
        answers = Counter(apps.curl("m1", f"http://{name}/", times=10))
        return "yes" if answers == {second.task_id: 10} else None

    until(only_second, seconds=30, what="m1 sends everybody to the second")

    assert "weight 0" in line
    assert other.returncode == 0
    assert f"weight 1  {second.task_id}" in other.stdout

    page.write_text(f"{first.task_id}\n")
    until(partial(serving, apps, "a2", "web"), seconds=30, what="both serve again")
    assert apps.instances("web") == [first, second]


def test_vip_that_nobody_declares_is_an_error(apps: Cluster) -> None:
    done = phalanx_vip(apps, "a1", "explain", "nosuch")

    assert done.returncode == 1
    assert "no task declares a VIP 'nosuch'" in done.stderr


def test_damage_on_a_node_is_repaired_at_once(apps: Cluster) -> None:
    apps.on("a1", "nft", "flush table inet phalanx_lb")

    def look() -> str | None:
        answers = apps.curl("a1", f"http://old.{ZONE}/", times=4)
        return "yes" if len(answers) == 4 else None

    # The next look at everything would come 30 s after the last.
    until(look, seconds=25, what="a1 balances again")
