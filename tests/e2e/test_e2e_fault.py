"""Whatever dies, names and VIPs go on, and nothing is lost."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from phalanx.labs.demo.change import Visitor
from phalanx.labs.demo.cluster import Cluster, Instance
from phalanx.labs.demo.proof import until
from phalanx.labs.demo.steady import CONTAINERIP, L4LB


@pytest.fixture(scope="module", autouse=True)
def web(cluster: Cluster) -> None:
    """Run the app ``web`` for all tests of this module."""
    cluster.deploy("web")
    cluster.await_app("web", 3)


@pytest.fixture
def before(cluster: Cluster) -> Iterator[list[Instance]]:
    """Yield web's instances; after the test the same ones must run, none relaunched."""
    cluster.await_app("web", 3)
    cluster.lab.wait()  # every node balances to them
    instances = cluster.instances("web")
    yield instances
    cluster.lab.wait(seconds=60)
    until(
        lambda: "" if cluster.instances("web") == instances else None,
        seconds=30,
        what=f"the same instances: {instances}",
    )
    assert len(cluster.curl("m1", f"http://{L4LB}/", times=20)) == 20


def logged(cluster: Cluster, node: str, event: str) -> list[dict[str, Any]]:
    """Return what a node's plane has logged of one event."""
    log = cluster.lab.node(node).directory / "log" / "plane.log"
    whole, _, _ = log.read_text().rpartition("\n")  # the last line may be half written
    lines = [json.loads(line) for line in whole.split("\n") if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def test_a_killed_master_is_not_missed_by_names_and_vips(
    cluster: Cluster, before: list[Instance]
) -> None:
    with Visitor(cluster) as visitor:
        cluster.lab.kill("m1", "master")
        visitor.mark()
        assert len(cluster.dig("a1", CONTAINERIP)) == 3
        visitor.settle(quiet=4.0, seconds=30)  # longer than a suspicion takes
        cluster.lab.start("m1", "master")

    assert visitor.summary().startswith("none of")


def test_policies_and_networks_survive_a_master(cluster: Cluster, before: list[Instance]) -> None:
    cluster.master("POST", "/v1/networks", {"name": "kept", "subnet": "10.200.0.0/16"})
    body = {"name": "kept", "source": "dcos", "destination": "kept", "protocol": "tcp"}
    cluster.master("POST", "/v1/policies", {**body, "ports": "80"})
    cluster.lab.kill("m1", "master")
    cluster.lab.start("m1", "master")
    cluster.lab.wait(seconds=60)

    networks = cluster.master("GET", "/v1/networks")["networks"]
    policies = cluster.master("GET", "/v1/policies")["policies"]

    assert {network["name"] for network in networks} == {"dcos", "dcos6", "kept"}
    assert [policy["name"] for policy in policies] == ["kept"]
    cluster.master("DELETE", "/v1/policies/kept")
    cluster.master("DELETE", "/v1/networks/kept")


@pytest.mark.parametrize("node", ["m1", "a1"])
def test_a_killed_plane_breaks_no_connection_and_changes_nothing_on_its_way_back(
    cluster: Cluster, before: list[Instance], node: str
) -> None:
    with Visitor(cluster) as visitor:
        until(lambda: "" if visitor.asked else None, seconds=30, what="first request")
        address = f"http://{cluster.dig(node, L4LB)[0]}/"
        cluster.lab.kill(node, "plane")

        assert len(cluster.curl(node, address, times=20)) == 20

        done = len(logged(cluster, node, "reconciled"))
        cluster.lab.start(node, "plane")
        cluster.lab.wait(seconds=30)

    changes = logged(cluster, node, "reconciled")[done:]
    touched = {line["table"] for line in changes if line["removals"]}
    assert touched == set()
    # The rules of these tables are made anew once, in one transaction, by each new plane.
    assert {line["table"] for line in changes} <= {
        *("phalanx_isolation", "phalanx_nat", "phalanx_overlay", "phalanx_lb_traffic")
    }


ECHO = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(9):
            self.request.sendall(data)
socketserver.ThreadingTCPServer(("", 7), Echo).serve_forever()
"""
# Says a word every few milliseconds over one connection until somebody ends it.
TALK = """
import select, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with socket.create_connection((sys.argv[1], 7)) as opened:
    opened.settimeout(5)
    for said in range(10**9):
        opened.sendall(b"x")
        if opened.recv(1) != b"x":
            sys.exit("closed")
        print(said, flush=True)
        select.select([], [], [], 0.005)
"""


def test_a_killed_plane_interrupts_no_open_connection_to_a_vip(
    cluster: Cluster, before: list[Instance], tmp_path: Path
) -> None:
    labels = {"VIP_0": "/echo:7"}
    echo = {
        **{"id": "/echo", "cmd": f"exec python3 -c '{ECHO}'", "cpus": 0.1, "mem": 32},
        **{"instances": 2, "constraints": [["hostname", "UNIQUE"]]},
        "networks": [{"mode": "container", "name": "dcos"}],
        "container": {"type": "MESOS", "portMappings": [{"containerPort": 7, "labels": labels}]},
        "healthChecks": [{"protocol": "MESOS_TCP", "delaySeconds": 0, "intervalSeconds": 1}],
    }
    cluster.marathon("POST", "/v2/apps", echo)
    cluster.await_app("echo", 2)
    name = "echo.marathon.l4lb.thisdcos.directory"
    until(lambda: " ".join(cluster.dig("a1", name)) or None, seconds=30, what=name)
    [address] = cluster.dig("a1", name)
    connect = "import socket, sys; socket.create_connection((sys.argv[1], 7), 5)"
    python = (sys.executable, "-Ic", connect)
    until(
        lambda: None if cluster.on("a1", *python, address).returncode else "",
        seconds=30,
        what=f"{address} takes connections",
    )
    words = [tmp_path / f"said-{number}" for number in range(4)]

    def grow() -> None:
        sizes = [path.stat().st_size for path in words]
        until(
            lambda: (
                "" if all(p.stat().st_size > n for p, n in zip(words, sizes, strict=True)) else None
            ),
            seconds=30,
            what="all talk on",
        )

    with ExitStack() as stack:
        talkers = []
        for path in words:
            command = cluster.lab.node("a1").command([sys.executable, "-Ic", TALK, address])
            talker = subprocess.Popen(command, stdout=stack.enter_context(path.open("w")))
            stack.callback(talker.wait)
            stack.callback(talker.terminate)
            talkers.append(talker)
        grow()
        cluster.lab.kill("a1", "plane")
        grow()
        cluster.lab.start("a1", "plane")
        cluster.lab.wait(seconds=30)
        grow()

        assert [talker.poll() for talker in talkers] == [None] * len(talkers)
    assert [talker.returncode for talker in talkers] == [0] * len(talkers)
    cluster.marathon("DELETE", "/v2/apps/echo")


def test_a_killed_agent_loses_no_exit_status(cluster: Cluster) -> None:
    cluster.await_app("web", 3)
    victim = next(each for each in cluster.instances("web") if each.node == "a1")
    cluster.lab.kill("a1", "agent")

    cluster.runc(victim, "kill", victim.container_id, "KILL")
    cluster.lab.start("a1", "agent")

    until(
        lambda: "" if victim not in (now := cluster.instances("web")) and len(now) == 3 else None,
        seconds=60,
        what="the dead container is replaced",
    )
    failures = cluster.marathon("GET", "/v2/apps/web?embed=app.failures")["app"]
    assert failures["lastTaskFailure"]["taskId"] == victim.task_id
    cluster.await_app("web", 3)


def test_a_killed_marathon_finishes_what_it_began_and_launches_nothing_twice(
    cluster: Cluster, before: list[Instance]
) -> None:
    cluster.marathon("PUT", "/v2/apps/web", {"instances": 5})
    cluster.lab.kill("m1", "marathon")
    cluster.lab.start("m1", "marathon")
    cluster.lab.wait(seconds=60)
    cluster.await_app("web", 5)

    assert set(before) <= set(cluster.instances("web"))
    state = cluster.master("GET", "/state")
    [framework] = [f for f in state["frameworks"] if f["name"] == "marathon"]
    launched = [task for task in framework["tasks"] if task["name"] == "web"]
    assert len(launched) == 5

    await_deployments(cluster)
    for instance in set(cluster.instances("web")) - set(before):
        cluster.marathon("DELETE", f"/v2/apps/web/tasks/{instance.task_id}?scale=true")
        await_deployments(cluster)


def await_deployments(cluster: Cluster) -> None:
    """Wait until Marathon deploys nothing, and would refuse nothing for what it deploys."""
    until(
        lambda: "" if not cluster.marathon("GET", "/v2/deployments") else None,
        seconds=60,
        what="the end of the deployments",
    )


def test_a_partitioned_agent_is_drained_and_welcome_back(
    cluster: Cluster, before: list[Instance]
) -> None:
    away = {instance.address for instance in before if instance.node == "a2"}
    cluster.lab.partition("a2")
    until(
        lambda: "" if not away & set(cluster.dig("m1", CONTAINERIP)) else None,
        seconds=30,
        what="names without a2",
    )
    cluster.lab.heal("a2")
    until(
        lambda: "" if len(cluster.dig("m1", CONTAINERIP)) == 3 else None,
        seconds=30,
        what="names with a2 again",
    )


def test_drift_in_the_kernel_is_repaired_by_a_restart_of_the_plane(
    cluster: Cluster, before: list[Instance]
) -> None:
    for command in (
        ["nft", "flush", "table", "inet", "phalanx_lb"],
        ["nft", "delete", "table", "inet", "phalanx_isolation"],
        ["ip", "route", "flush", "proto", "122", "table", "main"],
        ["ip", "link", "delete", "phx-vxlan"],
    ):
        assert cluster.on("a1", *command).returncode == 0, command
    cluster.lab.kill("a1", "plane")
    cluster.lab.start("a1", "plane")
    cluster.lab.wait(seconds=30)

    remote = next(instance for instance in before if instance.node == "a2")
    assert cluster.curl("a1", f"http://{remote.address}/") == [remote.task_id]
    assert len(cluster.curl("a1", f"http://{L4LB}/", times=20)) == 20


def test_nothing_is_written_beside_the_lab(cluster: Cluster) -> None:
    state = Path("/var/lib/phalanx")

    assert not state.exists() or not any(state.iterdir())


@pytest.mark.parametrize("table", ["phalanx_isolation", "phalanx_lb", "phalanx_nat"])
def test_a_table_deleted_by_hand_is_noticed_and_comes_back(
    cluster: Cluster, before: list[Instance], table: str
) -> None:
    node = before[0].node
    noticed = len(logged(cluster, node, "drift_noticed"))

    assert cluster.on(node, "nft", "delete", "table", "inet", table).returncode == 0

    until(
        lambda: cluster.on(node, "nft", "list", "table", "inet", table).stdout or None,
        seconds=60,
        what=table,
    )
    until(
        lambda: "" if len(logged(cluster, node, "drift_noticed")) > noticed else None,
        seconds=30,
        what="the notice",
    )
