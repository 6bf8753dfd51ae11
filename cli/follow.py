"""Follow deployments to their end: what each does now, and why nothing moves."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    specs: Sequence[Mapping[str, Any]] = ()
    for last in _moments(marathon, deployment_id):
        specs = _specs(marathon, last)
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
    words = [] if last is None else unfinished(last, specs, _specs(marathon, last))
    if words:
        raise ConflictError(
            f"deployment {deployment_id} ended before it was done: {'; '.join(words)}"
        )


def unfinished(
    deployment: Mapping[str, Any],
    before: Iterable[Mapping[str, Any]],
    now: Iterable[Mapping[str, Any]],
) -> list[str]:
    """Return what a deployment did not bring about, as far as one sees; *now* it is over.

    *before* is what it was for when it was last seen to run: what fell short then, too, was left
    so by its end. An instance missing only since exited by itself.
    """
    short = {spec["id"] for spec in before if _falls_short(spec)}
    return [
        f"{spec['id']} is of version {spec['version']} now"
        if spec["version"] > deployment["version"]
        else counts_of(spec)
        for spec in now
        if spec["version"] > deployment["version"] or (_falls_short(spec) and spec["id"] in short)
    ]


def _falls_short(spec: Mapping[str, Any]) -> bool:
    return bool(spec["tasksRunning"] < spec["instances"])


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
    while True:
        running = _asked(marathon, "/v2/deployments")
        found = next((item for item in running if item["id"] == deployment_id), None)
        if found is None:
            return
        yield found
        pause.wait(POLL_SECONDS)


def _asked(marathon: str, path: str) -> Any:  # noqa: ANN401 - JSON
    """Return what a GET is answered; raise UnavailableError only after 30 s without an answer."""
    pause = threading.Event()
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call(marathon, "GET", path)
        except UnavailableError:
            if time.monotonic() > until:
                raise
        pause.wait(POLL_SECONDS)


def _specs(marathon: str, deployment: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the apps and pods that a deployment affects as they are, but for those deleted."""
    found = [app for id in deployment["affectedApps"] for app in _app(marathon, id)]
    return found + [pod for id in deployment.get("affectedPods", ()) for pod in _pod(marathon, id)]


def _app(marathon: str, app_id: str) -> list[Mapping[str, Any]]:
    try:
        return [_asked(marathon, f"/v2/apps{app_id}")["app"]]
    except NotFoundError:
        return []  # it is being deleted


def _pod(marathon: str, pod_id: str) -> list[Mapping[str, Any]]:
    try:
        return [pod_counts(_asked(marathon, f"/v2/pods{pod_id}::status"))]
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
