"""All routes in one place."""

import aiohttp
from aiohttp import web

from phalanx.marathon.api import apps, deployments, events, server, tasks
from phalanx.marathon.api.answer import add_headers, errors_as_json
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
            web.get("/v2/groups{slash:/*}", deployments.get_group),
            web.delete("/v2/groups{slash:/*}", deployments.delete_group),
            web.post("/v2/groups{slash:/*}", deployments.refuse_group_change),
            web.put("/v2/groups{slash:/*}", deployments.refuse_group_change),
            web.get(_GROUP, deployments.get_group),
            web.delete(_GROUP, deployments.delete_group),
            web.post(_GROUP, deployments.refuse_group_change),
            web.put(_GROUP, deployments.refuse_group_change),
            web.patch(_GROUP, deployments.refuse_group_change),
            web.route("*", "/v2/pods{tail:.*}", deployments.refuse_pods),
        ]
    )
    return app
