"""All routes in one place."""

from collections.abc import Iterator

import aiohttp
from aiohttp import web

from phalanx.marathon.api import apps, deployments, events, groups, pods, server, tasks
from phalanx.marathon.api.answer import Handler, add_headers, errors_as_json
from phalanx.marathon.api.desk import SEAT, Seat
from phalanx.marathon.api.proxy import SESSION, leader_answers

_APP = "/v2/apps/{id:.+?}"
_GROUP = "/v2/groups/{id:.+}"


def build_app(seat: Seat, session: aiohttp.ClientSession) -> web.Application:
    """Build the REST API of whoever is in *seat*; *session* asks the leader if that is another.

    The session must leave bodies as they are compressed.
    """
    app = web.Application(middlewares=[errors_as_json, leader_answers])
    app[SEAT] = seat
    app[SESSION] = session
    app.on_response_prepare.append(add_headers)
    app.add_routes(
        [
            web.get("/ping", server.ping),
            web.get("/metrics", server.get_metrics),
            web.get("/v2/info", server.get_info),
            web.get("/v2/leader", server.get_leader),
            web.delete("/v2/leader", server.delete_leader),
            web.get("/v2/events", events.stream_events),
            web.get("/v2/apps{slash:/*}", apps.list_apps),
            web.post("/v2/apps{slash:/*}", apps.create_app),
            web.put("/v2/apps{slash:/*}", apps.update_apps),
            web.patch("/v2/apps{slash:/*}", apps.update_apps),
            web.post(f"{_APP}/restart{{slash:/?}}", apps.restart_app),
            web.get(f"{_APP}/tasks{{slash:/?}}", tasks.list_app_tasks),
            web.delete(f"{_APP}/tasks{{slash:/?}}", tasks.delete_app_tasks),
            web.delete(f"{_APP}/tasks/{{task:[^/]+}}", tasks.delete_app_task),
            web.get(f"{_APP}/versions{{slash:/?}}", apps.list_versions),
            web.get(f"{_APP}/versions/{{version:[^/]+}}", apps.get_version),
            web.get("/v2/apps/{id:.+}", apps.get_app),
            web.put("/v2/apps/{id:.+}", apps.update_app),
            web.patch("/v2/apps/{id:.+}", apps.update_app),
            web.delete("/v2/apps/{id:.+}", apps.delete_app),
            web.get("/v2/tasks{slash:/?}", tasks.list_tasks),
            web.post("/v2/tasks/delete{slash:/?}", tasks.delete_tasks),
            web.get("/v2/deployments{slash:/?}", deployments.list_deployments),
            web.delete("/v2/deployments/{deployment}", deployments.delete_deployment),
            web.get("/v2/queue{slash:/?}", deployments.list_queue),
            web.delete("/v2/queue/{id:.+?}/delay", deployments.delete_delay),
            web.get("/v2/groups{slash:/*}", groups.get_group),
            web.post("/v2/groups{slash:/*}", groups.create_group),
            web.put("/v2/groups{slash:/*}", groups.update_group),
            web.patch("/v2/groups{slash:/*}", groups.patch_group),
            web.delete("/v2/groups{slash:/*}", groups.delete_group),
            *_of_group("/apps{slash:/?}", get=groups.list_group_apps),
            *_of_group("/versions{slash:/?}", get=groups.list_group_versions),
            *_of_group(
                "/versions/{version:[^/]+}{slash:/?}",
                get=groups.get_group_version,
                put=groups.restore_group,
            ),
            web.get(_GROUP, groups.get_group),
            web.post(_GROUP, groups.create_group),
            web.put(_GROUP, groups.update_group),
            web.patch(_GROUP, groups.patch_group),
            web.delete(_GROUP, groups.delete_group),
            *pods.routes(),
        ]
    )
    return app


def _of_group(path: str, *, get: Handler, put: Handler | None = None) -> Iterator[web.RouteDef]:
    """Yield the routes of *path* below a group, and below the root."""
    for group in ("/v2/groups", "/v2/groups/{id:.+?}"):
        yield web.get(group + path, get)
        if put is not None:
            yield web.put(group + path, put)
