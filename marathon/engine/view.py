"""Apps, tasks, deployments and the queue as clients read them (reference marathon §2.2 to §2.7)."""

from collections import Counter
from collections.abc import Collection
from typing import Any

import msgspec

from phalanx.marathon.definition.pod_render import render_pod
from phalanx.marathon.definition.render import render_app
from phalanx.marathon.definition.service_port import service_ports
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.story import action_view, addresses_of, steps_of
from phalanx.marathon.engine.tally import Tally
from phalanx.marathon.model.app import App
from phalanx.marathon.model.deployment import Deployment
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.model.moment import moment
from phalanx.marathon.model.pod import Pod
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.health import Health
from phalanx.marathon.schedule.match import Reason
from phalanx.mesos.v1.mesos import CheckStatusInfo, TaskState


def app_view(board: Board, app: App, *, embed: Collection[str] = ()) -> dict[str, Any]:
    """Return an app with its counts and deployments; *embed*: ``tasks``, ``lastTaskFailure``."""
    launched = [i for i in board.ledger.instances_of(app.id) if i.launched is not None]
    states = Counter(i.launched.state for i in launched if i.launched is not None)
    checked = [list(board.health.get(i.task_id, {}).values()) for i in launched]
    deployments = [d.id for d in board.ledger.deployments.values() if app.id in d.app_ids]
    view = {
        **render_app(app),
        "tasksStaged": states[TaskState.TASK_STAGING],
        "tasksRunning": states[TaskState.TASK_RUNNING],
        "tasksHealthy": sum(bool(r) and all(h.alive for h in r) for r in checked),
        "tasksUnhealthy": sum(any(not h.alive for h in r) for r in checked),
        "deployments": [{"id": deployment_id} for deployment_id in deployments],
    }
    if "tasks" in embed:
        view["tasks"] = [task_view(board, instance) for instance in launched]
    if "readiness" in embed and app.readiness_checks:
        view["readinessCheckResults"] = readiness_view(board, app.id)
    failure = board.ledger.failures.get(app.id)
    if "lastTaskFailure" in embed and failure is not None:
        view["lastTaskFailure"] = msgspec.to_builtins(failure)
    return view


def task_view(board: Board, instance: Instance) -> dict[str, Any]:
    """Return the task of a launched instance."""
    launched, app = instance.launched, board.ledger.apps.get(instance.app_id)
    if launched is None:
        raise ValueError(f"{instance.id} has no task")
    results = board.health.get(instance.task_id, {})
    view: dict[str, Any] = {
        "appId": instance.app_id,
        "id": instance.task_id,
        "host": launched.hostname,
        "state": launched.state.value,
        "ports": list(launched.host_ports),
        "servicePorts": [] if app is None else list(service_ports(app)),
        "ipAddresses": addresses_of(launched.addresses),
        "slaveId": launched.agent_id,
        "stagedAt": moment(launched.staged_at),
        "version": instance.version,
        "localVolumes": [],
        "healthCheckResults": [_health_view(instance, results[i]) for i in sorted(results)],
        "role": launched.role,
    }
    for name, place in (("region", launched.region), ("zone", launched.zone)):
        if place is not None:
            view[name] = place
    check = board.checks.get(instance.task_id)
    if check is not None:
        view["checkResult"] = _check_view(check)
    if launched.started_at is not None:
        view["startedAt"] = moment(launched.started_at)
    return view


def _check_view(check: CheckStatusInfo) -> dict[str, Any]:
    """Return what a check last told; nothing in it before its first result."""
    if check.http is not None and check.http.status_code is not None:
        return {"http": {"statusCode": check.http.status_code}}
    if check.tcp is not None and check.tcp.succeeded is not None:
        return {"tcp": {"succeeded": check.tcp.succeeded}}
    if check.command is not None and check.command.exit_code is not None:
        return {"command": {"exitCode": check.command.exit_code}}
    return {}


def _health_view(instance: Instance, health: Health) -> dict[str, Any]:
    times = {
        "firstSuccess": health.first_success,
        "lastSuccess": health.last_success,
        "lastFailure": health.last_failure,
    }
    return {
        "alive": health.alive,
        "consecutiveFailures": health.consecutive_failures,
        **{key: None if value is None else moment(value) for key, value in times.items()},
        "lastFailureCause": health.last_failure_cause,
        "instanceId": instance.id,
    }


def readiness_view(board: Board, app_id: str) -> list[dict[str, Any]]:
    """Return what the readiness checks of an app's tasks last found."""
    views = []
    for instance in board.ledger.instances_of(app_id):
        found = board.readiness.get(instance.task_id)
        if found is None:
            continue
        view: dict[str, Any] = {
            "name": found.name,
            "taskId": instance.task_id,
            "ready": found.ready,
        }
        if found.reply is not None:
            view["lastResponse"] = {
                "status": found.reply.status,
                "contentType": found.reply.content_type,
                "body": found.reply.body,
            }
        views.append(view)
    return views


def deployment_view(board: Board, deployment: Deployment) -> dict[str, Any]:
    """Return a running deployment."""
    return {
        "id": deployment.id,
        "version": deployment.version,
        "affectedApps": sorted(deployment.app_ids),
        "affectedPods": sorted(deployment.pod_ids),
        "steps": steps_of(deployment),
        "currentActions": [
            {**action_view(action), "readinessCheckResults": readiness_view(board, action.app_id)}
            for action in deployment.actions
        ],
        "currentStep": deployment.step + 1,
        "totalSteps": len(deployment.steps),
    }


def queue_view(board: Board, *, with_offers: bool = False) -> list[dict[str, Any]]:
    """Return every app that waits for offers, and why it still does."""
    counts = Counter(spec.id for spec, _ in board.waiting())
    return [
        _queue_item(board, board.ledger.specs[spec_id], count, with_offers=with_offers)
        for spec_id, count in sorted(counts.items())
    ]


def _queue_item(board: Board, app: Spec, count: int, *, with_offers: bool) -> dict[str, Any]:
    now = board.clock()
    tally = board.tallies.get(app.id) or Tally(now)
    left = max(0.0, board.due(app) - now)
    latest = Counter(rejection.reason for rejection, _ in tally.latest.values())
    summary: dict[str, Any] = {
        "processedOffersCount": tally.processed,
        "unusedOffersCount": tally.unused,
        "rejectSummaryLastOffers": _funnel(latest, len(tally.latest)),
        "rejectSummaryLaunchAttempt": _funnel(tally.reasons, tally.processed),
    }
    times = {"lastUnusedOfferAt": tally.last_unused_at, "lastUsedOfferAt": tally.last_used_at}
    summary |= {key: moment(value) for key, value in times.items() if value is not None}
    definition = {"pod": render_pod(app)} if isinstance(app, Pod) else {"app": render_app(app)}
    item = {
        **definition,
        "count": count,
        "since": moment(tally.since),
        "delay": {"timeLeftSeconds": round(left), "overdue": left <= 0},
        "processedOffersSummary": summary,
    }
    if with_offers:
        item["lastUnusedOffers"] = [
            {
                "offer": {
                    "id": rejection.offer.id.value,
                    "agentId": rejection.offer.agent_id.value,
                    "hostname": rejection.offer.hostname,
                    "resources": msgspec.to_builtins(rejection.offer.resources),
                    "attributes": msgspec.to_builtins(rejection.offer.attributes),
                },
                "timestamp": moment(at),
                "reason": [rejection.reason.value],
            }
            for rejection, at in tally.latest.values()
        ]
    return item


def _funnel(declined: Counter[Reason], processed: int) -> list[dict[str, Any]]:
    """Return the reasons in order, each with how many offers got as far as its test."""
    stages = []
    for reason in Reason:
        stages.append(
            {"reason": reason.value, "declined": declined[reason], "processed": processed}
        )
        processed -= declined[reason]
    return stages


def group_view(board: Board, group: str) -> dict[str, Any]:
    """Return a group with its apps and, below it, its groups."""
    from_here = group.rstrip("/") + "/"
    below = [app for app in board.ledger.apps.values() if app.id.startswith(from_here)]
    direct = [app for app in below if "/" not in app.id[len(from_here) :]]
    children = sorted(
        {app.id[len(from_here) :].split("/")[0] for app in below if app not in direct}
    )
    return {
        "id": group,
        "apps": [app_view(board, app) for app in direct],
        "groups": [group_view(board, from_here + child) for child in children],
        "pods": [],
        "dependencies": [],
        "version": board.ledger.last_version or moment(board.clock()),
    }
