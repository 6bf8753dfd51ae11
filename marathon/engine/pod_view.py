"""The status of pods as clients read it (reference marathon §1.10)."""

from typing import Any

from phalanx.marathon.definition.render import render_pod
from phalanx.marathon.engine.board import Board, Termination
from phalanx.marathon.engine.view import local_volumes
from phalanx.marathon.model.instance import Condition, Instance, Launched, Member
from phalanx.marathon.model.moment import moment
from phalanx.marathon.model.pod import Pod, PodContainer
from phalanx.marathon.schedule.pod_status import ENDED
from phalanx.mesos.v1.mesos import TaskState

_STATUS = {
    Condition.SCHEDULED: "PENDING",
    Condition.PROVISIONED: "STAGING",
    Condition.STAGING: "STAGING",
    Condition.STARTING: "STAGING",
    Condition.KILLING: "TERMINAL",
    Condition.UNREACHABLE: "DEGRADED",
    Condition.STOPPED: "TERMINAL",
}


def pod_status_view(board: Board, pod: Pod) -> dict[str, Any]:
    """Return how a pod does, instance by instance."""
    instances = board.ledger.instances_of(pod.id)
    views = [instance_view(board, pod, instance) for instance in instances]
    stable = sum(view["status"] == "STABLE" for view in views)
    if not pod.instances and instances:
        status = "TERMINAL"
    else:
        status = "STABLE" if stable >= pod.instances else "DEGRADED"
    since = [instance.since for instance in instances]
    latest = moment(max(since)) if since else pod.version
    return {
        "id": pod.id,
        "spec": render_pod(pod),
        "status": status,
        "statusSince": latest,
        "instances": views,
        "terminationHistory": [
            _termination_view(end) for end in board.terminations.get(pod.id, ())
        ],
        "lastUpdated": moment(board.clock()),
        "lastChanged": latest,
    }


def instance_view(board: Board, pod: Pod, instance: Instance) -> dict[str, Any]:
    """Return one instance; *pod* is the present definition, which it may be older than."""
    launched = instance.launched
    since = moment(instance.since)
    view: dict[str, Any] = {
        "id": instance.id,
        "status": _status(board, instance),
        "statusSince": since,
        "networks": _networks(pod, launched),
        "containers": [
            _container_view(pod, container, instance, launched, member)
            for container, member in _members(pod, launched)
        ],
        "specReference": f"/v2/pods{pod.id}::versions/{instance.version}",
        "localVolumes": local_volumes(instance),
        "lastUpdated": since,
        "lastChanged": since,
        "role": pod.role if launched is None else launched.role,
        "resources": {"cpus": pod.cpus, "mem": pod.mem, "disk": pod.disk, "gpus": pod.gpus},
    }
    if launched is not None:
        view["agentHostname"], view["agentId"] = launched.hostname, launched.agent_id
        for key, place in (("agentRegion", launched.region), ("agentZone", launched.zone)):
            if place is not None:
                view[key] = place
    return view


def _status(board: Board, instance: Instance) -> str:
    if instance.condition is Condition.RUNNING:
        return "STABLE" if board.is_healthy(instance) else "DEGRADED"
    return _STATUS[instance.condition]


def _members(pod: Pod, launched: Launched | None) -> list[tuple[PodContainer, Member]]:
    """Return the containers of an instance that the present definition still has."""
    known = {container.name: container for container in pod.containers}
    members = () if launched is None else launched.members
    return [(known[member.name], member) for member in members if member.name in known]


def _networks(pod: Pod, launched: Launched | None) -> list[dict[str, Any]]:
    if launched is None or not launched.addresses:
        return []
    names = [network.name for network in pod.networks if network.name]
    if len(names) == len(launched.addresses):
        pairs = zip(names, launched.addresses, strict=True)
        return [{"name": name, "addresses": [address]} for name, address in pairs]
    view: dict[str, Any] = {"addresses": list(launched.addresses)}
    return [{"name": names[0], **view} if names else view]


def _container_view(
    pod: Pod, container: PodContainer, instance: Instance, launched: Launched | None, member: Member
) -> dict[str, Any]:
    since = moment(member.since)
    asked = container.resources
    view: dict[str, Any] = {
        "name": member.name,
        "status": member.state.value,
        "statusSince": since,
        "conditions": [],
        "containerId": instance.member_id(member.name),
        "endpoints": _endpoints(pod, container, launched, member),
        "resources": {
            "cpus": asked.cpus,
            "mem": asked.mem,
            "disk": asked.disk,
            "gpus": asked.gpus,
        },
        "lastUpdated": since,
        "lastChanged": since,
    }
    if member.message:
        view["message"] = member.message
    if member.healthy is not None:
        view["conditions"] = [
            {
                "name": "healthy",
                "value": str(member.healthy).lower(),
                "reason": "health-reported-by-mesos",
                "lastChanged": since,
                "lastUpdated": since,
            }
        ]
    if member.state in ENDED:
        view["termination"] = _ended(member)
    return view


def _endpoints(
    pod: Pod, container: PodContainer, launched: Launched | None, member: Member
) -> list[dict[str, Any]]:
    told = () if launched is None else launched.endpoint_ports
    ports = dict(zip((e.name for e in pod.endpoints), told, strict=False))
    views: list[dict[str, Any]] = []
    for endpoint in container.endpoints:
        view: dict[str, Any] = {"name": endpoint.name}
        if ports.get(endpoint.name) is not None:
            view["allocatedHostPort"] = ports[endpoint.name]
        if member.healthy is not None:
            view["healthy"] = member.healthy
        views.append(view)
    return views


def _ended(member: Member) -> dict[str, Any]:
    view: dict[str, Any] = {"message": member.message}
    if member.exit_status is not None or member.state is TaskState.TASK_FINISHED:
        view["exitCode"] = member.exit_status or 0
    return view


def _termination_view(end: Termination) -> dict[str, Any]:
    launched = end.instance.launched
    view: dict[str, Any] = {
        "instanceID": end.instance.id,
        "startedAt": moment(end.at if launched is None else launched.staged_at),
        "terminatedAt": moment(end.at),
        "containers": [
            {
                "containerId": end.instance.member_id(member.name),
                "lastKnownState": member.state.value,
                "termination": _ended(member),
            }
            for member in (() if launched is None else launched.members)
        ],
    }
    if end.message:
        view["message"] = end.message
    return view
