"""All routes in one place."""

from collections.abc import Iterator

import aiohttp
from aiohttp import web

from phalanx.core.verbosity import Verbosity
from phalanx.marathon.api import (
    apps,
    deployments,
    events,
    groups,
    metrics,
    page,
    pods,
    server,
    tasks,
)
from phalanx.marathon.api.answer import Handler, add_headers, compressed, errors_as_json
from phalanx.marathon.api.desk import SEAT, Seat
from phalanx.marathon.api.guard import POLICY, authenticated
from phalanx.marathon.api.metrics import METERS, Meters, measured
from phalanx.marathon.api.proxy import SESSION, leader_answers
from phalanx.marathon.policy import Policy

MAX_BODY_BYTES = 8 * 1024 * 1024
_APP = "/v2/apps/{id:.+?}"
_DEPLOYMENT = "/v2/deployments/{deployment:[^/]+}{slash:/?}"
_GROUP_OF = "/v2/groups/{id:.+?}"
_GROUP = "/v2/groups/{id:.+}"


def build_app(
    seat: Seat, session: aiohttp.ClientSession, policy: Policy | None = None
) -> web.Application:
    """Build the REST API of whoever is in *seat*; *session* asks the leader if that is another.

    The session must leave bodies as they are compressed. *policy* says whom to
    answer; without one, everybody.
    """
    app = web.Application(
        middlewares=[measured, compressed, errors_as_json, authenticated, leader_answers],
        client_max_size=MAX_BODY_BYTES,
    )
    app[SEAT] = seat
    app[SESSION] = session
    app[POLICY] = policy or Policy()
    app[METERS] = Meters()
    app[server.VERBOSITY] = Verbosity()
    app.on_response_prepare.append(add_headers)
    app.add_routes(
        [
            web.get("/", page.to_page),
            web.get("/ui", page.to_page),
            web.get("/ui/", page.get_page),
            web.get("/help{slash:/?}", page.get_help),
            web.get("/ping{slash:/?}", server.ping),
            web.get("/metrics{slash:/?}", metrics.get_metrics),
            web.get("/metrics/prometheus{slash:/?}", metrics.get_prometheus),
            web.get("/logging{slash:/?}", server.get_logging),
            web.post("/logging{slash:/?}", server.set_logging),
            web.get("/config{slash:/?}", server.get_config),
            web.get("/v2/info{slash:/?}", server.get_info),
            web.get("/v2/leader{slash:/?}", server.get_leader),
            web.delete("/v2/leader{slash:/?}", server.delete_leader),
            web.get("/v2/plugins{slash:/?}", server.list_plugins),
            # A HEAD of a stream would never end.
            web.get("/v2/events{slash:/?}", events.stream_events, allow_head=False),
            web.get("/v2/apps{slash:/*}", apps.list_apps),
            web.post("/v2/apps{slash:/*}", apps.create_app),
            web.put("/v2/apps{slash:/*}", apps.update_apps),
            web.patch("/v2/apps{slash:/*}", apps.update_apps),
            web.post(f"{_APP}/restart{{slash:/?}}", apps.restart_app),
            web.get(f"{_APP}/tasks{{slash:/?}}", tasks.list_app_tasks),
            web.delete(f"{_APP}/tasks{{slash:/?}}", tasks.delete_app_tasks),
            web.delete(f"{_APP}/tasks/{{task:[^/]+}}{{slash:/?}}", tasks.delete_app_task),
            web.get(f"{_APP}/versions{{slash:/?}}", apps.list_versions),
            web.get(f"{_APP}/versions/{{version:[^/]+}}{{slash:/?}}", apps.get_version),
            web.get("/v2/apps/{id:.+}", apps.get_app),
            web.put("/v2/apps/{id:.+}", apps.update_app),
            web.patch("/v2/apps/{id:.+}", apps.update_app),
            web.delete("/v2/apps/{id:.+}", apps.delete_app),
            web.get("/v2/tasks{slash:/?}", tasks.list_tasks),
            web.post("/v2/tasks/delete{slash:/?}", tasks.delete_tasks),
            web.get("/v2/deployments{slash:/?}", deployments.list_deployments),
            web.delete(_DEPLOYMENT, deployments.delete_deployment),
            web.get("/v2/queue{slash:/?}", deployments.list_queue),
            web.delete("/v2/queue/{id:.+?}/delay{slash:/?}", deployments.delete_delay),
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
    tail = path.removeprefix("/")
    for route in (f"/v2/groups{path}", f"/v2/groups/{{root:/+}}{tail}", f"{_GROUP_OF}{path}"):
        yield web.get(route, get)
        if put is not None:
            yield web.put(route, put)
