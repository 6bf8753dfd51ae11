"""A running lab as its users see it: Marathon's API, the master's, dig and curl."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phalanx.core.error import NotFoundError
from phalanx.labs.demo.proof import UnprovenError, until
from phalanx.labs.lab import Lab

APPS = Path(__file__).parent.parent / "apps"
RESOLVER = "198.51.100.1"
TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 0.9  # a packet that was lost is sent again after 1 s


@dataclass(frozen=True, slots=True)
class Instance:
    """One running container of an app."""

    task_id: str
    container_id: str
    node: str
    address: str


class Cluster:
    """Calls to a lab from outside, and commands run on its nodes and in its containers."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def master(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Call the leading master; return the JSON that it answers."""
        return _call(f"{self.lab.master_url}{path}", method, body)

    def marathon(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Call Marathon; return the JSON that it answers."""
        return _call(f"{self.lab.marathon_url}{path}", method, body)

    def deploy(self, name: str) -> str:
        """Post one of the app definitions of ``labs/apps``; return the deployment's id."""
        app = json.loads((APPS / f"{name}.json").read_text())
        posted = self.marathon("POST", "/v2/apps", app)
        return f"deployment {posted['deployments'][0]['id']}"

    def instances(self, app: str) -> list[Instance]:
        """Return the running containers of an app, as the master knows them."""
        state = self.master("GET", "/state")
        nodes = {agent["id"]: agent["hostname"] for agent in state["slaves"]}
        return sorted(
            (
                _instance(task, nodes)
                for framework in state["frameworks"]
                for task in framework["tasks"]
                if task["name"] == app and task["state"] == "TASK_RUNNING"
            ),
            key=lambda instance: (instance.node, instance.address),
        )

    def await_app(self, app: str, count: int, *, seconds: float = TIMEOUT_SECONDS) -> str:
        """Wait until *count* instances run, all healthy if they are checked; say where."""

        def look() -> str | None:
            found = self.marathon("GET", f"/v2/apps/{app}?embed=app.counts")["app"]
            checked = bool(found.get("healthChecks"))
            good = found["tasksHealthy"] if checked else found["tasksRunning"]
            if good != count or found["tasksRunning"] != count:
                return None
            instances = self.instances(app)
            if len(instances) != count:
                return None
            return ", ".join(f"{instance.node} {instance.address}" for instance in instances)

        return until(look, seconds=seconds, what=f"{count} of {app}")

    def dig(self, node: str, name: str, kind: str = "A") -> list[str]:
        """Ask a node's resolver; return the answers in order of text."""
        command = ["dig", "+short", "+time=5", "+tries=1", f"@{RESOLVER}", name, kind]
        return sorted(self.on(node, *command).stdout.split("\n"))[1:]

    def curl(self, node: str, url: str, *, times: int = 1, seconds: float = 5.0) -> list[str]:
        """Get a page over new connections from a node; return the bodies of those that worked."""
        return _bodies(self.on(node, *_curl(url, times, seconds)))

    def curl_in(
        self, instance: Instance, url: str, *, times: int = 1, seconds: float = 5.0
    ) -> list[str]:
        """Get a page over new connections from inside a container."""
        return _bodies(self.inside(instance, *_curl(url, times, seconds)))

    def answers(self, node: str, url: str) -> bool:
        """Tell whether a page comes over a connection that no packet had to be sent again for."""
        at_once = ("--connect-timeout", str(CONNECT_SECONDS))
        return bool(_bodies(self.on(node, *_curl(url, 1, 2.0), *at_once)))

    def on(self, node: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a node's network, with its resolv.conf."""
        return self.run_here(self.lab.node(node).command(command))

    def run_here(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command on this machine, as somebody at its keyboard would.

        Raises UnprovenError when it does not end in time.
        """
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnprovenError(f"{' '.join(command)}: no end in {TIMEOUT_SECONDS:g} s") from error

    def inside(self, instance: Instance, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, by the runtime's own tool."""
        return self.runc(instance, "exec", instance.container_id, *command)

    def runc(self, instance: Instance, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``runc`` with an agent's state directory."""
        root = self.lab.node(instance.node).directory / "agent-run" / "runc"
        return self.run_here(["runc", "--root", str(root), *arguments])


def expect(claim: bool, otherwise: str) -> None:
    """Raise UnprovenError with *otherwise* unless *claim*."""
    if not claim:
        raise UnprovenError(otherwise)


def _instance(task: Mapping[str, Any], nodes: Mapping[str, str]) -> Instance:
    status = task["statuses"][-1]["container_status"]
    networks = status.get("network_infos", [{}])
    addresses = networks[0].get("ip_addresses", [{}])
    return Instance(
        task_id=task["id"],
        container_id=status.get("container_id", {}).get("value", ""),
        node=nodes.get(task["slave_id"], ""),
        address=addresses[0].get("ip_address", ""),
    )


def _curl(url: str, times: int, seconds: float) -> Sequence[str]:
    # The numbers make one invocation ask many times; each answer closes its connection.
    ranged = f"{url}?[1-{times}]"
    return ["curl", "--silent", "--fail", "--max-time", str(seconds), ranged]


def _bodies(done: subprocess.CompletedProcess[str]) -> list[str]:
    return done.stdout.split()


def _call(url: str, method: str, body: object) -> Any:  # noqa: ANN401 - JSON
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            raw = response.read()
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")[:300]
        raise NotFoundError(f"{method} {url}: status {error.code}: {text}") from error
    return json.loads(raw) if raw else None
