"""A pod with real containers: one network, one volume, one fate."""

import json
import sys
from pathlib import Path
from typing import Any

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import until

PHALANX = [sys.executable, "-Im", "phalanx.cli.main"]
SMALL = {"cpus": 0.05, "mem": 32}
SERVE = f"cd work && exec {sys.executable} -m http.server $ENDPOINT_WEB"
PAIR: dict[str, Any] = {
    "id": "/pair",
    "networks": [{"mode": "container", "name": "dcos"}],
    "volumes": [{"name": "work"}],
    "scheduling": {"backoff": {"backoff": 0.1}},
    "containers": [
        {
            "name": "server",
            "exec": {"command": {"shell": SERVE}},
            "resources": SMALL,
            "endpoints": [{"name": "web", "containerPort": 8000, "labels": {"VIP_0": "/pair:80"}}],
            "volumeMounts": [{"name": "work", "mountPath": "work"}],
            "healthCheck": {
                "http": {"endpoint": "web", "path": "/page"},
                "intervalSeconds": 1,
                "timeoutSeconds": 0.9,
                "maxConsecutiveFailures": 1000,
                "delaySeconds": 0,
            },
        },
        {
            "name": "writer",
            "exec": {
                "command": {
                    "shell": "echo hello from beside > shared/page; "
                    f"until {sys.executable} -c 'import urllib.request as u; "
                    'print(u.urlopen("http://127.0.0.1:8000/page").read())\'; do sleep 0.1; done; '
                    "touch met; exec sleep 600"
                }
            },
            "resources": SMALL,
            "volumeMounts": [{"name": "work", "mountPath": "shared"}],
        },
    ],
}


def ask(cluster: Cluster, path: str, *more: str) -> Any:
    url = f"http://{cluster.lab.node('m1').address}:8080{path}"
    done = cluster.on("m1", "curl", "-sS", *more, url)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


def stable(cluster: Cluster, *, others_than: str = "") -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def look() -> str | None:
        status = ask(cluster, "/v2/pods/pair::status")
        found[:] = [
            one
            for one in status["instances"]
            if status["status"] == "STABLE" and one["containers"][0]["containerId"] != others_than
        ]
        return "stable" if found else None

    until(look, seconds=60, what="the pod is stable")
    return found[0]


def test_a_pod_shares_network_volume_and_fate(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "pod.json"
    file.write_text(json.dumps(PAIR))
    marathon = f"http://{cluster.lab.node('m1').address}:8080"
    deployed = cluster.on("m1", *PHALANX, "app", "--marathon", marathon, "deploy", str(file))
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert deployed.stdout.rstrip().endswith("done")

    first = stable(cluster)
    [network] = first["networks"]
    page = cluster.on("m1", "curl", "-sS", f"http://{network['addresses'][0]}:8000/page")
    assert (network["name"], page.stdout) == ("dcos", "hello from beside\n")

    ask(cluster, f"/v2/pods/pair::instances/{first['id']}", "-X", "DELETE")
    again = stable(cluster, others_than=first["containers"][0]["containerId"])
    assert again["id"] == first["id"]

    ask(cluster, "/v2/pods/pair", "-X", "DELETE")
    until(
        lambda: "over" if ask(cluster, "/v2/deployments") == [] else None,
        seconds=60,
        what="the pod is gone",
    )
    assert ask(cluster, "/v2/pods") == []
