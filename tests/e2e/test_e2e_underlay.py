"""Agents that are away for long, and one whose node gets another address: subnets and packets."""

import json
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address

import pytest

from phalanx.labs.demo.cluster import Cluster, Instance
from phalanx.labs.demo.proof import until

MOVED = IPv4Address("198.18.1.177")


@pytest.fixture
def resident(cluster: Cluster) -> Iterator[Instance]:
    """Yield a container on a2 that is waited for when its agent is away, not replaced."""
    app = {
        "id": "/resident",
        "cmd": "exec python3 -m http.server 80 --bind ::",
        "cpus": 0.1,
        "mem": 32,
        "constraints": [["hostname", "LIKE", "a2"]],
        "networks": [{"mode": "container", "name": "dcos"}],
        "unreachableStrategy": {"inactiveAfterSeconds": 600, "expungeAfterSeconds": 1200},
    }
    cluster.marathon("POST", "/v2/apps", app)
    cluster.await_app("resident", 1)
    [instance] = cluster.instances("resident")
    await_answer(cluster, instance)
    yield instance
    cluster.marathon("DELETE", "/v2/apps/resident")
    until(
        lambda: "" if not cluster.marathon("GET", "/v2/deployments") else None,
        seconds=60,
        what="the end of the app",
    )


def await_answer(cluster: Cluster, instance: Instance) -> None:
    """Wait until the container answers another node: by its routes, through the tunnel."""
    until(
        lambda: "answered" if cluster.curl("a1", f"http://{instance.address}/") else None,
        seconds=30,
        what=f"{instance.address} answers a1",
    )


def leases(cluster: Cluster) -> Mapping[str, str]:
    """Return the node of each leased subnet; no two may have one."""
    networks = cluster.master("GET", "/v1/networks")["networks"]
    found = [
        (lease[field], lease["node"])
        for network in networks
        for lease in network["leases"]
        for field in ("subnet", "subnet6")
        if lease[field] is not None
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def unreachable_agents(cluster: Cluster) -> int:
    counts: Mapping[str, int] = cluster.master("GET", "/metrics/snapshot")
    return int(counts["master/slaves_unreachable"])


def tunnelled_to(cluster: Cluster, node: str, address: IPv4Address) -> int:
    """Return how many routes of a node lead through the tunnel to *address*."""
    listed = cluster.on(node, "sh", "-c", "for f in 4 6; do ip -$f route show table all; done")
    return sum(f"dst {address} " in line for line in listed.stdout.splitlines())


def senders(cluster: Cluster, node: str) -> set[str]:
    listed = cluster.on(node, "nft", "-j", "list", "set", "inet", "phalanx_overlay", "nodes")
    [found] = [item["set"] for item in json.loads(listed.stdout)["nftables"] if "set" in item]
    return set(found["elem"])


def test_agent_that_was_given_up_is_back_with_its_subnets_and_its_container(
    cluster: Cluster, resident: Instance
) -> None:
    before = leases(cluster)
    cluster.lab.partition("a2")
    until(lambda: "" if unreachable_agents(cluster) else None, seconds=60, what="a2 is given up")
    # Meanwhile somebody else wants subnets.
    cluster.master("POST", "/v1/networks", {"name": "meanwhile", "subnet": "10.77.0.0/16"})
    assert before.items() <= leases(cluster).items()

    cluster.lab.heal("a2")
    cluster.lab.wait(seconds=60)

    assert before.items() <= leases(cluster).items()
    await_answer(cluster, resident)
    assert cluster.instances("resident") == [resident]
    cluster.master("DELETE", "/v1/networks/meanwhile")


def test_node_with_another_address_keeps_its_subnets_and_others_follow(
    cluster: Cluster, resident: Instance
) -> None:
    before, old = leases(cluster), IPv4Address(cluster.lab.node("a2").address)
    routes = tunnelled_to(cluster, "a1", old)
    assert routes

    cluster.lab.readdress("a2", MOVED)
    for name in ("agent", "plane"):
        cluster.lab.kill("a2", name)
        cluster.lab.start("a2", name)
    cluster.lab.wait(seconds=60)

    moved = {subnet: str(MOVED) if node == str(old) else node for subnet, node in before.items()}
    assert leases(cluster) == moved
    until(
        lambda: (
            ""
            if tunnelled_to(cluster, "a1", MOVED) == routes
            and not tunnelled_to(cluster, "a1", old)
            and {str(MOVED), str(old)} & senders(cluster, "a1") == {str(MOVED)}
            else None
        ),
        seconds=30,
        what=f"{routes} routes to {MOVED} and none to {old}, nor packets from there",
    )
    await_answer(cluster, resident)
    assert cluster.instances("resident") == [resident]
