"""``/v2/tasks`` and the tasks of an app: list them, kill them (reference marathon §2.2, §2.3)."""

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec
from aiohttp import web

from phalanx.core.error import NotFoundError
from phalanx.marathon.api.answer import (
    BadRequestError,
    as_json,
    body_of,
    deployed,
    flag,
    origin_of,
)
from phalanx.marathon.api.desk import Desk, desk_of
from phalanx.marathon.engine.orders import of_apps
from phalanx.marathon.engine.view import task_view
from phalanx.marathon.model.instance import Instance, Launched, parse_task_id
from phalanx.marathon.model.path import absolute, is_within
from phalanx.marathon.schedule.planning import Apps
from phalanx.marathon.schedule.service_port import service_ports
from phalanx.mesos.v1.mesos import TaskState

_STATES = {"running": {TaskState.TASK_RUNNING}, "staging": {TaskState.TASK_STAGING}}


async def list_tasks(request: web.Request) -> web.Response:
    """Answer all tasks, or those of the states asked for."""
    board = desk_of(request).board
    asked = [*request.query.getall("status", []), *request.query.getall("status[]", [])]
    states = set().union(*(_STATES.get(name, set()) for name in asked))
    chosen = [
        instance
        for instance in board.ledger.instances()
        if instance.launched is not None and (not asked or instance.launched.state in states)
    ]
    return _listed(request, chosen)


def _listed(request: web.Request, chosen: Sequence[Instance]) -> web.Response:
    board = desk_of(request).board
    accept = request.headers.get("Accept", "")
    if "text/plain" in accept and "json" not in accept:
        asked = request.query.getall("containerNetworks", [])
        direct = {name for names in asked for name in names.split(",")}
        return web.Response(text=_lines(board.ledger.apps, chosen, direct))
    return as_json({"tasks": [task_view(board, instance) for instance in chosen]})


def _lines(apps: Apps, chosen: Sequence[Instance], direct: Collection[str]) -> str:
    """Return a line for each port of an app: its name, its service port, where it is served.

    On the networks *direct* tasks are reached by their own addresses.
    """
    served: dict[str, list[Launched]] = {}
    for instance in chosen:
        if instance.launched is not None and instance.app_id in apps:
            served.setdefault(instance.app_id, []).append(instance.launched)
    lines = []
    for app_id, launched in sorted(served.items()):
        name = app_id.strip("/").replace("/", "_")
        app = apps[app_id]
        ports, is_direct = service_ports(app), bool({*app.network_names} & {*direct})
        for index, port in enumerate(ports):
            if is_direct:
                where = [
                    f"{one.addresses[0]}:{_port(one.ports, index)}"
                    for one in launched
                    if one.addresses
                ]
            else:
                where = [f"{one.hostname}:{_port(one.host_ports, index)}" for one in launched]
            lines.append("\t".join([name, str(port), " ".join(where)]))
        if not ports:
            lines.append("\t".join([name, " ", " ".join(one.hostname for one in launched)]))
    return "".join(f"{line}\n" for line in lines)


def _port(ports: Sequence[int], index: int) -> int:
    """Return a task's port, 0 if it has none there: it may be older than its app's definition."""
    return ports[index] if index < len(ports) else 0


async def delete_tasks(request: web.Request) -> web.Response:
    """Kill the tasks whose ids the body lists; unknown ones are ignored."""
    desk, body = desk_of(request), await body_of(request)
    ids = body.get("ids") if isinstance(body, dict) else None
    if not isinstance(ids, list) or not all(isinstance(task_id, str) for task_id in ids):
        raise BadRequestError('Please specify {"ids": [task ids]}')
    found = []
    for task_id in dict.fromkeys(ids):
        parsed = parse_task_id(task_id)
        if parsed is None:
            raise BadRequestError(f"Invalid task id '{task_id}'")
        instance = desk.board.ledger.instance(parsed[0])
        if instance is not None and instance.task_id == task_id and instance.launched is not None:
            found.append(instance)
    return await _kill(request, desk, found)


async def list_app_tasks(request: web.Request) -> web.Response:
    """Answer the tasks of an app, or with ``/*`` of a group."""
    return _listed(request, _launched(request))


async def delete_app_tasks(request: web.Request) -> web.Response:
    """Kill the tasks of an app, or those on one host."""
    host = request.query.get("host", "*")
    chosen = [i for i in _launched(request) if i.launched and host in ("*", i.launched.hostname)]
    return await _kill(request, desk_of(request), chosen)


async def delete_app_task(request: web.Request) -> web.Response:
    """Kill one task of an app."""
    task_id = request.match_info["task"]
    for instance in _launched(request):
        if task_id in (instance.task_id, instance.id):
            return await _kill(request, desk_of(request), [instance], is_single=True)
    raise NotFoundError(f"Task '{task_id}' does not exist")


def _launched(request: web.Request) -> list[Instance]:
    """Return the launched instances of the app, or the group, that the URL names."""
    ledger, path = desk_of(request).board.ledger, absolute(request.match_info["id"])
    if path.endswith("/*"):
        apps = [app_id for app_id in ledger.apps if is_within(app_id, absolute(path[:-1]))]
    elif path in ledger.apps:
        apps = [path]
    else:
        raise NotFoundError(f"App '{path}' does not exist")
    return [i for app_id in apps for i in ledger.instances_of(app_id) if i.launched is not None]


async def _kill(
    request: web.Request, desk: Desk, chosen: Sequence[Instance], *, is_single: bool = False
) -> web.Response:
    scale = flag(request, "scale")
    if scale and flag(request, "wipe"):
        raise BadRequestError("You cannot use scale and wipe at the same time.")
    if not scale:
        views = [task_view(desk.board, instance) for instance in chosen]
        await desk.orders.kill(chosen, wipe=flag(request, "wipe"))
        return as_json({"task": views[0]} if is_single else {"tasks": views})
    fewer = Counter(instance.app_id for instance in chosen)

    def edit(apps: Apps) -> Apps:
        scaled = {
            app_id: msgspec.structs.replace(
                apps[app_id], instances=max(0, apps[app_id].instances - count)
            )
            for app_id, count in fewer.items()
            if app_id in apps
        }
        return {**apps, **scaled}

    deployment = await desk.orders.change(
        of_apps(edit), origin_of(request), force=flag(request, "force"), sentenced=chosen
    )
    return deployed(deployment)
