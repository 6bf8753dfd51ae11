"""Follow deployments to their end: what each does now, and why nothing moves."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from phalanx.cli.client import call
from phalanx.core.error import ConflictError, NotFoundError, UnavailableError

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


Tell = Callable[[Progress], None]


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


def teller(console: Console) -> Tell:
    """Return what prints each change for people."""

    def tell(now: Progress) -> None:
        console.print(now.line(), highlight=False, markup=False, soft_wrap=True)

    return tell


def follow(marathon: str, deployment_id: str, tell: Tell, *, timeout_seconds: float | None) -> None:
    """Tell what changes until the deployment is over.

    Raises UnavailableError when it is not over in time, it goes on by itself then, and
    ConflictError when something else took its place before it was done.
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    said: Progress | None = None
    last: Mapping[str, Any] | None = None
    for last in _moments(marathon, deployment_id):
        specs = [app for id in last["affectedApps"] for app in _app(marathon, id)]
        specs += [pod for id in last.get("affectedPods", ()) for pod in _pod(marathon, id)]
        now = progress_of(last, specs)
        if now != said:
            tell(now)
            said = now
        if deadline is not None and time.monotonic() > deadline:
            ids = [*last["affectedApps"], *last.get("affectedPods", ())]
            why = "\n  ".join(waiting(marathon, ids))
            raise UnavailableError(
                f"deployment {deployment_id} is not over after {timeout_seconds:g} s; it goes on"
                + (f"\n  {why}" if why else "")
            )
    if last is not None:
        _check_end(marathon, last)


def _check_end(marathon: str, deployment: Mapping[str, Any]) -> None:
    """Raise ConflictError unless what a deployment was for has come about, as far as one sees."""
    found = [app for id in deployment["affectedApps"] for app in _app(marathon, id)]
    found += [pod for id in deployment.get("affectedPods", ()) for pod in _pod(marathon, id)]
    words = [
        f"{spec['id']} is of version {spec['version']} now"
        if spec["version"] > deployment["version"]
        else counts_of(spec)
        for spec in found
        if spec["version"] > deployment["version"] or spec["tasksRunning"] < spec["instances"]
    ]
    if words:
        raise ConflictError(
            f"deployment {deployment['id']} ended before it was done: {'; '.join(words)}"
        )


def waiting(marathon: str, app_ids: Iterable[str]) -> list[str]:
    """Return why instances of these apps wait, a line a reason."""
    wanted = set(app_ids)
    queue = call(marathon, "GET", "/v2/queue")["queue"]
    return [
        f"{spec['id']}: {entry['count']} wait: {reason}"
        for entry in queue
        if (spec := entry.get("app") or entry.get("pod") or {}).get("id") in wanted
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


def _pod(marathon: str, pod_id: str) -> list[Mapping[str, Any]]:
    try:
        return [pod_counts(call(marathon, "GET", f"/v2/pods{pod_id}::status"))]
    except NotFoundError:
        return []  # it is being deleted


def pod_counts(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the status of a pod with the counts of an app: stable instances count as running."""
    states = [instance["status"] for instance in status["instances"]]
    return {
        "id": status["id"],
        "version": status["spec"]["version"],
        "instances": status["spec"]["scaling"]["instances"],
        "tasksRunning": states.count("STABLE"),
        "tasksStaged": states.count("STAGING"),
    }
