"""``/v2/pods`` (reference marathon §2.5)."""

from aiohttp import web

from phalanx.core.error import ConflictError, NotFoundError
from phalanx.marathon.api.answer import (
    BadRequestError,
    as_json,
    body_of,
    flag,
    origin_of,
)
from phalanx.marathon.api.desk import Desk, desk_of
from phalanx.marathon.definition.parse import as_object
from phalanx.marathon.definition.pod import parse_pod
from phalanx.marathon.definition.render import render_pod
from phalanx.marathon.engine.pod_view import instance_view, pod_status_view
from phalanx.marathon.model.deployment import Deployment
from phalanx.marathon.model.group import Root
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.model.path import absolute
from phalanx.marathon.model.pod import Pod
from phalanx.marathon.schedule.pod_planning import PodEdit, Pods

_POD = "/v2/pods/{id:[^:]+}"


def routes() -> list[web.RouteDef]:
    """Return the routes of pods."""
    return [
        web.get("/v2/pods/::status", list_statuses),
        web.get("/v2/pods{slash:/*}", list_pods),  # HEAD of it says that there are pods
        web.post("/v2/pods{slash:/*}", create_pod),
        web.get(f"{_POD}::status", get_status),
        web.get(f"{_POD}::versions", list_versions),
        web.get(f"{_POD}::versions/{{version:.+}}", get_version),
        web.delete(f"{_POD}::instances", delete_instances),
        web.delete(f"{_POD}::instances/{{instance:.+}}", delete_instance),
        web.get(_POD, get_pod),
        web.put(_POD, update_pod),
        web.delete(_POD, delete_pod),
    ]


async def list_pods(request: web.Request) -> web.Response:
    """Answer every pod, a bare list."""
    return as_json(
        [render_pod(pod) for _, pod in sorted(desk_of(request).board.ledger.pods.items())]
    )


async def create_pod(request: web.Request) -> web.Response:
    """Create a pod."""
    desk = desk_of(request)
    pod = parse_pod(await body_of(request), default_network=desk.default_network)

    def edit(pods: Pods) -> Pods:
        if pod.id in pods:
            raise ConflictError(f"A pod with id [{pod.id}] already exists.")
        return {**pods, pod.id: pod}

    deployment = await _change(request, desk, edit)
    return _answer(desk, pod, deployment, status=201, headers={"Location": f"/v2/pods{pod.id}"})


async def get_pod(request: web.Request) -> web.Response:
    """Answer one pod."""
    return as_json(render_pod(_existing(request)))


async def update_pod(request: web.Request) -> web.Response:
    """Replace the definition of a pod, or create it."""
    desk, pod_id = desk_of(request), _id(request)
    body = {"id": pod_id, **as_object(await body_of(request))}
    pod = parse_pod(body, default_network=desk.default_network)
    if pod.id != pod_id:
        raise BadRequestError(f"'{pod_id}' definition attempted as '{pod.id}'")
    deployment = await _change(request, desk, lambda pods: {**pods, pod.id: pod})
    return _answer(desk, pod, deployment)


async def delete_pod(request: web.Request) -> web.Response:
    """Delete a pod."""
    desk, pod_id = desk_of(request), _id(request)

    def edit(pods: Pods) -> Pods:
        if pod_id not in pods:
            raise NotFoundError(f"Pod '{pod_id}' does not exist")
        return {key: pod for key, pod in pods.items() if key != pod_id}

    deployment = await _change(request, desk, edit)
    return web.Response(status=202, headers={"Marathon-Deployment-Id": deployment.id})


async def list_statuses(request: web.Request) -> web.Response:
    """Answer how every pod does."""
    board = desk_of(request).board
    return as_json([pod_status_view(board, pod) for _, pod in sorted(board.ledger.pods.items())])


async def get_status(request: web.Request) -> web.Response:
    """Answer how one pod does."""
    return as_json(pod_status_view(desk_of(request).board, _existing(request)))


async def list_versions(request: web.Request) -> web.Response:
    """Answer the versions of a pod, newest first."""
    pod = _existing(request)
    return as_json(await desk_of(request).board.ledger.versions(pod.id))


async def get_version(request: web.Request) -> web.Response:
    """Answer a pod as it was in one version."""
    pod, version = _existing(request), request.match_info["version"]
    ledger = desk_of(request).board.ledger
    # A version is one segment of a key; whatever else is asked for can't be there.
    found = None if "/" in version else await ledger.pod_version(pod.id, version)
    if found is None:
        raise NotFoundError(f"Pod '{pod.id}' does not exist in version {version}")
    return as_json(render_pod(found))


async def delete_instance(request: web.Request) -> web.Response:
    """Kill one instance of a pod; another takes its place."""
    pod, instance_id = _existing(request), request.match_info["instance"]
    found = _instances(request, pod, [instance_id])
    if not found:
        raise NotFoundError(f"Instance '{instance_id}' of pod '{pod.id}' does not exist")
    [view] = await _kill(request, pod, found)
    return as_json(view)


async def delete_instances(request: web.Request) -> web.Response:
    """Kill the instances whose ids the body lists; unknown ones are ignored."""
    pod, ids = _existing(request), await body_of(request)
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise BadRequestError("Please specify a list of instance ids")
    return as_json(await _kill(request, pod, _instances(request, pod, ids)))


async def _change(request: web.Request, desk: Desk, edit: PodEdit) -> Deployment:
    force = flag(request, "force")
    return await desk.orders.change(_as_is, origin_of(request), force=force, pods=edit)


def _as_is(root: Root) -> Root:
    return root


def _answer(
    desk: Desk,
    pod: Pod,
    deployment: Deployment,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> web.Response:
    stored = desk.board.ledger.pods.get(pod.id, pod)
    told = {"Marathon-Deployment-Id": deployment.id, **(headers or {})}
    return as_json(render_pod(stored), status=status, headers=told)


def _id(request: web.Request) -> str:
    return absolute("/" + request.match_info["id"])


def _existing(request: web.Request) -> Pod:
    pod_id = _id(request)
    found = desk_of(request).board.ledger.pods.get(pod_id)
    if found is None:
        raise NotFoundError(f"Pod '{pod_id}' does not exist")
    return found


def _instances(request: web.Request, pod: Pod, ids: list[str]) -> list[Instance]:
    known = {i.id: i for i in desk_of(request).board.ledger.instances_of(pod.id)}
    return [known[id] for id in dict.fromkeys(ids) if id in known]


async def _kill(request: web.Request, pod: Pod, found: list[Instance]) -> list[dict[str, object]]:
    desk = desk_of(request)
    views = [instance_view(desk.board, pod, instance) for instance in found]
    await desk.orders.kill(found, wipe=flag(request, "wipe"))
    return views
