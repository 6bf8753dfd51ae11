"""``/v2/deployments`` and ``/v2/queue``."""

from aiohttp import web

from phalanx.core.error import NotFoundError
from phalanx.marathon.api.answer import as_json, deployed, flag, origin_of
from phalanx.marathon.api.desk import desk_of
from phalanx.marathon.engine.view import deployment_view, queue_view
from phalanx.marathon.model.path import absolute


async def list_deployments(request: web.Request) -> web.Response:
    """Answer the running deployments, a bare list."""
    board = desk_of(request).board
    running = board.ledger.deployments.values()
    return as_json([deployment_view(board, deployment) for deployment in running])


async def delete_deployment(request: web.Request) -> web.Response:
    """Undo a running deployment by another, or with ``force`` leave it where it is."""
    orders, deployment_id = desk_of(request).orders, request.match_info["deployment"]
    if flag(request, "force"):
        await orders.forget(deployment_id)
        return web.Response(status=202)
    return deployed(await orders.revert(deployment_id, origin_of(request)))


async def list_queue(request: web.Request) -> web.Response:
    """Answer what waits for offers, and why."""
    with_offers = "lastUnusedOffers" in request.query.getall("embed", [])
    return as_json({"queue": queue_view(desk_of(request).board, with_offers=with_offers)})


async def delete_delay(request: web.Request) -> web.Response:
    """Let a delayed app launch at once."""
    desk, app_id = desk_of(request), absolute(request.match_info["id"])
    if app_id not in {app.id for app, _ in desk.board.waiting()}:
        raise NotFoundError(f"Application {app_id} not found in tasks queue.")
    desk.orders.reset_delay(app_id)
    return web.Response(status=204)
