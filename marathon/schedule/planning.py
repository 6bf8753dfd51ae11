"""From changed definitions to the steps of a deployment (reference marathon §3.1)."""

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import msgspec

from phalanx.core.error import InvalidError
from phalanx.marathon.model.app import App, VersionInfo, is_same_config
from phalanx.marathon.model.deployment import Action, ActionKind, Change
from phalanx.marathon.model.path import is_within

Apps = Mapping[str, App]


def stamped(before: App | None, after: App, version: str, *, restart: bool = False) -> App:
    """Return *after* with the version it gets: the old one when nothing changed."""
    if before is None or restart or not is_same_config(before, after):
        info = VersionInfo(last_scaling_at=version, last_config_change_at=version)
    elif before.instances != after.instances:
        info = VersionInfo(last_scaling_at=version, last_config_change_at=before.config_version)
    else:
        return before
    return msgspec.structs.replace(after, version=version, version_info=info)


def changes(before: Apps, after: Apps) -> tuple[Change, ...]:
    """Return every app that is not the same in both."""
    return tuple(
        Change(app_id, before.get(app_id), after.get(app_id))
        for app_id in sorted(before.keys() | after.keys())
        if before.get(app_id) != after.get(app_id)
    )


def steps(changed: Sequence[Change], after: Apps) -> tuple[tuple[Action, ...], ...]:
    """Return the actions in order: stop what goes, start what comes, then by dependency.

    Raises InvalidError when the apps after the change depend on each other in a circle.
    """
    kinds = {change.app_id: _kind(change) for change in changed}
    stop = tuple(Action(ActionKind.STOP, c.app_id) for c in changed if c.after is None)
    start = tuple(
        Action(ActionKind.START, c.app_id) for c in changed if c.before is None and c.after
    )
    levels = _levels(after)
    later: dict[int, list[Action]] = {}
    for app_id, kind in kinds.items():
        if kind is not ActionKind.STOP:
            later.setdefault(levels[app_id], []).append(Action(kind, app_id))
    ordered = (stop, start, *(tuple(later[level]) for level in sorted(later)))
    return tuple(step for step in ordered if step)


def _kind(change: Change) -> ActionKind:
    before, after = change.before, change.after
    if after is None:
        return ActionKind.STOP
    if before is None or before.config_version == after.config_version:
        return ActionKind.SCALE
    return ActionKind.RESTART


def _levels(apps: Apps) -> Mapping[str, int]:
    """Return for each app the longest way down its dependencies."""
    below = {app_id: set(_dependencies(app, apps)) for app_id, app in apps.items()}
    levels: dict[str, int] = {}
    try:
        for app_id in TopologicalSorter(below).static_order():
            levels[app_id] = max((levels[other] + 1 for other in below[app_id]), default=0)
    except CycleError as error:
        circle = ", ".join(error.args[1])
        raise InvalidError(f"Dependency graph has cyclic dependencies: {circle}") from error
    return levels


def _dependencies(app: App, apps: Apps) -> Iterable[str]:
    """Return the apps that *app* waits for; a dependency may be a group of them."""
    return (
        other
        for path in app.dependencies
        for other in apps
        if is_within(other, path) and (other != app.id or path == app.id)
    )
