"""Containers are real: limits bite, the sandbox is writable, the rest is not."""

from collections.abc import Iterator
from typing import Any

import pytest

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import until

QUIET: dict[str, Any] = {"cpus": 0.1, "mem": 32, "instances": 1, "backoffSeconds": 60}


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Any]:
    """Yield a function that posts an app; every app is deleted afterwards."""
    made: list[str] = []

    def post(name: str, cmd: str, **fields: object) -> None:
        cluster.marathon("POST", "/v2/apps", {**QUIET, "id": f"/{name}", "cmd": cmd, **fields})
        made.append(name)

    yield post
    for name in made:
        cluster.marathon("DELETE", f"/v2/apps/{name}")


def failure_of(cluster: Cluster, name: str) -> dict[str, Any]:
    """Wait for the app's last failure and return it."""
    found: dict[str, Any] = {}

    def look() -> str | None:
        app = cluster.marathon("GET", f"/v2/apps/{name}?embed=app.failures")["app"]
        found.update(app.get("lastTaskFailure") or {})
        return "failed" if found else None

    until(look, seconds=60, what=f"{name} fails")
    return found


def test_memory_above_the_limit_is_killed_and_said_so(cluster: Cluster, app: Any) -> None:
    app("hog", "python3 -c 'b = bytearray(200 << 20); print(len(b))'; true")

    failure = failure_of(cluster, "hog")

    assert failure["state"] == "TASK_FAILED"
    assert "Memory limit exceeded" in failure["message"]


def test_a_command_that_fails_says_its_status(cluster: Cluster, app: Any) -> None:
    app("seven", "exit 7")

    failure = failure_of(cluster, "seven")

    assert failure["state"] == "TASK_FAILED"
    assert "status 7" in failure["message"]


def test_cpu_and_memory_limits_stand_in_the_cgroup(cluster: Cluster, app: Any) -> None:
    app("quiet", "exec sleep 1d", cpus=0.5, mem=48)
    cluster.await_app("quiet", 1)
    [instance] = cluster.instances("quiet")

    done = cluster.runc(instance, "events", "--stats", instance.container_id)

    assert f'"limit":{48 << 20}' in done.stdout, done.stdout + done.stderr


def test_only_the_sandbox_and_what_is_temporary_is_writable(cluster: Cluster, app: Any) -> None:
    temporary = "touch /tmp/there$$ && rm /tmp/there$$"
    app("writer", f"touch here && {temporary} && ! touch /etc/nowhere && exec sleep 1d")

    assert cluster.await_app("writer", 1)


def test_an_unknown_network_fails_with_its_name(cluster: Cluster, app: Any) -> None:
    app(
        "lost",
        "exec sleep 1d",
        networks=[{"mode": "container", "name": "nosuch"}],
        container={"type": "MESOS", "portMappings": []},
    )

    failure = failure_of(cluster, "lost")

    assert "nosuch" in failure["message"]


def test_a_task_on_the_host_network_has_its_nodes_address(cluster: Cluster, app: Any) -> None:
    app("plain", "exec python3 -m http.server $PORT0", portDefinitions=[{"port": 0}])
    cluster.await_app("plain", 1)
    [instance] = cluster.instances("plain")

    assert instance.address == cluster.lab.node(instance.node).address


def test_an_app_that_fits_nowhere_says_why(cluster: Cluster, app: Any) -> None:
    app("huge", "exec sleep 1d", cpus=1000)

    def look() -> str | None:
        queue = cluster.marathon("GET", "/v2/queue")["queue"]
        text = str(queue)
        return text if "InsufficientCpus" in text else None

    assert until(look, seconds=30, what="the reason")
