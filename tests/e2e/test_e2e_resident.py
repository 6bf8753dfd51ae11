"""A persistent volume on a real agent outlives its task, and goes when it is wiped."""

import json
from typing import Any

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import until

APP: dict[str, Any] = {
    "id": "/prod/db",
    "cmd": "echo life >> data/lives; exec sleep 600",
    "cpus": 0.05,
    "mem": 32,
    "role": "prod",
    "backoffSeconds": 0.1,
    "container": {
        "type": "MESOS",
        "volumes": [{"containerPath": "data", "mode": "RW", "persistent": {"size": 16}}],
    },
    "healthChecks": [
        {
            "protocol": "COMMAND",
            "command": {"value": "test -s data/lives"},
            "intervalSeconds": 1,
            "delaySeconds": 0,
        }
    ],
}


def ask(cluster: Cluster, method: str, path: str, body: object = None) -> Any:
    url = f"http://{cluster.lab.node('m1').address}:8080{path}"
    data = [] if body is None else ["-d", json.dumps(body)]
    done = cluster.on("m1", "curl", "-sS", "-X", method, *data, url)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def settled(cluster: Cluster, *, other_than: str = "") -> dict[str, Any]:
    """Wait for a task that runs, and for its deployment to be over."""
    found: list[dict[str, Any]] = []

    def look() -> str | None:
        tasks = ask(cluster, "GET", "/v2/apps/prod/db/tasks")["tasks"]
        found[:] = [
            task for task in tasks if task["state"] == "TASK_RUNNING" and task["id"] != other_than
        ]
        is_over = ask(cluster, "GET", "/v2/deployments") == []
        return "settled" if found and is_over else None

    until(look, seconds=60, what="the app runs")
    return found[0]


def lives(cluster: Cluster, task: dict[str, Any]) -> int:
    """Count what the volume of *task* has seen, on the agent itself."""
    [volume] = task["localVolumes"]
    name = volume["persistenceId"]
    top = str(cluster.lab.directory)
    found = cluster.run_here(["find", top, "-xdev", "-name", "lives", "-path", f"*{name}*"])
    [path] = sorted(found.stdout.split())[:1] or [""]
    return len(cluster.run_here(["cat", path]).stdout.split()) if path else 0


def await_lives(cluster: Cluster, task: dict[str, Any], count: int) -> None:
    """Wait until the volume of a task has seen so many lives, a moment after the last began."""
    until(
        lambda: "so many" if lives(cluster, task) == count else None,
        seconds=30,
        what=f"{count} lives, not {lives(cluster, task)}",
    )


def test_a_volume_outlives_its_task_until_it_is_wiped(cluster: Cluster) -> None:
    answer = ask(cluster, "POST", "/v2/apps", APP)
    assert "deployments" in answer, answer
    first = settled(cluster)
    assert lives(cluster, first) == 1

    ask(cluster, "DELETE", f"/v2/apps/prod/db/tasks/{first['id']}")
    second = settled(cluster, other_than=first["id"])
    assert second["localVolumes"] == first["localVolumes"]
    assert second["slaveId"] == first["slaveId"]
    await_lives(cluster, second, 2)

    ask(cluster, "DELETE", f"/v2/apps/prod/db/tasks/{second['id']}?wipe=true")
    third = settled(cluster, other_than=second["id"])
    assert third["localVolumes"] != first["localVolumes"]
    await_lives(cluster, third, 1)
    await_lives(cluster, first, 0)


POD: dict[str, Any] = {
    "id": "/prod/pair",
    "role": "prod",
    "volumes": [{"name": "kept", "persistent": {"size": 16}}],
    "scheduling": {"backoff": {"backoff": 0.1}},
    "containers": [
        {
            "name": "writer",
            "exec": {"command": {"shell": "echo life >> mine/lives; exec sleep 600"}},
            "resources": {"cpus": 0.05, "mem": 32},
            "volumeMounts": [{"name": "kept", "mountPath": "mine"}],
        },
        {
            "name": "reader",
            "exec": {"command": {"shell": "exec sleep 600"}},
            "resources": {"cpus": 0.05, "mem": 32},
            "volumeMounts": [{"name": "kept", "mountPath": "theirs", "readOnly": True}],
            "healthCheck": {
                "exec": {"command": {"shell": "test -s theirs/lives && ! touch theirs/x"}},
                "intervalSeconds": 1,
                "timeoutSeconds": 0.9,
                "maxConsecutiveFailures": 1000,
                "delaySeconds": 0,
            },
        },
    ],
}


def stable_pod(cluster: Cluster, *, other_than: str = "") -> dict[str, Any]:
    """Wait for an instance of the pod that is stable."""
    found: list[dict[str, Any]] = []

    def look() -> str | None:
        status = ask(cluster, "GET", "/v2/pods/prod/pair::status")
        found[:] = [
            instance
            for instance in status["instances"]
            if instance["status"] == "STABLE"
            and instance["containers"][0]["containerId"] != other_than
        ]
        return "stable" if found else None

    until(look, seconds=60, what="the pod is stable")
    return found[0]


def test_containers_of_a_pod_share_a_volume_that_outlives_them(cluster: Cluster) -> None:
    answer = ask(cluster, "POST", "/v2/pods", POD)
    assert answer.get("id") == "/prod/pair", answer
    first = stable_pod(cluster)
    assert lives(cluster, first) == 1

    ask(cluster, "DELETE", f"/v2/pods/prod/pair::instances/{first['id']}")
    second = stable_pod(cluster, other_than=first["containers"][0]["containerId"])

    assert second["localVolumes"] == first["localVolumes"]
    await_lives(cluster, second, 2)


def test_a_volume_that_an_agent_can_not_mount_is_why_the_task_failed(cluster: Cluster) -> None:
    external = {"name": "data", "options": {"dvdi/driver": "rexray"}}
    app = {
        "id": "/elsewhere",
        "cmd": "sleep 600",
        "cpus": 0.05,
        "mem": 16,
        "container": {"type": "MESOS", "volumes": [{"containerPath": "d", "external": external}]},
    }
    answer = ask(cluster, "POST", "/v2/apps", app)
    assert "deployments" in answer, answer
    said: list[str] = []

    def look() -> str | None:
        failure = ask(cluster, "GET", "/v2/apps/elsewhere")["app"].get("lastTaskFailure")
        said[:] = [] if failure is None else [failure["message"]]
        return "it failed" if said else None

    until(look, seconds=60, what="the task fails")
    ask(cluster, "DELETE", "/v2/apps/elsewhere")

    assert "driver 'rexray': only the Docker containerizer mounts volumes of drivers" in said[0]
