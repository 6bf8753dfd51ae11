"""Follow deployments to their end: what each does now, and why nothing moves."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from phalanx.cli.client import call
from phalanx.core.error import NotFoundError, UnavailableError

POLL_SECONDS = 0.25
PATIENCE_SECONDS = 30.0  # of a Marathon that does not answer, or whose leader changes


@dataclass(frozen=True, slots=True)
class Progress:
    """What is said of a deployment at one moment."""

    step: int
    steps: int
    actions: tuple[str, ...]
    apps: tuple[str, ...]

    def line(self) -> str:
        """Return one line for people."""
        doing = ", ".join(self.actions) or "waits"
        apps = "; ".join(self.apps)
        return f"step {self.step} of {self.steps}: {doing}" + (f"  [{apps}]" if apps else "")


def progress_of(deployment: Mapping[str, Any], apps: Iterable[Mapping[str, Any]]) -> Progress:
    """Say what a deployment does; *apps* are those that it affects, as Marathon shows them."""
    actions = tuple(
        f"{action['action']} {action.get('app') or action.get('pod')}"
        for action in deployment.get("currentActions", ())
    )
    return Progress(
        deployment.get("currentStep", 0),
        deployment.get("totalSteps", 0),
        actions,
        tuple(counts_of(app) for app in apps),
    )


def counts_of(app: Mapping[str, Any]) -> str:
    """Return how many instances of an app are there, of how many."""
    words = [f"{app['id']} {app.get('tasksRunning', 0)}/{app.get('instances', 0)} running"]
    if app.get("healthChecks"):
        words.append(f"{app.get('tasksHealthy', 0)} healthy")
    if app.get("tasksStaged"):
        words.append(f"{app['tasksStaged']} staged")
    return ", ".join(words)


def reasons_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return why an app of the launch queue waits."""
    delay = entry.get("delay", {})
    found = []
    if not delay.get("overdue", True):
        found.append(f"backs off for {delay.get('timeLeftSeconds', 0)} s after failures")
    offers = entry.get("processedOffersSummary", {})
    found += [
        f"{item['declined']} of {item['processed']} offers: {item['reason']}"
        for item in offers.get("rejectSummaryLastOffers", ())
        if item.get("declined")
    ]
    if not found and not offers.get("processedOffersCount"):
        found.append("no offers have come")
    return tuple(found)


def follow(
    marathon: str, deployment_id: str, console: Console, *, timeout_seconds: float | None
) -> None:
    """Print what changes until the deployment is over.

    Raises UnavailableError when it is not over in time; it goes on by itself.
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    said: Progress | None = None
    for deployment in _moments(marathon, deployment_id):
        apps = [app for id in deployment["affectedApps"] for app in _app(marathon, id)]
        now = progress_of(deployment, apps)
        if now != said:
            console.print(now.line(), highlight=False, markup=False, soft_wrap=True)
            said = now
        if deadline is not None and time.monotonic() > deadline:
            why = "\n  ".join(waiting(marathon, deployment["affectedApps"]))
            raise UnavailableError(
                f"deployment {deployment_id} is not over after {timeout_seconds:g} s; it goes on"
                + (f"\n  {why}" if why else "")
            )


def waiting(marathon: str, app_ids: Iterable[str]) -> list[str]:
    """Return why instances of these apps wait, a line a reason."""
    wanted = set(app_ids)
    queue = call(marathon, "GET", "/v2/queue")["queue"]
    return [
        f"{entry['app']['id']}: {entry['count']} wait: {reason}"
        for entry in queue
        if entry.get("app", {}).get("id") in wanted
        for reason in reasons_of(entry)
    ]


def _moments(marathon: str, deployment_id: str) -> Iterator[Mapping[str, Any]]:
    """Yield the deployment as it is, again and again while it is there."""
    pause = threading.Event()
    silent_since: float | None = None
    while True:
        try:
            running = call(marathon, "GET", "/v2/deployments")
            silent_since = None
        except UnavailableError:
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > PATIENCE_SECONDS:
                raise
            pause.wait(POLL_SECONDS)
            continue
        found = next((item for item in running if item["id"] == deployment_id), None)
        if found is None:
            return
        yield found
        pause.wait(POLL_SECONDS)


def _app(marathon: str, app_id: str) -> list[Mapping[str, Any]]:
    try:
        return [call(marathon, "GET", f"/v2/apps{app_id}")["app"]]
    except NotFoundError:
        return []  # it is being deleted
