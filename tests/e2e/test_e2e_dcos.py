"""The command line of DC/OS, as it comes from its registry, drives a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from phalanx.labs.demo.proof import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from phalanx.labs.demo.cluster import Cluster

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".dcos-cli/bin/python"
SECONDS = 60.0
SLEEP = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"
WEB: dict[str, Any] = {"id": "/web", "cmd": SLEEP, "cpus": 0.1, "mem": 16, "instances": 1}
POD: dict[str, Any] = {
    "id": "/pod",
    "containers": [
        {
            "name": "one",
            "exec": {"command": {"shell": SLEEP}},
            "resources": {"cpus": 0.1, "mem": 16},
        }
    ],
}


class Dcos:
    """A process that runs one command of ``dcos marathon`` after another."""

    def __init__(self, url: str, home: Path) -> None:
        config = home / "dcos.toml"
        config.write_text(f'[core]\ndcos_url = "{url}"\n[marathon]\nurl = "{url}"\n')
        config.chmod(0o600)  # it refuses any other
        self.home = home
        self.process = subprocess.Popen(
            [str(PYTHON), str(Path(__file__).with_name("dcos_driver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(home), "DCOS_CONFIG": str(config)},
        )

    def run(self, *words: str, status: int = 0) -> str:
        """Run a command that ends with *status*; return what it prints."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(["marathon", *words]) + "\n")
        self.process.stdin.flush()
        said = json.loads(self.process.stdout.readline())
        assert said["status"] == status, (words, said)
        return str(said["out"] if status == 0 else said["out"] + said["err"])

    def read(self, *words: str) -> Any:
        """Run a command that prints JSON; return that."""
        return json.loads(self.run(*words))

    def add(self, kind: str, definition: object) -> None:
        """Add an app, a group or a pod from a file."""
        file = self.home / "definition.json"
        file.write_text(json.dumps(definition))
        assert "Created deployment" in self.run(kind, "add", str(file))

    def settled(self) -> None:
        """Wait until no deployment runs."""
        hold(lambda: not self.read("deployment", "list", "--json"), "deployments are over")


@pytest.fixture(scope="module")
def dcos(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dcos]:
    """Yield the command line on a lab's Marathon."""
    assert PYTHON.exists(), "run scripts/setup: it installs dcos' command line"
    found = Dcos(cluster.lab.marathon_url, tmp_path_factory.mktemp("dcos"))
    with found.process as process:
        yield found
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(SECONDS) == 0


@pytest.fixture(autouse=True)
def empty(dcos: Dcos) -> Iterator[None]:
    """Leave nothing of a test."""
    yield
    dcos.run("group", "remove", "--force", "/")
    dcos.settled()


def refused_for(dcos: Dcos, app: str) -> set[str]:
    """Return for what the last offers of each agent were refused."""
    waiting = dcos.read("debug", "details", app, "--json")
    return {reason for offer in waiting["lastUnusedOffers"] for reason in offer["reason"]}


def hold(condition: Callable[[], Any], what: str) -> None:
    """Wait until *condition* is true."""
    until(lambda: "yes" if condition() else None, seconds=SECONDS, what=what)


def test_an_app_lives_its_life(dcos: Dcos) -> None:
    dcos.add("app", WEB)
    for deployment in dcos.read("deployment", "list", "--json"):
        dcos.run("deployment", "watch", "--interval=1", deployment["id"])
    dcos.settled()
    [line] = dcos.run("app", "list").splitlines()[1:]
    [task] = dcos.read("task", "list", "--json")
    shown = dcos.read("task", "show", task["id"])
    assert "Created deployment" in dcos.run("app", "update", "/web", "instances=2", "mem=17")
    dcos.settled()
    updated = dcos.read("app", "show", "/web")
    versions = dcos.read("app", "version", "list", "/web")
    former = dcos.read("app", "show", f"--app-version={versions[-1]}", "/web")
    dcos.run("app", "restart", "/web")
    dcos.settled()
    after = dcos.read("task", "list", "--json", "/web")
    dcos.run("app", "stop", "/web")
    dcos.settled()
    stopped = dcos.read("task", "list", "--json", "/web")
    dcos.run("app", "start", "/web", "1")
    dcos.settled()
    dcos.run("app", "remove", "/web")
    dcos.settled()

    assert line.split()[:5] == ["/web", "16", "0.1", "1/1", "---"]
    assert (shown["id"], shown["appId"]) == (task["id"], "/web")
    assert (updated["instances"], updated["mem"], former["mem"]) == (2, 17, 16)
    assert len(versions) == 2
    assert (len(after), stopped) == (2, [])
    assert task["id"] not in {one["id"] for one in after}
    assert "does not exist" in dcos.run("app", "show", "/web", status=1)


def test_tasks_are_killed_and_replaced_or_not(dcos: Dcos) -> None:
    dcos.add("app", {**WEB, "instances": 3})
    dcos.settled()
    first, second, _ = sorted(task["id"] for task in dcos.read("task", "list", "--json"))

    stopped = dcos.read("task", "stop", first)
    hold(lambda: first not in _running(dcos) and len(_running(dcos)) == 3, "it is replaced")
    dcos.run("task", "kill", "--scale", second)
    dcos.settled()

    assert stopped["id"] == first
    assert second not in _running(dcos)
    assert dcos.read("app", "show", "/web")["instances"] == 2
    assert "Killed tasks" in dcos.run("app", "kill", "/web")


def _running(dcos: Dcos) -> set[str]:
    tasks = dcos.read("task", "list", "--json", "/web")
    return {task["id"] for task in tasks if task["state"] == "TASK_RUNNING"}


def test_groups_are_added_scaled_and_removed(dcos: Dcos) -> None:
    dcos.add("group", {"id": "/g", "apps": [{**WEB, "id": "web"}]})
    dcos.settled()
    listed = dcos.run("group", "list")
    dcos.run("group", "scale", "/g", "2")
    dcos.settled()
    shown = dcos.read("group", "show", "/g")
    dcos.run("group", "remove", "/g")
    dcos.settled()

    assert listed.splitlines()[1].split() == ["/g", "1"]
    assert [app["instances"] for app in shown["apps"]] == [2]
    assert "/g" not in dcos.run("group", "list")


def test_pods_are_added_shown_killed_and_removed(dcos: Dcos) -> None:
    dcos.add("pod", POD)
    dcos.settled()
    listed = dcos.run("pod", "list")
    shown = dcos.read("pod", "show", "/pod")
    [instance] = shown["instances"]
    dcos.run("pod", "kill", "/pod", instance["id"])
    dcos.run("pod", "remove", "--force", "/pod")
    dcos.settled()

    assert listed.splitlines()[1].split()[:2] == ["/pod", "1"]
    assert (shown["status"], shown["spec"]["id"]) == ("STABLE", "/pod")
    assert dcos.read("pod", "list", "--json") == []


def test_what_waits_says_why_and_is_rolled_back(dcos: Dcos) -> None:
    dcos.add("app", {**WEB, "cpus": 900})
    hold(lambda: refused_for(dcos, "/web") == {"InsufficientCpus"}, "offers were refused")

    summary = dcos.run("debug", "summary", "/web")
    listed = dcos.run("debug", "list")
    [deployment] = dcos.read("deployment", "list", "--json", "/web")
    refused = dcos.run("app", "update", "/web", "cpus=1", status=1)
    dcos.run("deployment", "rollback", deployment["id"])
    dcos.settled()

    [cpus] = [line for line in summary.splitlines() if line.startswith("CPUS")]
    assert cpus.split()[1:4] == ["900", "0", "/"]
    assert cpus.split()[5] == "0.00%"
    assert "/web" in listed
    assert "deployment" in refused
    assert dcos.read("app", "list", "--json") == []


def test_the_server_says_who_it_is(dcos: Dcos) -> None:
    assert dcos.read("about")["name"] == "marathon"
    assert 'response[1x]: "pong"' in dcos.run("ping", "--once")
    assert dcos.read("plugin", "list", "--json") == {"plugins": []}
