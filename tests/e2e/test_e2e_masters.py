"""Three masters over a real ZooKeeper: the leader dies, the cluster goes on."""

import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from uuid import uuid4

import pytest

from phalanx.core.error import ConflictError, NotFoundError
from phalanx.labs.demo.change import Visitor
from phalanx.labs.demo.cluster import Cluster, Instance
from phalanx.labs.demo.proof import until
from phalanx.labs.demo.steady import CONTAINERIP, L4LB
from phalanx.labs.lab import Lab
from phalanx.labs.topology import spread

UNANSWERED = (OSError, HTTPException, NotFoundError)  # NotFoundError: any status that is an error


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


def await_unharmed(cluster: Cluster, before: list[Instance]) -> None:
    """Wait until the leader knows of all instances again, none of them started anew."""
    until(
        lambda: "" if cluster.instances("web") == before else None,
        seconds=60,
        what="the instances of before",
    )


def test_a_killed_leader_is_followed_and_loses_nothing(many: Cluster) -> None:
    many.master("POST", "/v1/networks", {"name": "blue", "subnet": "10.128.0.0/16"})
    many.deploy("web")
    many.await_app("web", 3)
    many.lab.wait()  # every node balances to them
    before, first = many.instances("web"), leader(many)
    vip = many.dig("a1", L4LB)
    networks = many.master("GET", "/v1/networks")["networks"]

    with Visitor(many) as visitor:
        many.lab.kill(first, "master")
        visitor.mark()
        many.lab.start(first, "master")
        many.lab.wait(seconds=60)
        visitor.settle()

    assert visitor.summary().startswith("none of")
    await_unharmed(many, before)
    assert many.dig("a1", L4LB) == vip
    assert {network["name"] for network in networks} == {"dcos", "dcos6", "blue"}
    assert many.master("GET", "/v1/networks")["networks"] == networks  # leases and all


def test_the_new_leader_carries_on_with_work(many: Cluster) -> None:
    many.marathon("PUT", "/v2/apps/web", {"instances": 4})

    many.await_app("web", 4)

    until(
        lambda: "" if len(many.dig("a2", CONTAINERIP)) == 4 else None,
        seconds=30,
        what="4 names on a2",
    )


def marathon_leader(cluster: Cluster) -> str:
    """Return the node of the leading Marathon, as any of them says."""
    host = cluster.marathon("GET", "/v2/leader")["leader"].partition(":")[0]
    return next(node.name for node in cluster.lab.topology.masters if str(node.address) == host)


def posted(cluster: Cluster, id: str) -> str | None:
    """Post an app; None as long as no Marathon takes it."""
    try:
        cluster.marathon(
            "POST", "/v2/apps", {"id": id, "cmd": "sleep 1000", "cpus": 0.01, "mem": 16}
        )
    except UNANSWERED as error:
        # What was stored as its answer got lost is refused as being there already.
        return "there" if "status 409" in str(error) else None
    return "taken"


def led_by_another(cluster: Cluster, old: str) -> str | None:
    with suppress(*UNANSWERED):
        return found if (found := marathon_leader(cluster)) != old else None
    return None


@pytest.mark.parametrize("how", ["killed", "abdicated"])
def test_another_marathon_takes_over_apps_and_orders(many: Cluster, how: str) -> None:
    old, before = marathon_leader(many), many.instances("web")
    if how == "killed":
        many.lab.kill(old, "marathon")
    else:
        assert many.marathon("DELETE", "/v2/leader") == {"message": "Leadership abdicated"}

    until(lambda: posted(many, f"/during-{how}"), seconds=60, what="a Marathon that takes an app")
    until(lambda: led_by_another(many, old), seconds=60, what="another Marathon to lead")
    until(lambda: started(many, old, "marathon"), seconds=60, what="the old one's end")
    many.lab.wait(seconds=60)
    assert posted(many, f"/after-{how}") == "taken"

    for name in ("during", "after"):
        many.await_app(f"{name}-{how}", 1)
    await_unharmed(many, before)


def started(cluster: Cluster, node: str, process: str) -> str | None:
    """Start a process that has ended; None while it has not."""
    with suppress(ConflictError):
        cluster.lab.start(node, process)
        return "started"
    return None


def test_a_leader_without_its_network_is_followed_and_ends(many: Cluster) -> None:
    old, before = leader(many), many.instances("web")
    failed = 0
    many.lab.partition(old)
    try:
        deadline = time.monotonic() + 60
        while leads(many, old) is None and time.monotonic() < deadline:
            failed += not many.answers("a1", f"http://{L4LB}/")
        until(lambda: posted(many, "/cut-off"), seconds=60, what="a Marathon that takes an app")
        many.await_app("cut-off", 1)
    finally:
        many.lab.heal(old)

    assert failed == 0
    await_unharmed(many, before)
    until(lambda: started(many, old, "master"), seconds=60, what="the old leader's end")
    for node in many.lab.topology.masters:  # whichever Marathon led was cut off from the others
        with suppress(ConflictError):
            many.lab.start(node.name)
    many.lab.wait(seconds=60)


def leads(cluster: Cluster, old: str) -> str | None:
    """Return who leads if it is another than *old*."""
    with suppress(*UNANSWERED, KeyError):
        return found if (found := leader(cluster)) != old else None
    return None
