"""The commands on top of the registry's API, as an operator uses them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.wait import wait_until

PHALANX = [sys.executable, "-Im", "phalanx.cli.main"]


def phalanx(cluster: Cluster, room: str, *words: str) -> subprocess.CompletedProcess[str]:
    return cluster.run_here([*PHALANX, room, "--master", cluster.lab.master_url, *words])


def test_a_network_is_made_listed_and_deleted(cluster: Cluster) -> None:
    made = phalanx(cluster, "network", "create", "red", "10.140.0.0/16", "--prefix", "26")
    listed = phalanx(cluster, "network", "list", "--json")
    shown = phalanx(cluster, "network", "list")
    gone = phalanx(cluster, "network", "delete", "red")

    assert (made.returncode, listed.returncode, gone.returncode) == (0, 0, 0), made.stderr
    [red] = [n for n in json.loads(listed.stdout)["networks"] if n["name"] == "red"]
    assert red["prefix"] == 26
    assert {lease["subnet"] for lease in red["leases"]} == {"10.140.0.0/26", "10.140.0.64/26"}
    assert "10.140.0.64/26" in shown.stdout
    assert "red" not in phalanx(cluster, "network", "list", "--json").stdout


def test_a_network_changes_while_it_is_there_and_every_node_follows(cluster: Cluster) -> None:
    made = phalanx(cluster, "network", "create", "red", "10.140.0.0/16", "--mtu", "1400")
    changed = phalanx(
        cluster, "network", "change", "red", "--subnet6", "fd00:8c::/64", "--subnet",
        "10.140.0.0/15", "--mtu", "1300", "--open",
    )  # fmt: skip
    shown = phalanx(cluster, "network", "show", "red")
    refused = phalanx(cluster, "network", "change", "red", "--prefix", "26")

    assert (made.returncode, changed.returncode, shown.returncode) == (0, 0, 0), changed.stderr
    assert "MTU 1300, open" in shown.stdout
    assert "fd00:8c::/64, a /80 for each agent" in shown.stdout
    assert refused.returncode == 1
    assert "is leased 10.140.0.0/24" in refused.stderr
    leases = json.loads(phalanx(cluster, "network", "show", "red", "--json").stdout)["leases"]
    mine = str(cluster.lab.node("a1").address)
    theirs = {
        prefix
        for lease in leases
        if lease["node"] != mine
        for prefix in (lease["subnet"], lease["subnet6"])
    }

    def routed(prefix: str) -> bool:
        family = "-6" if ":" in prefix else "-4"
        return "encap" in cluster.on("a1", "ip", family, "route", "show", prefix).stdout

    def state() -> str:
        words = ("for f in 4 6; do ip -$f route; done; curl -s 127.0.0.1:62080/v1/status",)
        return cluster.on("a1", "sh", "-c", *words).stdout

    assert theirs
    assert wait_until(lambda: all(map(routed, theirs)), seconds=60), (theirs, state())
    phalanx(cluster, "network", "delete", "red")
    assert wait_until(lambda: not any(map(routed, theirs)), seconds=60), (theirs, state())


def test_a_policy_is_added_listed_and_removed(cluster: Cluster) -> None:
    phalanx(cluster, "network", "create", "red", "10.140.0.0/16")
    words = ("allow", "web", "dcos", "red", "80-81", "--reason", "a test")

    added = phalanx(cluster, "policy", *words)
    listed = json.loads(phalanx(cluster, "policy", "list", "--json").stdout)["policies"]
    held = phalanx(cluster, "network", "delete", "red")
    removed = phalanx(cluster, "policy", "remove", "web")
    deleted = phalanx(cluster, "network", "delete", "red")

    assert added.returncode == 0, added.stderr
    [policy] = listed
    assert (policy["ports"], policy["reason"]) == ("80-81", "a test")
    assert held.returncode == 1
    assert "web" in held.stderr
    assert (removed.returncode, deleted.returncode) == (0, 0), deleted.stderr


def test_a_document_of_policies_is_applied(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "policies.toml"
    one = '[[policies]]\nname = "{}"\nsource = "role=web"\ndestination = "any"\nports = "any"\n'
    file.write_text(one.format("a") + one.format("b"))
    first = phalanx(cluster, "policy", "apply", str(file))
    denied = phalanx(
        cluster, "policy", "add", "law", "any", "dcos", "--protocol", "icmp", "--tier", "cluster",
        "--deny",
    )  # fmt: skip
    file.write_text(one.format("b").replace("any", "dcos", 1))
    second = phalanx(cluster, "policy", "apply", "--tier", "network", str(file))
    shown = phalanx(cluster, "policy", "list")
    file.write_text(one.format("c").replace("role=web", "nosuch"))
    wrong = phalanx(cluster, "policy", "apply", str(file))
    file.write_text("policies = []")
    last = phalanx(cluster, "policy", "apply", str(file))

    assert first.stdout == "policy a: added\npolicy b: added\n", first.stderr
    assert denied.returncode == 0, denied.stderr
    assert second.stdout == "policy b: changed\npolicy a: removed\n", second.stderr
    assert "deny" in shown.stdout
    assert wrong.returncode == 1
    assert "policies[0].source: 'nosuch'" in wrong.stderr
    assert last.stdout == "policy b: removed\npolicy law: removed\n", last.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("network", "create", "x", "9.1.0.0/16"), "overlaps", id="overlap"),
        pytest.param(("network", "create", "x", "nowhere"), "'nowhere'", id="no-subnet"),
        pytest.param(("network", "delete", "nosuch"), "nosuch", id="no-network"),
        pytest.param(("policy", "remove", "nosuch"), "nosuch", id="no-policy"),
        pytest.param(("policy", "allow", "p", "a", "dcos", "80"), "'a'", id="no-source"),
        pytest.param(("policy", "allow", "p", "dcos", "dcos", "x"), "'x'", id="no-port"),
    ],
)
def test_what_can_not_be_done_is_said_with_the_reason(
    cluster: Cluster, words: tuple[str, ...], said: str
) -> None:
    done = phalanx(cluster, *words)

    assert done.returncode == 1
    assert said in done.stderr


def test_a_master_that_is_not_there_is_named() -> None:
    done = subprocess.run(
        [*PHALANX, "network", "--master", "http://127.0.0.1:1", "list"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 1
    assert "http://127.0.0.1:1" in done.stderr
