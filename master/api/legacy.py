"""The legacy JSON endpoints, each also below ``/master`` and with ``.json`` (§0.1, §3.4)."""

from aiohttp import web

from phalanx.master.api.door import SEAT, base_of, json_response, leader_of
from phalanx.master.api.operator import all_metrics
from phalanx.master.operator import legacy
from phalanx.master.operator.metrics import follower_metrics
from phalanx.master.operator.v1 import version_info
from phalanx.mesos.api.route import Page


async def get_health(_request: web.Request) -> web.Response:
    """Answer that we live."""
    return web.Response()


async def get_version(request: web.Request) -> web.Response:
    """Answer the version."""
    return json_response(request, version_info())


async def get_flags(request: web.Request) -> web.Response:
    """Answer the settings."""
    return json_response(request, {"flags": request.app[SEAT].config.flags()})


async def get_metrics(request: web.Request) -> web.Response:
    """Answer every metric; a master that does not lead has few."""
    seat = request.app[SEAT]
    if seat.leader is None:
        return json_response(request, follower_metrics(uptime=seat.uptime))
    return json_response(request, all_metrics(seat, seat.leader))


async def get_redirect(request: web.Request) -> web.Response:
    """Send the caller to the leader, also when that is us."""
    holder = request.app[SEAT].holder
    if holder is None:
        raise web.HTTPServiceUnavailable(text="No leader elected")
    raise web.HTTPTemporaryRedirect(base_of(holder))


async def get_state(request: web.Request) -> web.Response:
    """Answer everything."""
    seat, leader = request.app[SEAT], leader_of(request)
    body = legacy.state_json(
        leader.cluster,
        leader.info,
        start_time=seat.started,
        elected_time=leader.elected,
        flags=seat.config.flags(),
    )
    return json_response(request, body)


async def get_state_summary(request: web.Request) -> web.Response:
    """Answer counts."""
    leader = leader_of(request)
    name = leader.config.cluster or None
    body = legacy.state_summary_json(leader.cluster, leader.config.public_hostname, name)
    return json_response(request, body)


async def get_slaves(request: web.Request) -> web.Response:
    """Answer the agents, or the one that is asked for."""
    body = legacy.slaves_json(leader_of(request).cluster)
    wanted = request.query.get("slave_id")
    if wanted is not None:
        body["slaves"] = [slave for slave in body["slaves"] if slave["id"] == wanted]
    return json_response(request, body)


async def get_frameworks(request: web.Request) -> web.Response:
    """Answer the frameworks, or the one that is asked for."""
    body = legacy.frameworks_json(leader_of(request).cluster)
    wanted = request.query.get("framework_id")
    if wanted is not None:
        for key in ("frameworks", "completed_frameworks"):
            body[key] = [item for item in body[key] if item["id"] == wanted]
    return json_response(request, body)


async def get_tasks(request: web.Request) -> web.Response:
    """Answer one page of the tasks."""
    return json_response(request, legacy.tasks_json(leader_of(request).cluster, request.query))


async def get_roles(request: web.Request) -> web.Response:
    """Answer the roles in use."""
    return json_response(request, legacy.roles_json(leader_of(request).cluster))


async def not_here(request: web.Request) -> web.Response:
    """Say that Mesos has this and this build does not."""
    raise web.HTTPNotImplemented(text=f"'{request.path}' is not supported in this build")


NOT_HERE = (
    "/create-volumes",
    "/destroy-volumes",
    "/reserve",
    "/unreserve",
    "/teardown",
    "/maintenance/schedule",
    "/maintenance/status",
    "/machine/down",
    "/machine/up",
    "/weights",
    "/quota",
)


def pages() -> list[Page]:
    """Return every page of the legacy API."""
    return [
        Page("/health", get_health, is_open=True, realm=None),
        Page("/version", get_version, is_open=True, realm=None),
        Page("/flags", get_flags, is_open=True),
        Page("/metrics/snapshot", get_metrics, is_open=True),
        Page("/redirect", get_redirect, is_open=True, is_exact=True, realm=None),
        Page("/state", get_state),
        Page("/state-summary", get_state_summary),
        Page("/slaves", get_slaves),
        Page("/frameworks", get_frameworks),
        Page("/tasks", get_tasks),
        Page("/roles", get_roles),
        *(Page(path, not_here, realm="readwrite") for path in NOT_HERE),
    ]
