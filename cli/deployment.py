"""``phalanx deployment``: what Marathon is about to change."""

import argparse
import json
import urllib.parse
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from phalanx.cli.client import add_marathon_flag, call
from phalanx.cli.follow import Progress, Tell, follow, progress_of, teller, waiting
from phalanx.core.error import NotFoundError


def main(arguments: Sequence[str]) -> int:
    """Run one of ``list``, ``watch``, ``rollback``; return the exit status."""
    parser = argparse.ArgumentParser(prog="phalanx deployment", description="Deployments.")
    add_marathon_flag(parser)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="show what is being deployed")
    listing.add_argument("--json", action="store_true", help="print Marathon's own answer")
    watch = verbs.add_parser("watch", help="follow a deployment, or all, until over")
    watch.add_argument("id", nargs="?", help="of a deployment; all that run when left out")
    watch.add_argument("--json", action="store_true", help="print a line of JSON for each change")
    watch.add_argument("--timeout", type=float, metavar="SECONDS", help="give up following")
    rollback = verbs.add_parser("rollback", help="undo a deployment that runs, by its opposite")
    rollback.add_argument("id")
    rollback.add_argument(
        "--stop", action="store_true", help="only stop it, and leave everything where it is"
    )
    rollback.add_argument("--timeout", type=float, metavar="SECONDS", help="give up following")
    given = parser.parse_args(arguments)
    if given.verb == "rollback":
        _rollback(given.marathon, given.id, stop=given.stop, timeout_seconds=given.timeout)
    elif given.verb == "list":
        _list(given.marathon, as_json=given.json)
    else:
        _watch(given.marathon, given.id, timeout_seconds=given.timeout, as_json=given.json)
    return 0


def _list(marathon: str, *, as_json: bool) -> None:
    running = call(marathon, "GET", "/v2/deployments")
    if as_json:
        print(json.dumps(running, indent=2))
        return
    for deployment in running:
        apps = [*deployment["affectedApps"], *deployment.get("affectedPods", ())]
        print(f"{deployment['id']}  since {deployment['version']}: {', '.join(apps)}")
        print(f"  {progress_of(deployment, ()).line()}")
        for line in waiting(marathon, apps):
            print(f"  {line}")


def _rollback(marathon: str, id: str, *, stop: bool, timeout_seconds: float | None) -> None:
    path = f"/v2/deployments/{urllib.parse.quote(id, safe='')}"
    answer = call(marathon, "DELETE", f"{path}?force=true" if stop else path)
    if not stop:  # what undoes it may be over already
        _follow(marathon, answer["deploymentId"], timeout_seconds=timeout_seconds, as_json=False)


def _watch(marathon: str, id: str | None, *, timeout_seconds: float | None, as_json: bool) -> None:
    running = [item["id"] for item in call(marathon, "GET", "/v2/deployments")]
    if id is not None and id not in running:
        raise NotFoundError(f"DeploymentPlan {id} does not exist")
    for deployment_id in running if id is None else [id]:
        _follow(marathon, deployment_id, timeout_seconds=timeout_seconds, as_json=as_json)


def _follow(marathon: str, id: str, *, timeout_seconds: float | None, as_json: bool) -> None:
    console = Console()
    if as_json:
        tell = _json_teller(id)
    else:
        console.print(f"deployment {id}", highlight=False)
        tell = teller(console)
    follow(marathon, id, tell, timeout_seconds=timeout_seconds)
    if as_json:
        print(json.dumps({"deployment": id, "done": True}), flush=True)
    else:
        console.print("done")


def _json_teller(deployment_id: str) -> Tell:
    def tell(now: Progress) -> None:
        print(json.dumps({"deployment": deployment_id, **asdict(now)}), flush=True)

    return tell
