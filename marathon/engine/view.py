"""Apps, tasks, deployments and the queue as clients read them (reference marathon §2.2 to §2.7)."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from statistics import mean, median
from typing import Any

import msgspec

from phalanx.marathon.definition.render import render_app, render_pod
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
from phalanx.marathon.schedule.service_port import service_ports
from phalanx.mesos.v1.mesos import Attribute, CheckStatusInfo, Offer, Resource, TaskState

LEAST_RENDERED = 100

Holders = Mapping[str, Sequence[str]]


def app_view(
    board: Board, app: App, *, embed: Collection[str] = (), deployments: Holders | None = None
) -> dict[str, Any]:
    """Return an app; *embed* has names of what is to be shown with it.

    These are ``counts``, ``deployments``, ``tasks``, ``lastTaskFailure``,
    ``taskStats`` and ``readiness``. *deployments* says which hold each app, for
    who shows many; without it they are looked for.
    """
    view = _rendered(board, app)
    if "deployments" in embed:
        holders = holders_of(board) if deployments is None else deployments
        view["deployments"] = [{"id": deployment_id} for deployment_id in holders.get(app.id, ())]
    if not {"counts", "tasks", "taskStats"} & set(embed):
        launched: Sequence[Instance] = ()
    else:
        launched = [i for i in board.ledger.instances_of(app.id) if i.launched is not None]
    if "counts" in embed:
        view |= {
            f"tasks{name.capitalize()}": count for name, count in _counts(board, launched).items()
        }
    if "tasks" in embed:
        view["tasks"] = [task_view(board, instance) for instance in launched]
    if "readiness" in embed:
        view["readinessCheckResults"] = readiness_view(board, app.id)
    failure = board.ledger.failures.get(app.id)
    if "lastTaskFailure" in embed and failure is not None:
        view["lastTaskFailure"] = msgspec.to_builtins(failure)
    if "taskStats" in embed:
        view["taskStats"] = _statistics(board, app, launched)
    return view


def _rendered(board: Board, app: App) -> dict[str, Any]:
    """Return the definition of an app, rendered once for all who read it; only its top is new."""
    known = board.rendered.get(app.id)
    if known is None or known[0] is not app:
        if len(board.rendered) > 2 * len(board.ledger.apps) + LEAST_RENDERED:
            board.rendered.clear()  # of apps that are no more
        known = board.rendered[app.id] = app, render_app(app)
    return dict(known[1])


def holders_of(board: Board) -> Holders:
    """Return for each app the ids of the deployments that hold it."""
    found: dict[str, list[str]] = {}
    for deployment in board.ledger.deployments.values():
        for app_id in deployment.app_ids:
            found.setdefault(app_id, []).append(deployment.id)
    return found


def _counts(board: Board, launched: Sequence[Instance]) -> dict[str, int]:
    """Count an app's tasks; only what runs is healthy or not, so neither is above ``running``."""
    states = Counter(i.launched.state for i in launched if i.launched is not None)
    running = [i for i in launched if i.launched and i.launched.state is TaskState.TASK_RUNNING]
    checked = [results for i in running if (results := board.health.get(i.task_id))]
    sick = sum(any(not health.alive for health in results.values()) for results in checked)
    return {
        "staged": states[TaskState.TASK_STAGING],
        "running": states[TaskState.TASK_RUNNING],
        "healthy": len(checked) - sick,
        "unhealthy": sick,
    }


def _statistics(board: Board, app: App, launched: Sequence[Instance]) -> dict[str, Any]:
    """Return counts and ages of an app's tasks, in all and by version (reference §2.2)."""
    scaled = app.version if app.version_info is None else app.version_info.last_scaling_at
    parts = {
        "startedAfterLastScaling": [i for i in launched if i.version >= scaled],
        "withLatestConfig": [i for i in launched if i.version >= app.config_version],
        "withOutdatedConfig": [i for i in launched if i.version < app.config_version],
        "totalSummary": list(launched),
    }
    return {name: {"stats": _summary(board, part)} for name, part in parts.items() if part}


def _summary(board: Board, part: Sequence[Instance]) -> dict[str, Any]:
    now = board.clock()
    ages = [
        now - i.launched.started_at
        for i in part
        if i.launched is not None and i.launched.started_at is not None
    ]
    summary: dict[str, Any] = {"counts": _counts(board, part)}
    if ages:
        summary["lifeTime"] = {"averageSeconds": mean(ages), "medianSeconds": median(ages)}
    return summary


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
        "localVolumes": local_volumes(instance),
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


def local_volumes(instance: Instance) -> list[dict[str, Any]]:
    """Return the volumes that an instance keeps."""
    kept = () if instance.reservation is None else instance.reservation.volumes
    return [
        {
            "runSpecId": instance.app_id,
            "containerPath": volume.container_path,
            "uuid": volume.persistence_id.rpartition("#")[2],
            "persistenceId": volume.persistence_id,
        }
        for volume in kept
    ]


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
    app = board.ledger.apps.get(app_id)
    if app is None or not app.readiness_checks:
        return []
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
    return [
        _queue_item(board, spec, len(instances), with_offers=with_offers)
        for spec, instances in board.waiting()
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
                "offer": _offer_view(rejection.offer),
                "timestamp": moment(at),
                "reason": [rejection.reason.value],
            }
            for rejection, at in tally.latest.values()
        ]
    return item


def _offer_view(offer: Offer) -> dict[str, Any]:
    return {
        "id": offer.id.value,
        "agentId": offer.agent_id.value,
        "hostname": offer.hostname,
        "resources": [{"role": r.role or "*", **_valued(r)} for r in offer.resources],
        "attributes": [_valued(attribute) for attribute in offer.attributes],
    }


def _valued(named: Resource | Attribute) -> dict[str, Any]:
    """Return the name and the value of a resource or an attribute, without what wraps it."""
    view: dict[str, Any] = {"name": named.name}
    if named.scalar is not None:
        view["scalar"] = named.scalar.value
    if named.ranges is not None:
        view["ranges"] = [{"begin": r.begin, "end": r.end} for r in named.ranges.range]
    if named.set is not None:
        view["set"] = list(named.set.item)
    if isinstance(named, Attribute) and named.text is not None:
        view["text"] = named.text.value
    return view


def _funnel(declined: Counter[Reason], processed: int) -> list[dict[str, Any]]:
    """Return the reasons in order, each with how many offers got as far as its test."""
    stages = []
    for reason in Reason:
        stages.append(
            {"reason": reason.value, "declined": declined[reason], "processed": processed}
        )
        processed -= declined[reason]
    return stages
