"""``/v2/groups`` (reference marathon §2.4)."""

from collections.abc import Callable

from aiohttp import web

from phalanx.core.error import ConflictError, InvalidError, NotFoundError
from phalanx.marathon.api.answer import as_json, body_of, deployed, flag, origin_of
from phalanx.marathon.api.desk import Desk, desk_of
from phalanx.marathon.api.embed import app_embeds, group_embeds
from phalanx.marathon.api.tree import group_ids, group_tree, root_at, versions_of
from phalanx.marathon.definition.group import (
    GroupUpdate,
    Rollback,
    Scaling,
    parse_group,
    require_group,
    restored_root,
    scaled_root,
    updated_root,
    without_group,
)
from phalanx.marathon.definition.parse import as_object
from phalanx.marathon.definition.problem import DefinitionError, Problem
from phalanx.marathon.definition.render import render_app
from phalanx.marathon.engine.story import steps_of
from phalanx.marathon.engine.view import app_view, holders_of
from phalanx.marathon.model.group import Root
from phalanx.marathon.model.moment import moment
from phalanx.marathon.model.path import ROOT, absolute, is_within
from phalanx.marathon.schedule.pod_planning import Pods

Edit = Callable[[Root], Root]


async def get_group(request: web.Request) -> web.Response:
    """Answer a group and what is in it; the root is always there."""
    desk, group_id = desk_of(request), _id(request)
    ledger = desk.board.ledger
    root = ledger.root
    _require(desk, group_id)
    embed, holders = app_embeds(request), holders_of(desk.board)
    view = group_tree(
        root,
        group_id,
        shown=group_embeds(request),
        version=_present_version(desk),
        history=ledger.history,
        show_app=lambda app: app_view(desk.board, app, embed=embed, deployments=holders),
        pods=ledger.pods,
    )
    return as_json(view)


async def list_group_apps(request: web.Request) -> web.Response:
    """Answer every app of a group and of the groups below it."""
    desk, group_id = desk_of(request), _id(request)
    root = desk.board.ledger.root
    _require(desk, group_id)
    embed = app_embeds(request)
    ids = sorted(app_id for app_id in root.apps if is_within(app_id, group_id))
    return as_json({"apps": [app_view(desk.board, root.apps[i], embed=embed) for i in ids]})


async def list_group_versions(request: web.Request) -> web.Response:
    """Answer the versions of a group, newest first."""
    desk, group_id = desk_of(request), _id(request)
    _require(desk, group_id)
    versions = versions_of(desk.board.ledger.history, group_id)
    return as_json(versions or [_present_version(desk)])


async def get_group_version(request: web.Request) -> web.Response:
    """Answer a group as it was in one version: definitions, no tasks."""
    desk, group_id, version = desk_of(request), _id(request), request.match_info["version"]
    history = [past for past in desk.board.ledger.history if past.version <= version]
    view = group_tree(
        _former_root(desk, group_id, version),
        group_id,
        shown=group_embeds(request),
        version=version,
        history=history,
        show_app=render_app,
    )
    return as_json(view)


async def restore_group(request: web.Request) -> web.Response:
    """Make a group what it was in the version of the URL."""
    edit = _restoring(desk_of(request), _id(request), request.match_info["version"])
    return await _deploy(request, edit, _id(request))


async def create_group(request: web.Request) -> web.Response:
    """Create a group and what the body has in it."""
    desk = desk_of(request)
    raw = as_object(await body_of(request))
    update = parse_group(raw, base=_id(request), default_network=desk.default_network)
    if not isinstance(update, GroupUpdate):
        raise InvalidError("A new group has neither a 'version' nor a 'scaleBy' field alone.")

    def edit(root: Root) -> Root:
        if update.id in root.apps:
            raise ConflictError(f"An app with the path {update.id} already exists.")
        if update.id in root.group_ids():
            words = f"Group {update.id} is already created. Use PUT to change this group."
            raise ConflictError(words)
        return updated_root(root, update)

    return await _deploy(request, edit, update.id, status=201)


async def update_group(request: web.Request) -> web.Response:
    """Create or change a group, scale it, or make it what it was."""
    desk = desk_of(request)
    raw = as_object(await body_of(request))
    update = parse_group(raw, base=_id(request), default_network=desk.default_network)
    if isinstance(update, Rollback):
        edit = _restoring(desk, update.id, update.version)
    elif isinstance(update, Scaling):
        edit = _scaling(update)
    else:
        edit = _updating(update)
    if flag(request, "dryRun"):
        return as_json({"steps": steps_of(desk.orders.planned(edit))})
    return await _deploy(request, edit, update.id)


async def patch_group(request: web.Request) -> web.Response:
    """Say whether a top-level group gives its name to new services as their role."""
    desk, group_id = desk_of(request), _id(request)
    body = as_object(await body_of(request))
    if set(body) - {"id", "enforceRole"} or "enforceRole" not in body:
        raise DefinitionError([Problem("/enforceRole", "error.path.missing")], "Invalid JSON")
    update = parse_group({"id": group_id, "enforceRole": body["enforceRole"]})
    assert isinstance(update, GroupUpdate)  # neither of the two other forms was asked for

    def edit(root: Root) -> Root:
        require_group(root, group_id)
        return updated_root(root, update)

    await desk.orders.change(edit, origin_of(request, group_id))
    return web.Response(status=200)


async def delete_group(request: web.Request) -> web.Response:
    """Delete a group and everything in it, pods too."""
    desk, group_id = desk_of(request), _id(request)

    def edit(root: Root) -> Root:
        if group_id in root.apps:
            raise ConflictError(f"{group_id} is an app, not a group")
        _require(desk, group_id)
        return without_group(root, group_id)

    def edit_pods(pods: Pods) -> Pods:
        return {pod_id: pod for pod_id, pod in pods.items() if not is_within(pod_id, group_id)}

    force = flag(request, "force")
    origin = origin_of(request, group_id)
    return deployed(await desk.orders.change(edit, origin, force=force, pods=edit_pods))


def _require(desk: Desk, group_id: str) -> None:
    ledger = desk.board.ledger
    if group_id not in group_ids(ledger.root, ledger.pods):
        raise NotFoundError(f"Group '{group_id}' does not exist")


def _id(request: web.Request) -> str:
    return absolute(request.match_info.get("id", ROOT))


def _present_version(desk: Desk) -> str:
    return desk.board.ledger.last_version or moment(desk.board.clock())


def _updating(update: GroupUpdate) -> Edit:
    def edit(root: Root) -> Root:
        if update.id in root.apps:
            raise ConflictError(f"An app with the path {update.id} already exists.")
        return updated_root(root, update)

    return edit


def _scaling(scaling: Scaling) -> Edit:
    return lambda root: scaled_root(root, scaling)


def _restoring(desk: Desk, group_id: str, version: str) -> Edit:
    former = _former_root(desk, group_id, version)
    return lambda root: restored_root(root, former, group_id)


def _former_root(desk: Desk, group_id: str, version: str) -> Root:
    """Return the root as it was in a version in which the group was there; raise NotFoundError."""
    ledger = desk.board.ledger
    former = root_at(ledger.root, ledger.history, version)
    if former is None or group_id not in former.group_ids():
        raise NotFoundError(f"Group '{group_id}' does not exist in version {version}")
    return former


async def _deploy(
    request: web.Request, edit: Edit, group_id: str, *, status: int = 200
) -> web.Response:
    orders = desk_of(request).orders
    force = flag(request, "force")
    deployment = await orders.change(edit, origin_of(request, group_id), force=force)
    location = f"/v2/groups{group_id}" if status == 201 else None
    return deployed(deployment, status=status, location=location)
