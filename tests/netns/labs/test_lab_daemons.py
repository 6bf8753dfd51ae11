"""Labs of the real daemons: up, reached from this machine, hurt, healed, gone."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from phalanx.labs.lab import Lab
from phalanx.labs.topology import spread
from phalanx.labs.wait import wait_until

Traces = Callable[[str], dict[str, list[str]]]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


def leader(lab: Lab) -> str:
    """Return the leader's address as it says itself, through the relay; empty without one."""
    try:
        return str(get(f"{lab.master_url}/state")["leader"])
    except (OSError, urllib.error.URLError, ValueError):
        return ""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    """Yield a lab of one master and two agents, for all tests here that leave it whole."""
    lab = Lab.up(name=f"t{uuid4().hex[:7]}")
    try:
        yield lab
    finally:
        lab.down()


def test_every_process_of_a_fresh_lab_runs(cluster: Lab) -> None:
    running = {
        node.name: [process.name for process in node.processes if process.state == "running"]
        for node in cluster.status().nodes
    }

    assert running == {
        "m1": ["master", "plane", "marathon"],
        "a1": ["plane", "agent"],
        "a2": ["plane", "agent"],
        "c1": [],
    }


def test_master_and_marathon_are_reached_from_this_machine(cluster: Lab) -> None:
    slaves = get(f"{cluster.master_url}/slaves")["slaves"]
    info = get(f"{cluster.marathon_url}/v2/info")

    assert sorted(slave["hostname"] for slave in slaves) == ["a1", "a2"]
    assert info["frameworkId"]


def test_names_are_answered_on_every_node_through_its_own_resolver(cluster: Lab) -> None:
    answers = {
        node: cluster.node(node).run(["dig", "+short", "leader.mesos"]).stdout.strip()
        for node in ("m1", "a1", "a2")
    }

    assert set(answers.values()) == {cluster.node("m1").address}


def test_agent_that_was_killed_and_started_is_registered_again(cluster: Lab) -> None:
    cluster.kill("a1", "agent")
    cluster.kill("a1", "plane")

    assert cluster.start("a1") == ["plane", "agent"]

    cluster.wait(seconds=60)


def test_node_that_lost_its_power_comes_back(cluster: Lab) -> None:
    cluster.kill("a2")
    assert cluster.start("a2") == ["plane", "agent"]

    cluster.wait(seconds=60)


def test_partitioned_node_becomes_suspect_and_returns(cluster: Lab) -> None:
    def suspect() -> bool:
        done = cluster.node("m1").run(["curl", "-s", "http://m1:5050/v1/feed?once=yes"])
        said = re.findall(r'"hostname":"a1".*?"liveness":"(\w+)"', done.stdout)
        return bool(said) and said[-1] == "suspect"

    cluster.partition("a1")
    try:
        assert wait_until(suspect, seconds=60)
    finally:
        cluster.heal("a1")

    assert wait_until(lambda: not suspect(), seconds=60)


def test_down_leaves_nothing(name: str, traces: Traces) -> None:
    Lab.up(name=name).down()

    assert not any(traces(name).values())


def test_relay_follows_the_leader_when_its_node_loses_power(name: str) -> None:
    lab = Lab.up(spread(masters=3, agents=1, zookeeper=True), name=name, seconds=90)
    try:
        before = leader(lab)
        [node] = [n.name for n in lab.status().nodes if f"{n.address}:" in before]

        lab.kill(node)

        assert wait_until(lambda: leader(lab) not in ("", before), seconds=60, interval=0.2)
    finally:
        lab.down()
