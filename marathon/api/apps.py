"""``/v2/apps`` and its versions (reference marathon §2.2)."""

import asyncio
from typing import Any

from aiohttp import web

from phalanx.core.error import ConflictError, InvalidError, NotFoundError
from phalanx.marathon.api.answer import as_json, body_of, deployed, flag, origin_of
from phalanx.marathon.api.desk import Desk, desk_of
from phalanx.marathon.api.embed import IN_LISTS, OF_ONE, app_embeds
from phalanx.marathon.api.selector import parse_selector
from phalanx.marathon.definition.parse import as_object, parse_app, updated_app
from phalanx.marathon.definition.problem import DefinitionError, Problem
from phalanx.marathon.definition.render import render_app
from phalanx.marathon.engine.orders import of_apps, with_app, without
from phalanx.marathon.engine.view import app_view, holders_of
from phalanx.marathon.model.app import App
from phalanx.marathon.model.path import absolute, is_within
from phalanx.marathon.schedule.planning import Apps

SLICE_APPS = 100  # shown in a row, in a few milliseconds
_COMPUTED = ("versionInfo", "tasksRunning", "deployments")  # what only a body that we sent has


async def list_apps(request: web.Request) -> web.Response:
    """Answer the apps that the query selects."""
    desk, query = desk_of(request), request.query
    selected = parse_selector(query.get("label", ""))
    embed = IN_LISTS | app_embeds(request)
    holders = holders_of(desk.board)
    apps: list[dict[str, Any]] = []
    for number, (app_id, app) in enumerate(sorted(desk.board.ledger.apps.items()), 1):
        if not number % SLICE_APPS:
            await asyncio.sleep(0)  # thousands take a while; others have turns, too
        if (
            query.get("id", "").lower() in app_id.lower()
            and query.get("cmd", "").lower() in (app.cmd or "").lower()
            and selected(app.labels)
        ):
            apps.append(app_view(desk.board, app, embed=embed, deployments=holders))
    return as_json({"apps": apps})


async def create_app(request: web.Request) -> web.Response:
    """Create an app."""
    desk = desk_of(request)
    app = parse_app(await body_of(request), default_network=desk.default_network)

    def edit(apps: Apps) -> Apps:
        if app.id in apps:
            raise ConflictError(f"An app with id [{app.id}] already exists.")
        return with_app(app)(apps)

    force = flag(request, "force")
    deployment = await desk.orders.change(of_apps(edit), origin_of(request), force=force)
    [change] = deployment.changes
    view = app_view(desk.board, change.after or app, embed=IN_LISTS | {"tasks"})
    view["deployments"] = [{"id": deployment.id}]
    headers = {"Marathon-Deployment-Id": deployment.id, "Location": app.id}
    return as_json(view, status=201, headers=headers)


async def update_apps(request: web.Request) -> web.Response:
    """Create or change several apps in one deployment; PATCH only changes."""
    desk, bodies = desk_of(request), await body_of(request)
    if not isinstance(bodies, list):
        raise DefinitionError([Problem("/", "error.expected.jsarray")], "Invalid JSON")
    named = [(_id_in(body, index), body) for index, body in enumerate(bodies)]
    known = [await _rolled_back(desk, app_id, body) for app_id, body in named]
    partial = flag(request, "partialUpdate", default=True)

    def edit(apps: Apps) -> Apps:
        edited = dict(apps)
        for index, ((app_id, body), rolled) in enumerate(zip(named, known, strict=True)):
            if request.method == "PATCH" and app_id not in apps:
                raise NotFoundError(f"App '{app_id}' does not exist")
            try:
                app = rolled or _put(desk, edited, app_id, body, partial=partial)
            except DefinitionError as error:
                raise error.below(f"({index})") from error
            edited[app_id] = app
        return edited

    force = flag(request, "force")
    return deployed(await desk.orders.change(of_apps(edit), origin_of(request), force=force))


async def get_app(request: web.Request) -> web.Response:
    """Answer one app, or with ``/*`` all apps of a group."""
    board, app_id = desk_of(request).board, _id(request)
    if app_id.endswith("/*"):
        group = absolute(app_id[:-1])
        below = [app for key, app in sorted(board.ledger.apps.items()) if is_within(key, group)]
        embed = IN_LISTS | app_embeds(request)
        return as_json({"*": [app_view(board, app, embed=embed) for app in below]})
    app = _existing(board.ledger.apps, app_id)
    return as_json({"app": app_view(board, app, embed=OF_ONE | app_embeds(request))})


async def update_app(request: web.Request) -> web.Response:
    """Change an app, or with PUT create it."""
    desk, app_id, body = desk_of(request), _id(request), as_object(await body_of(request))
    rolled = await _rolled_back(desk, app_id, body)
    partial = flag(request, "partialUpdate", default=True)
    is_new = app_id not in desk.board.ledger.apps

    def edit(apps: Apps) -> Apps:
        if request.method == "PATCH":
            _existing(apps, app_id)
        app = rolled or _put(desk, apps, app_id, body, partial=partial)
        return with_app(app)(apps)

    force = flag(request, "force")
    deployment = await desk.orders.change(of_apps(edit), origin_of(request), force=force)
    if is_new:
        return deployed(deployment, status=201, location=app_id)
    return deployed(deployment)


async def delete_app(request: web.Request) -> web.Response:
    """Delete an app; by default whatever deployment holds it gives way."""
    desk, app_id = desk_of(request), _id(request)

    def edit(apps: Apps) -> Apps:
        _existing(apps, app_id)
        return without([app_id])(apps)

    force = flag(request, "force", default=True)
    return deployed(await desk.orders.change(of_apps(edit), origin_of(request), force=force))


async def restart_app(request: web.Request) -> web.Response:
    """Replace all instances of an app."""
    desk, app_id = desk_of(request), _id(request)

    def edit(apps: Apps) -> Apps:
        _existing(apps, app_id)
        return apps

    deployment = await desk.orders.change(
        of_apps(edit), origin_of(request), force=flag(request, "force"), restart=[app_id]
    )
    return deployed(deployment)


async def list_versions(request: web.Request) -> web.Response:
    """Answer the versions of an app, newest first."""
    ledger, app_id = desk_of(request).board.ledger, _id(request)
    _existing(ledger.apps, app_id)
    return as_json({"versions": await ledger.versions(app_id)})


async def get_version(request: web.Request) -> web.Response:
    """Answer an app as it was in one version."""
    desk, app_id = desk_of(request), _id(request)
    _existing(desk.board.ledger.apps, app_id)
    return as_json(render_app(await _version(desk, app_id, request.match_info["version"])))


def _id(request: web.Request) -> str:
    """Return the app id of the URL, absolute; a trailing ``/*`` is kept."""
    return absolute(request.match_info["id"])


def _id_in(body: object, index: int) -> str:
    app_id = as_object(body).get("id")
    if not isinstance(app_id, str):
        raise DefinitionError([Problem(f"({index})/id", "error.path.missing")], "Invalid JSON")
    return absolute(app_id)


def _existing(apps: Apps, app_id: str) -> App:
    found = apps.get(app_id)
    if found is None:
        raise NotFoundError(f"App '{app_id}' does not exist")
    return found


def _put(desk: Desk, apps: Apps, app_id: str, body: Any, *, partial: bool) -> App:  # noqa: ANN401 - any JSON
    before = apps.get(app_id)
    if before is None or not partial:
        return parse_app(body, app_id=app_id, default_network=desk.default_network)
    return updated_app(render_app(before), body, default_network=desk.default_network)


async def _rolled_back(desk: Desk, app_id: str, body: Any) -> App | None:  # noqa: ANN401 - any JSON
    """Return the former app that a body of nothing but a version asks for.

    A body that was read from us carries its version too: there it is ignored.
    """
    version = as_object(body).get("version")
    if version is None or any(key in body for key in _COMPUTED):
        return None
    if set(body) - {"id", "version"}:
        raise InvalidError("The 'version' field may only be combined with the 'id' field.")
    _existing(desk.board.ledger.apps, app_id)
    return await _version(desk, app_id, str(version))


async def _version(desk: Desk, app_id: str, version: str) -> App:
    # A version is one segment of a key; whatever else is asked for can't be there.
    found = None if "/" in version else await desk.board.ledger.version(app_id, version)
    if found is None:
        raise NotFoundError(f"App '{app_id}' does not exist in version {version}")
    return found
