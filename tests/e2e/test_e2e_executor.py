"""An app with an executor of its own: it gets files, command and resources, and is told to kill."""

import json
from pathlib import Path
from typing import Any

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import until

# An executor on the standard library alone: its task runs until it is killed, and so does it.
EXECUTOR = r"""#!/usr/bin/env python3
import base64, http.client, json, os, sys, uuid
open("words", "w").write(json.dumps(sys.argv[1:]))
host, port = os.environ["MESOS_AGENT_ENDPOINT"].split(":")
ids = {
    "framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]},
    "executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]},
}
def call(kind, **rest):
    link = http.client.HTTPConnection(host, int(port))
    body = json.dumps({"type": kind, **ids, **rest})
    link.request("POST", "/api/v1/executor", body, {"Content-Type": "application/json"})
    return link.getresponse()
def update(task, state):
    number = base64.b64encode(uuid.uuid4().bytes).decode()
    status = {"task_id": task, "state": state, "source": "SOURCE_EXECUTOR", "uuid": number}
    call("UPDATE", update={"status": status})
stream, is_over = call("SUBSCRIBE", subscribe={}), False
while True:
    length = b""
    while not length.endswith(b"\n"):
        length += stream.read(1)
    event = json.loads(stream.read(int(length)))
    if event["type"] == "LAUNCH":
        task = event["launch"]["task"]["task_id"]
        update(task, "TASK_RUNNING")
    elif event["type"] == "KILL":
        is_over = True
        update(event["kill"]["task_id"], "TASK_KILLED")
    elif event["type"] == "ACKNOWLEDGED" and is_over:
        break
    elif event["type"] == "SHUTDOWN":
        break
"""


def ask(cluster: Cluster, method: str, path: str, body: object = None) -> Any:
    url = f"http://{cluster.lab.node('m1').address}:8080{path}"
    data = [] if body is None else ["-d", json.dumps(body)]
    done = cluster.on("m1", "curl", "-sS", "-X", method, *data, url)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_app_runs_under_an_executor_of_its_own(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "own-executor"
    file.write_text(EXECUTOR)
    app = {
        "id": "/own",
        "cmd": "one 'two words'",
        "cpus": 0.05,
        "mem": 16,
        "executor": "./own-executor",
        "executorResources": {"cpus": 0.05, "mem": 48, "disk": 0},
        "fetch": [{"uri": str(file), "executable": True}],
    }

    answer = ask(cluster, "POST", "/v2/apps", app)
    assert "deployments" in answer, answer

    def runs() -> str | None:
        shown = ask(cluster, "GET", "/v2/apps/own")["app"]
        is_up = shown["tasksRunning"] == 1 and not shown["deployments"]
        return "it runs" if is_up else None

    until(runs, seconds=60, what="the app runs")
    [task] = ask(cluster, "GET", "/v2/apps/own/tasks")["tasks"]
    name = f"marathon-{task['id']}"
    top = str(cluster.lab.directory)
    found = cluster.run_here(["find", top, "-xdev", "-path", f"*{name}*", "-name", "words"])
    words = json.loads(Path(found.stdout.split()[0]).read_text())

    assert words == ["one", "two words"]
    deleted = ask(cluster, "DELETE", "/v2/apps/own")
    assert "deploymentId" in deleted

    def is_gone() -> str | None:
        return "it is gone" if ask(cluster, "GET", "/v2/deployments") == [] else None

    until(is_gone, seconds=60, what="the app is gone")
    assert ask(cluster, "GET", "/v2/tasks") == {"tasks": []}
