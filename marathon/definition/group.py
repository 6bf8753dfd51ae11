"""From the JSON of a group to a change of the root (reference marathon §1.11)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil, isfinite
from typing import Any

import msgspec

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.marathon.definition.parse import as_object, parse_app
from phalanx.marathon.definition.problem import DefinitionError, Problem
from phalanx.marathon.definition.rule import violations
from phalanx.marathon.model.app import App
from phalanx.marathon.model.group import Group, Root
from phalanx.marathon.model.path import ROOT, absolute, errors_of, is_within, parent_of

MOST_GROUPS_DEEP = 32


@dataclass(frozen=True, slots=True)
class GroupUpdate:
    """What is asked for a group; None where nothing is said."""

    id: str
    apps: tuple[App, ...] | None = None
    groups: tuple["GroupUpdate", ...] | None = None
    dependencies: tuple[str, ...] | None = None
    enforce_role: bool | None = None


@dataclass(frozen=True, slots=True)
class Scaling:
    """Every app of a group is to have this many times the instances, rounded up."""

    id: str
    factor: float


@dataclass(frozen=True, slots=True)
class Rollback:
    """A group is to be what it was in a version."""

    id: str
    version: str


def parse_group(
    raw: object, *, base: str = ROOT, default_network: str | None = None
) -> GroupUpdate | Scaling | Rollback:
    """Return what *raw*, parsed JSON, asks for the group *base*, or one that it names below it.

    Raises DefinitionError, and InvalidError for ``scaleBy`` beside other fields.
    """
    body = as_object(raw)
    group_id = _id(body, base, "", default=base)
    said = {key for key, value in body.items() if value is not None} - {"id"}
    if said == {"version"}:
        return Rollback(group_id, str(body["version"]))
    if said == {"scaleBy"}:
        return Scaling(group_id, _factor(body["scaleBy"]))
    if "scaleBy" in said:
        raise InvalidError("The 'scaleBy' field may only be combined with the 'id' field.")
    return _update(body, group_id, "", default_network)


def _factor(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DefinitionError([Problem("/scaleBy", "error.expected.jsnumber")], "Invalid JSON")
    if not (isfinite(value) and 0 < value <= 1e6):
        raise DefinitionError([Problem("/scaleBy", "is not greater than 0")])
    return float(value)


def _id(body: Mapping[str, Any], base: str, at: str, default: str | None = None) -> str:
    """Return the absolute id of a body inside the group *base*; raise DefinitionError."""
    given = body.get("id", default)
    if given is None:
        raise DefinitionError([Problem(f"{at}/id", "error.path.missing")], "Invalid JSON")
    if not isinstance(given, str):
        raise DefinitionError([Problem(f"{at}/id", "error.expected.jsstring")], "Invalid JSON")
    group_id = absolute(given, base)
    if group_id != ROOT and (errors := errors_of(group_id)):
        raise DefinitionError([Problem(f"{at}/id", error) for error in errors])
    if not is_within(group_id, base):
        raise DefinitionError([Problem(f"{at}/id", _not_child(base))])
    if group_id.count("/") > MOST_GROUPS_DEEP:
        raise DefinitionError([Problem(f"{at}/id", f"is deeper than {MOST_GROUPS_DEEP} groups")])
    return group_id


def _not_child(group_id: str) -> str:
    return f"Identifier is not child of '{group_id}'. Hint: use relative paths."


def _update(
    body: Mapping[str, Any], group_id: str, at: str, default_network: str | None
) -> GroupUpdate:
    enforce_role = body.get("enforceRole")
    if enforce_role is not None:
        if not isinstance(enforce_role, bool):
            error = "error.expected.jsboolean"
            raise DefinitionError([Problem(f"{at}/enforceRole", error)], "Invalid JSON")
        if group_id == ROOT or parent_of(group_id) != ROOT:
            error = "enforceRole can only be set on a top-level group"
            raise DefinitionError([Problem(f"{at}/enforceRole", error)])
    apps = _apps(body, group_id, at, default_network)
    groups = _groups(body, group_id, at, default_network)
    ids = [*(app.id for app in apps or ()), *(group.id for group in groups or ())]
    for child_id, count in Counter(ids).items():
        if count > 1:
            raise DefinitionError([Problem(at or "/", f"elements must be unique: {child_id}")])
    dependencies = _dependencies(body, group_id, at)
    return GroupUpdate(group_id, apps, groups, dependencies, enforce_role)


def _list(body: Mapping[str, Any], key: str, at: str) -> list[Any] | None:
    value = body.get(key)
    if value is None or isinstance(value, list):
        return value
    raise DefinitionError([Problem(f"{at}/{key}", "error.expected.jsarray")], "Invalid JSON")


def _apps(
    body: Mapping[str, Any], group_id: str, at: str, default_network: str | None
) -> tuple[App, ...] | None:
    raws = _list(body, "apps", at)
    if raws is None:
        return None
    found: list[App] = []
    problems: list[Problem] = []
    message = DefinitionError([]).message
    for index, raw in enumerate(raws):
        here = f"{at}/apps({index})"
        try:
            app_id = _child_id(raw, group_id)
            found.append(parse_app(raw, app_id=app_id, default_network=default_network))
        except DefinitionError as error:
            message = error.message
            problems += error.below(here).problems
    if problems:
        raise DefinitionError(problems, message)
    return tuple(found)


def _child_id(raw: object, group_id: str) -> str:
    """Return the id of an app right below its group; raise DefinitionError."""
    app_id = _id(as_object(raw), group_id, "")
    if app_id == group_id or parent_of(app_id) != group_id:
        raise DefinitionError([Problem("/id", _not_child(group_id))])
    return app_id


def _groups(
    body: Mapping[str, Any], group_id: str, at: str, default_network: str | None
) -> tuple[GroupUpdate, ...] | None:
    raws = _list(body, "groups", at)
    if raws is None:
        return None
    found = []
    for index, raw in enumerate(raws):
        here = f"{at}/groups({index})"
        if not isinstance(raw, dict):
            raise DefinitionError([Problem(here, "error.expected.jsobject")], "Invalid JSON")
        child_id = _id(raw, group_id, here)
        if child_id == group_id:
            raise DefinitionError([Problem(f"{here}/id", _not_child(group_id))])
        found.append(_update(raw, child_id, here, default_network))
    return tuple(found)


def _dependencies(body: Mapping[str, Any], group_id: str, at: str) -> tuple[str, ...] | None:
    """Return what the group waits for; relative ids begin at the group itself."""
    paths = _list(body, "dependencies", at)
    if paths is None:
        return None
    problems = [
        Problem(f"{at}/dependencies({index})", "error.expected.jsstring")
        for index, path in enumerate(paths)
        if not isinstance(path, str)
    ]
    if problems:
        raise DefinitionError(problems, "Invalid JSON")
    found = tuple(absolute(path, group_id) for path in paths)
    if found and group_id == ROOT:
        raise DefinitionError([Problem("/dependencies", "the root group depends on nothing")])
    return found


def updated_root(root: Root, update: GroupUpdate) -> Root:
    """Return *root* with *update* carried out: what its lists leave out goes, other things stay."""
    apps, groups = dict(root.apps), dict(root.groups)
    _carry_out(root.group_ids(), apps, groups, update)
    return replace(root, apps=apps, groups=groups)


def _carry_out(
    known: Iterable[str], apps: dict[str, App], groups: dict[str, Group], update: GroupUpdate
) -> None:
    if update.id != ROOT:
        group = groups.get(update.id) or Group(id=update.id)
        if update.dependencies is not None:
            group = msgspec.structs.replace(group, dependencies=update.dependencies)
        if update.enforce_role is not None:
            group = msgspec.structs.replace(group, enforce_role=update.enforce_role)
        groups[update.id] = group
    if update.apps is not None:
        for app_id in [a for a in apps if parent_of(a) == update.id]:
            del apps[app_id]
        apps.update({app.id: app for app in update.apps})
    if update.groups is not None:
        named = {child.id for child in update.groups}
        for group_id in [g for g in known if g not in (ROOT, update.id)]:
            if parent_of(group_id) == update.id and not any(is_within(n, group_id) for n in named):
                _remove(apps, groups, group_id)
        for child in update.groups:
            _carry_out(known, apps, groups, child)


def _remove(apps: dict[str, App], groups: dict[str, Group], group_id: str) -> None:
    for app_id in [a for a in apps if is_within(a, group_id)]:
        del apps[app_id]
    for below in [g for g in groups if is_within(g, group_id)]:
        del groups[below]


def scaled_root(root: Root, scaling: Scaling) -> Root:
    """Return *root* with more, or fewer, instances of every app of a group.

    Raises NotFoundError for a group that is not there, DefinitionError for too many instances.
    """
    require_group(root, scaling.id)
    scaled = {
        app_id: msgspec.structs.replace(app, instances=ceil(app.instances * scaling.factor))
        for app_id, app in root.apps.items()
        if is_within(app_id, scaling.id)
    }
    problems = [
        Problem(app_id + problem.path, problem.error)
        for app_id, app in scaled.items()
        if app != root.apps[app_id]
        for problem in violations(app)
    ]
    if problems:
        raise DefinitionError(problems)
    return replace(root, apps={**root.apps, **scaled})


def restored_root(root: Root, former: Root, group_id: str) -> Root:
    """Return *root* with the group *group_id* as it was in *former*; pods stay as they are."""
    apps = {i: app for i, app in root.apps.items() if not is_within(i, group_id)}
    groups = {i: group for i, group in root.groups.items() if not is_within(i, group_id)}
    apps |= {i: app for i, app in former.apps.items() if is_within(i, group_id)}
    groups |= {i: group for i, group in former.groups.items() if is_within(i, group_id)}
    return replace(root, apps=apps, groups=groups)


def without_group(root: Root, group_id: str) -> Root:
    """Return *root* without a group and all that is in it."""
    apps, groups = dict(root.apps), dict(root.groups)
    _remove(apps, groups, group_id)
    return replace(root, apps=apps, groups=groups)


def require_group(root: Root, group_id: str) -> None:
    """Raise NotFoundError unless the group is there."""
    if group_id not in root.group_ids():
        raise NotFoundError(f"Group '{group_id}' does not exist")
