"""Three masters over a real ZooKeeper: the leader dies, the cluster goes on."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from phalanx.labs.demo.change import Visitor
from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import until
from phalanx.labs.demo.steady import CONTAINERIP, L4LB
from phalanx.labs.lab import Lab
from phalanx.labs.topology import spread


@pytest.fixture(scope="module")
def many() -> Iterator[Cluster]:
    """Yield a lab of three masters and two agents."""
    lab = Lab.up(spread(masters=3, zookeeper=True), name=f"t{uuid4().hex[:7]}", seconds=90)
    try:
        yield Cluster(lab)
    finally:
        lab.down()


def leader(cluster: Cluster) -> str:
    """Return the node of the leading master."""
    address = cluster.master("GET", "/state")["leader_info"]["hostname"]
    return next(node.name for node in cluster.lab.topology.masters if str(node.address) == address)


def test_a_killed_leader_is_followed_and_loses_nothing(many: Cluster) -> None:
    many.master("POST", "/v1/networks", {"name": "blue", "subnet": "10.128.0.0/16"})
    many.deploy("web")
    many.await_app("web", 3)
    before, first = many.instances("web"), leader(many)
    vip = many.dig("a1", L4LB)

    with Visitor(many) as visitor:
        many.lab.kill(first, "master")
        visitor.mark()
        many.lab.start(first, "master")
        many.lab.wait(seconds=60)
        visitor.settle()

    assert visitor.summary().startswith("none of")
    assert many.instances("web") == before
    assert many.dig("a1", L4LB) == vip
    assert {n["name"] for n in many.master("GET", "/v1/networks")["networks"]} == {"dcos", "blue"}


def test_the_new_leader_carries_on_with_work(many: Cluster) -> None:
    many.marathon("PUT", "/v2/apps/web", {"instances": 4})

    many.await_app("web", 4)

    until(
        lambda: "" if len(many.dig("a2", CONTAINERIP)) == 4 else None,
        seconds=10,
        what="4 names on a2",
    )
