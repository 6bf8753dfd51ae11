"""``phalanx app``: apps on Marathon, from the command line and from scripts."""

import argparse
import json
import sys
import threading
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from phalanx.cli.client import add_marathon_flag, call
from phalanx.cli.follow import counts_of, follow, pod_counts, teller, waiting
from phalanx.cli.listing import print_tables
from phalanx.cli.pod import pod_path, scaled_pod, show_pod, status_of, statuses, tasks_of
from phalanx.cli.sandbox import Sandbox, find_sandbox
from phalanx.core.error import InvalidError, NotFoundError

LOOK_SECONDS = 0.5
TAIL_BYTES = 64 * 1024
MOST_BYTES = 1024 * 1024


def main(arguments: Sequence[str]) -> int:
    """Run one verb; return the exit status."""
    parser = argparse.ArgumentParser(prog="phalanx app", description="Apps on Marathon.")
    add_marathon_flag(parser)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    deploy = verbs.add_parser("deploy", help="create or change apps and follow until they run")
    deploy.add_argument(
        "file", help="an app, a list of apps, a pod or a group as JSON; - for standard input"
    )
    deploy.add_argument(
        "--dry-run", action="store_true", help="of a group: print the steps and do nothing"
    )
    listing = verbs.add_parser("list", help="show every app and every pod")
    show = verbs.add_parser("show", help="show an app or a pod, its tasks, and what it waits for")
    show.add_argument("id")
    scale = verbs.add_parser("scale", help="change the number of instances of an app or a pod")
    scale.add_argument("id")
    scale.add_argument("instances", type=int)
    restart = verbs.add_parser("restart", help="replace every instance")
    restart.add_argument("id")
    delete = verbs.add_parser("delete", help="remove an app, a group or a pod")
    delete.add_argument("id")
    of = delete.add_mutually_exclusive_group()
    of.add_argument("--group", action="store_true", help="the id is a group's: all in it goes")
    of.add_argument("--pod", action="store_true", help="the id is a pod's, even if an app has it")
    for verb in (deploy, scale, restart, delete):
        verb.add_argument("--force", action="store_true", help="break what else is being deployed")
        verb.add_argument("--no-wait", action="store_true", help="do not follow the deployment")
        verb.add_argument("--timeout", type=float, metavar="SECONDS", help="give up following")
    for verb in (deploy, listing, show, scale, restart, delete):
        verb.add_argument("--json", action="store_true", help="print Marathon's own answer")
    logs = verbs.add_parser("logs", help="print what the tasks of an app or a pod wrote")
    logs.add_argument("id")
    logs.add_argument("--task", metavar="ID", help="one task of it (default: all)")
    logs.add_argument("--master", metavar="URL", help="the master (default: Marathon's)")
    logs.add_argument("--stderr", action="store_true", help="standard error instead of output")
    logs.add_argument("-n", "--lines", type=int, default=50, help="the last lines (default: 50)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until interrupted")
    given = parser.parse_args(arguments)
    VERBS[given.verb](given)
    return 0


def _deploy(given: argparse.Namespace) -> None:
    body = _read(given.file)
    if isinstance(body, dict) and _is_group(body):
        _deploy_group(given, body)
        return
    if given.dry_run:
        raise InvalidError(f"{given.file}: only a group can be deployed dry")
    if isinstance(body, list):
        _change(given, "PUT", "/v2/apps", body)
        return
    if not isinstance(body, dict) or not isinstance(body.get("id"), str):
        raise InvalidError(f"{given.file}: an app needs an id")
    named = {**body, "id": _absolute(body["id"])}
    if "containers" in body:
        _put_pod(given, named)
        return
    _change(given, "PUT", _path(body["id"]), named)


def _put_pod(given: argparse.Namespace, pod: dict[str, Any]) -> None:
    """Send a pod, whose answer is the pod itself, and follow what deploys it."""
    force = "true" if given.force else "false"
    answer = call(given.marathon, "PUT", f"{pod_path(pod['id'])}?force={force}", pod)
    if given.json:
        print(json.dumps(answer, indent=2))
    _follow_pod(given, pod["id"])


def _follow_pod(given: argparse.Namespace, pod_id: str) -> None:
    running = call(given.marathon, "GET", "/v2/deployments")
    _follow(given, [one["id"] for one in running if pod_id in one["affectedPods"]])


def _is_group(body: Mapping[str, Any]) -> bool:
    """Tell whether a definition is that of a group: it has lists that no app has."""
    return "apps" in body or "groups" in body


def _deploy_group(given: argparse.Namespace, body: Mapping[str, Any]) -> None:
    if not isinstance(body.get("id"), str):
        raise InvalidError(f"{given.file}: a group needs an id")
    path = _path(body["id"], kind="groups")
    absolute = {**body, "id": _absolute(body["id"])}
    if not given.dry_run:
        _change(given, "PUT", path, absolute)
        return
    answer = call(given.marathon, "PUT", f"{path}?dryRun=true", absolute)
    if given.json:
        print(json.dumps(answer, indent=2))
        return
    for number, step in enumerate(answer["steps"], 1):
        actions = (f"{a['action']} {a.get('app') or a.get('pod')}" for a in step["actions"])
        print(f"step {number}: {', '.join(actions)}")


def _list(given: argparse.Namespace) -> None:
    answer = call(given.marathon, "GET", "/v2/apps?embed=apps.counts")
    pods = statuses(given.marathon)
    if given.json:
        print(json.dumps({**answer, "pods": pods}, indent=2))
        return
    table = Table("app", "instances", "running", "healthy", "cpus", "mem", "deploying")
    for app in answer["apps"]:
        table.add_row(
            app["id"],
            str(app["instances"]),
            str(app["tasksRunning"]),
            str(app["tasksHealthy"]) if app.get("healthChecks") else "",
            f"{app['cpus']:g}",
            f"{app['mem']:g}",
            "yes" if app["deployments"] else "",
        )
    running = call(given.marathon, "GET", "/v2/deployments") if pods else []
    deploying = {id for deployment in running for id in deployment["affectedPods"]}
    for pod in map(pod_counts, pods):
        counts = (str(pod["instances"]), str(pod["tasksRunning"]))
        is_deploying = "yes" if pod["id"] in deploying else ""
        table.add_row(f"{pod['id']} (pod)", *counts, "", "", "", is_deploying)
    print_tables(table)


def _show(given: argparse.Namespace) -> None:
    app = _app_or_pod(given)
    if "spec" in app:
        show_pod(given, app)
        return
    if given.json:
        print(json.dumps(app, indent=2))
        return
    print(counts_of(app))
    print(f"version {app['version']}")
    if failure := app.get("lastTaskFailure"):
        print(f"last failure {failure['timestamp']}: {failure['state']} {failure['message']}")
    for line in waiting(given.marathon, [app["id"]]):
        print(line)
    table = Table("task", "state", "host", "address", "ports", "healthy", "since")
    for task in app.get("tasks", ()):
        alive = [result["alive"] for result in task.get("healthCheckResults", ())]
        table.add_row(
            task["id"],
            task["state"],
            task["host"],
            "\n".join(item["ipAddress"] for item in task.get("ipAddresses", ())),
            ", ".join(map(str, task.get("ports", ()))),
            ("yes" if all(alive) else "NO") if alive else "",
            task.get("startedAt") or "",
        )
    print_tables(table)


def _scale(given: argparse.Namespace) -> None:
    found = _app_or_pod(given)  # a PUT would create what is not there
    if "spec" in found:
        _put_pod(given, scaled_pod(given.marathon, found["id"], given.instances))
        return
    _change(given, "PUT", _path(given.id), {"instances": given.instances})


def _restart(given: argparse.Namespace) -> None:
    if "spec" in _app_or_pod(given):
        words = "Marathon restarts no pods; deploy a changed definition instead"
        raise InvalidError(f"{_absolute(given.id)} is a pod: {words}")
    _change(given, "POST", f"{_path(given.id)}/restart", None)


def _delete(given: argparse.Namespace) -> None:
    if given.pod or (not given.group and "spec" in _app_or_pod(given)):
        force = "true" if given.force else "false"
        call(given.marathon, "DELETE", f"{pod_path(given.id)}?force={force}")
        _follow_pod(given, _absolute(given.id))
        return
    _change(given, "DELETE", _path(given.id, kind="groups" if given.group else "apps"), None)


def _change(given: argparse.Namespace, method: str, path: str, body: object) -> None:
    """Send a change and follow its deployment."""
    force = "true" if given.force else "false"
    answer = call(given.marathon, method, f"{path}?force={force}", body)
    if given.json:
        print(json.dumps(answer, indent=2))
    # A new app is answered as itself, with the deployments that it is in.
    ids = [answer["deploymentId"]] if "deploymentId" in answer else []
    _follow(given, [*ids, *(item["id"] for item in answer.get("deployments", ()))])


def _follow(given: argparse.Namespace, ids: Sequence[str]) -> None:
    console = Console(stderr=given.json)
    for id in ids:
        console.print(f"deployment {id}", highlight=False)
        if not given.no_wait:
            follow(given.marathon, id, teller(console), timeout_seconds=given.timeout)
            console.print("done")


def _logs(given: argparse.Namespace) -> None:
    app = _app_or_pod(given)
    tasks = {task["id"]: task["slaveId"] for task in app.get("tasks", ())}
    if "spec" in app:
        tasks = tasks_of(app)
    failure = app.get("lastTaskFailure")
    if given.task is not None:
        if failure is not None and failure["taskId"] == given.task:
            tasks.setdefault(failure["taskId"], failure["slaveId"])
        if given.task not in tasks:
            raise NotFoundError(f"{app['id']} has no task {given.task}")
        tasks = {given.task: tasks[given.task]}
    elif not tasks and failure is not None:
        tasks = {failure["taskId"]: failure["slaveId"]}
    master = given.master or _master(given.marathon)
    sandboxes = [find_sandbox(master, *item) for item in tasks.items()]
    name = "stderr" if given.stderr else "stdout"
    ends = {}
    for sandbox in sandboxes:
        prefix = f"{sandbox.task_id}: " if len(sandboxes) > 1 else ""
        ends[sandbox] = (_tail(sandbox, name, given.lines, prefix), prefix)
    pause = threading.Event()
    while given.follow:
        pause.wait(LOOK_SECONDS)
        for sandbox, (offset, prefix) in ends.items():
            text, begin = sandbox.read(name, offset, MOST_BYTES)
            _write(text, prefix)
            ends[sandbox] = (begin + len(text.encode()), prefix)


def _tail(sandbox: Sandbox, name: str, lines: int, prefix: str) -> int:
    """Print the last lines of a file; return where it ends, in bytes."""
    _, size = sandbox.read(name, -1, 0)
    text, begin = sandbox.read(name, max(0, size - TAIL_BYTES), TAIL_BYTES)
    last = text.splitlines(keepends=True)[-lines:] if lines > 0 else []
    _write("".join(last), prefix)
    return begin + len(text.encode())


def _write(text: str, prefix: str) -> None:
    for line in text.splitlines(keepends=True):
        sys.stdout.write(prefix + line)
    sys.stdout.flush()


def _master(marathon: str) -> str:
    """Return the address of the master that Marathon is with, or the first that it was told."""
    config = call(marathon, "GET", "/v2/info")["marathon_config"]
    first = str(config.get("mesos_leader_ui_url") or config["master"]).split(",")[0]
    if first.startswith("zk://"):
        raise InvalidError(f"{first}: Marathon does not say which master leads; give --master")
    return first if first.startswith("http") else f"http://{first}"


def _app_or_pod(given: argparse.Namespace) -> Mapping[str, Any]:
    """Return an app, or the status of a pod, which has a ``spec``; raise NotFoundError."""
    try:
        app: Mapping[str, Any] = call(given.marathon, "GET", _path(given.id))["app"]
    except NotFoundError:
        pod = status_of(given.marathon, given.id)
        if pod is None:
            raise
        return pod
    return app


def _absolute(id: str) -> str:
    return "/" + id.strip("/")


def _path(id: str, kind: str = "apps") -> str:
    return f"/v2/{kind}" + urllib.parse.quote(_absolute(id))


def _read(name: str) -> object:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        return json.loads(text)
    except OSError as error:
        raise InvalidError(f"{name}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidError(f"{name}: {error}") from error


VERBS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "deploy": _deploy,
    "list": _list,
    "show": _show,
    "scale": _scale,
    "restart": _restart,
    "delete": _delete,
    "logs": _logs,
}
