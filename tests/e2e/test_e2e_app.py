"""``phalanx app`` and ``phalanx deployment``, as an operator and a script use them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import until

PHALANX = [sys.executable, "-Im", "phalanx.cli.main"]


def phalanx(cluster: Cluster, room: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the first master's node, from where agents can be reached."""
    marathon = f"http://{cluster.lab.node('m1').address}:8080"
    return cluster.on("m1", *PHALANX, room, "--marathon", marathon, *words)


def definition(path: Path, **fields: object) -> str:
    app = {"id": "/chatty", "cmd": "echo hello; sleep 600", "cpus": 0.05, "mem": 32, **fields}
    path.write_text(json.dumps(app))
    return str(path)


def shown(cluster: Cluster) -> Any:
    return json.loads(phalanx(cluster, "app", "show", "/chatty", "--json").stdout)


def await_refusal(cluster: Cluster) -> None:
    """Wait until offers have been refused for what a deployment waits for."""
    until(
        lambda: "" if "InsufficientCpus" in phalanx(cluster, "deployment", "list").stdout else None,
        seconds=60,
        what="the reason",
    )


def test_an_app_is_deployed_scaled_restarted_read_and_deleted(
    cluster: Cluster, tmp_path: Path
) -> None:
    deployed = phalanx(cluster, "app", "deploy", definition(tmp_path / "app.json"))
    assert deployed.returncode == 0, deployed.stderr
    assert re.search(r"of 2: (Start|Scale)Application /chatty", deployed.stdout)
    assert deployed.stdout.rstrip().endswith("done")

    scaled = phalanx(cluster, "app", "scale", "chatty", "2", "--json")
    assert json.loads(scaled.stdout)["deploymentId"]
    before = {task["id"] for task in shown(cluster)["tasks"]}
    assert len(before) == 2
    assert "2/2 running" in phalanx(cluster, "app", "show", "chatty").stdout

    def said() -> str | None:
        logs = phalanx(cluster, "app", "logs", "/chatty").stdout.splitlines()
        return "" if [line.rpartition(": ")[2] for line in logs] == ["hello"] * 2 else None

    until(said, seconds=30, what="both instances have said hello")
    one = phalanx(cluster, "app", "logs", "/chatty", "--task", min(before))
    assert one.stdout == "hello\n"

    assert phalanx(cluster, "app", "restart", "/chatty").returncode == 0
    assert not before & {task["id"] for task in shown(cluster)["tasks"]}
    assert "/chatty" in phalanx(cluster, "app", "list").stdout

    assert phalanx(cluster, "app", "delete", "/chatty").returncode == 0
    gone = phalanx(cluster, "app", "show", "/chatty")
    assert (gone.returncode, gone.stderr) == (1, "phalanx app: App '/chatty' does not exist\n")


def test_what_can_not_be_placed_says_why_and_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    file = definition(tmp_path / "app.json", cpus=4000)

    late = phalanx(cluster, "app", "deploy", file, "--timeout", "0")
    await_refusal(cluster)
    [waiting] = json.loads(phalanx(cluster, "deployment", "list", "--json").stdout)
    follows = phalanx(cluster, "deployment", "watch", waiting["id"], "--timeout", "0")
    listed = phalanx(cluster, "deployment", "list", "--json")
    table = phalanx(cluster, "deployment", "list")
    phalanx(cluster, "app", "delete", "/chatty", "--force")
    watched = phalanx(cluster, "deployment", "watch")

    for given_up in (late, follows):
        assert given_up.returncode == 1
        assert "is not over after 0 s; it goes on" in given_up.stderr
    assert "InsufficientCpus" in follows.stderr
    [deployment] = json.loads(listed.stdout)
    assert deployment["affectedApps"] == ["/chatty"]
    assert deployment["version"] in table.stdout
    assert watched.returncode == 0, watched.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("{", "Expecting property name", id="no-json"),
        pytest.param("{}", "an app needs an id", id="no-id"),
        pytest.param('{"id": "/x", "cpus": -1, "cmd": "true"}', "/cpus", id="not-valid"),
    ],
)
def test_a_bad_definition_is_refused_with_its_place(
    cluster: Cluster, tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "app.json"
    file.write_text(content)

    refused = phalanx(cluster, "app", "deploy", str(file))

    assert refused.returncode == 1
    assert words in refused.stderr


def test_a_group_is_tried_deployed_undone_and_deleted(cluster: Cluster, tmp_path: Path) -> None:
    app = {"cmd": "sleep 600", "cpus": 0.05, "mem": 16}
    group = {
        "id": "shop",
        "apps": [{"id": "web", "dependencies": ["db"], **app}, {"id": "db", **app}],
    }
    file = tmp_path / "group.json"
    file.write_text(json.dumps(group))

    dry = phalanx(cluster, "app", "deploy", "--dry-run", str(file))
    nothing = phalanx(cluster, "app", "list").stdout
    deployed = phalanx(cluster, "app", "deploy", str(file))
    running = phalanx(cluster, "app", "show", "/shop/web").stdout
    group["apps"][0]["cpus"] = 900  # type: ignore[index]  # it is a list of apps
    file.write_text(json.dumps(group))
    stuck = phalanx(cluster, "app", "deploy", "--timeout", "0", str(file))
    await_refusal(cluster)
    found = re.search(r"deployment (\S+)", stuck.stdout)
    assert found is not None, stuck.stdout + stuck.stderr
    undone = phalanx(cluster, "deployment", "rollback", found[1])
    deleted = phalanx(cluster, "app", "delete", "--group", "shop")

    assert dry.stdout.splitlines() == [
        "step 1: StartApplication /shop/db, StartApplication /shop/web",
        "step 2: ScaleApplication /shop/db",
        "step 3: ScaleApplication /shop/web",
    ]
    assert "/shop" not in nothing
    assert deployed.returncode == 0, deployed.stderr
    assert "/shop/web 1/1 running" in running
    assert stuck.returncode == 1
    assert "it goes on" in stuck.stderr
    assert undone.returncode == 0, undone.stderr
    assert deleted.returncode == 0, deleted.stderr


def test_a_pod_is_deployed_shown_scaled_read_and_deleted(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "pod.json"
    container = {
        "name": "one",
        "exec": {"command": {"shell": "echo hello of a pod; sleep 600"}},
        "resources": {"cpus": 0.05, "mem": 16},
    }
    file.write_text(json.dumps({"id": "/pair", "containers": [container]}))

    def said() -> subprocess.CompletedProcess[str]:
        return phalanx(cluster, "app", "logs", "pair")

    made = phalanx(cluster, "app", "deploy", str(file))
    changed = phalanx(cluster, "app", "deploy", "--json", str(file))
    scaled = phalanx(cluster, "app", "scale", "pair", "2")
    listed = phalanx(cluster, "app", "list")
    as_people = phalanx(cluster, "app", "show", "pair")
    as_json = phalanx(cluster, "app", "show", "pair", "--json")
    until(
        lambda: "" if said().stdout.count("hello of a pod") == 2 else None,
        seconds=30,
        what="both instances have said hello",
    )
    restarted = phalanx(cluster, "app", "restart", "pair")
    deleted = phalanx(cluster, "app", "delete", "/pair")
    gone = phalanx(cluster, "app", "show", "pair")

    assert made.returncode == 0, made.stderr
    assert made.stdout.rstrip().endswith("done"), made.stdout
    assert "/pair 1/1 running" in made.stdout or "/pair 0/1 running" in made.stdout
    assert json.loads(changed.stdout)["id"] == "/pair"
    assert scaled.returncode == 0, scaled.stderr
    assert "/pair (pod)" in listed.stdout
    assert "/pair 2/2 running" in as_people.stdout
    assert [one["status"] for one in json.loads(as_json.stdout)["instances"]] == ["STABLE"] * 2
    assert restarted.returncode == 1
    assert "is a pod" in restarted.stderr
    assert deleted.returncode == 0, deleted.stderr
    assert gone.returncode == 1
