"""Containers on networks of both families and of IPv6 alone, from the API's call to the packet."""

from collections.abc import Iterator
from typing import Any

import pytest

from phalanx.core.error import NotFoundError
from phalanx.labs.demo.cluster import Cluster, Instance
from phalanx.labs.demo.proof import until

NETWORKS: dict[str, dict[str, Any]] = {
    "both": {"subnet": "10.50.0.0/16", "prefix": 24, "subnet6": "fd01:5::/64", "prefix6": 80},
    "six": {"subnet": None, "subnet6": "fd01:6::/64", "prefix6": 80},
}
SERVER = "exec python3 -m http.server 80 --bind ::"


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """Make a network with one container on each agent; remove both afterwards."""
    name: str = request.param
    cluster.master("POST", "/v1/networks", {"name": name, **NETWORKS[name]})
    app = {
        "id": f"/{name}",
        "cmd": SERVER,
        "cpus": 0.1,
        "mem": 32,
        "instances": 2,
        "constraints": [["hostname", "UNIQUE"]],
        "networks": [{"mode": "container", "name": name}],
        "container": {
            "type": "MESOS",
            "portMappings": [{"containerPort": 80, "labels": {"VIP_0": f"/{name}:80"}}],
        },
    }
    cluster.marathon("POST", "/v2/apps", app)
    cluster.await_app(name, 2)
    yield name
    cluster.marathon("DELETE", f"/v2/apps/{name}")
    until(lambda: deleted(cluster, name), seconds=60, what=f"the end of network {name}")


def deleted(cluster: Cluster, name: str) -> str | None:
    """Delete a network; None while somebody still uses it."""
    try:
        cluster.master("DELETE", f"/v1/networks/{name}")
    except NotFoundError:
        return None
    return "gone"


def addresses(cluster: Cluster, app: str, protocol: str) -> list[str]:
    """Return what the tasks' statuses say, in order of text."""
    tasks = cluster.marathon("GET", "/v2/tasks")["tasks"]
    return sorted(
        each["ipAddress"]
        for task in tasks
        if task["appId"] == f"/{app}"
        for each in task["ipAddresses"]
        if each["protocol"] == protocol
    )


def test_addresses_are_told_named_and_reached_from_another_agent(
    cluster: Cluster, network: str
) -> None:
    four, six = (addresses(cluster, network, family) for family in ("IPv4", "IPv6"))
    expected = ["10.50.0.2", "10.50.1.2"] if network == "both" else []
    assert four == expected
    assert len(six) == 2

    name = f"{network}.marathon.containerip.dcos.thisdcos.directory"
    until(
        lambda: "yes" if cluster.dig("a1", name, "AAAA") == six else None,
        seconds=30,
        what=f"{name} has {six}",
    )
    for instance in cluster.instances(network):
        for target in (*four, *(f"[{address}]" for address in six)):
            await_answer(cluster, instance, f"http://{target}/")


def test_a_container_finds_a_vip_by_name(cluster: Cluster, network: str) -> None:
    name = f"{network}.marathon.l4lb.thisdcos.directory"

    for instance in cluster.instances(network):
        await_answer(cluster, instance, f"http://{name}/")


def await_answer(cluster: Cluster, instance: Instance, url: str) -> None:
    """Wait until a server that was just started answers a container."""
    until(
        lambda: "answered" if cluster.curl_in(instance, url) else None,
        seconds=30,
        what=f"{url} answers {instance.address}",
    )
