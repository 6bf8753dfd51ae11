"""From a changed root to the steps of a deployment (reference marathon §3.1)."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

import msgspec

from phalanx.core.error import ConflictError, InvalidError
from phalanx.marathon.model.app import App, VersionInfo
from phalanx.marathon.model.deployment import Action, ActionKind, Change, Deployment, GroupChange
from phalanx.marathon.model.group import Group, Root
from phalanx.marathon.model.path import groups_above, top_of
from phalanx.marathon.model.pod import Pod
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.residency import reserved_of
from phalanx.marathon.schedule.service_port import free_ports, service_ports, with_service_ports

S = TypeVar("S", App, Pod)
Apps = Mapping[str, App]

FEW = 16  # changed apps up to which each is looked for by itself


def planned(
    before: Root, edited: Root, *, id: str, version: str, restart: Collection[str] = ()
) -> Deployment:
    """Return the deployment that turns *before* into *edited*, everything stamped with *version*.

    Apps in *restart* get new instances even if nothing differs. Raises
    ConflictError where an app and a group would share an id, InvalidError for
    circular dependencies, and UnavailableError without a free service port.
    """
    touched = [
        app_id
        for app_id, app in edited.apps.items()
        if ((old := before.apps.get(app_id)) is not app and old != app) or app_id in restart
    ]
    _refuse_clashes(before, edited, touched)
    _refuse_second_use(edited.apps, touched)
    taken: set[int] = set()
    if not all(all(service_ports(edited.apps[app_id])) for app_id in touched):
        taken.update(p for root in (before, edited) for a in root.apps.values() for p in _ports(a))
    apps, free = dict(edited.apps), free_ports(taken)
    for app_id in touched:
        old = before.apps.get(app_id)
        app = edited.apps[app_id]
        app = _with_role(app, edited.groups) if old is None else app
        ported = with_service_ports(app, before=old, free=free)
        refuse_resident_change(old, ported)
        taken.update(service_ports(ported))
        apps[app_id] = stamped(old, ported, version, restart=app_id in restart)
    changed = changes(before.apps, apps)
    groups = _groups(before, edited, version)
    return Deployment(
        id=id,
        version=version,
        changes=changed,
        steps=steps(changed, Root(apps, edited.groups)),
        groups=groups,
    )


def refuse_resident_change(old: Spec | None, new: Spec) -> None:
    """Raise InvalidError for a change of what instances with volumes have reserved."""
    if old is None or not old.is_resident:
        return
    if reserved_of(old) != reserved_of(new):
        words = "resources, role, host ports and persistent volumes of it must stay as they are"
        raise InvalidError(f"{new.id}: {words}, since its instances have them reserved")


def _refuse_second_use(apps: Apps, touched: Collection[str]) -> None:
    """Raise InvalidError for an external volume of two apps, not shared by one of them at least."""
    wanted = {
        (volume.provider, volume.name): app_id
        for app_id in touched
        for volume in apps[app_id].external_volumes
    }
    if not wanted:
        return
    users: dict[tuple[str, str], set[str]] = {}
    unshared = set()
    for app_id, app in apps.items():
        for volume in app.external_volumes:
            key = volume.provider, volume.name
            users.setdefault(key, set()).add(app_id)
            if not volume.shared:
                unshared.add(key)
    for key, app_id in wanted.items():
        others = users[key] - {app_id}
        if others and key in unshared:
            words = f"Requested volume {key[1]} is already in use by {min(others)}"
            raise InvalidError(f"{app_id}: {words}")


def _ports(app: App) -> Iterator[int]:
    return (port for port in service_ports(app) if port)


def _refuse_clashes(before: Root, edited: Root, touched: Sequence[str]) -> None:
    """Raise ConflictError if what is new takes the id of a group or an app that is there."""
    groups = edited.group_ids() if len(touched) > FEW else None
    for app_id in touched:
        if app_id in groups if groups is not None else _is_group(edited, app_id):
            raise ConflictError(f"Group {app_id} is already created. Use PUT to change this group.")
    for path in (*touched, *(edited.groups.keys() - before.groups.keys())):
        for above in groups_above(path):
            if above in edited.apps:
                raise ConflictError(f"An app with the path {above} already exists.")
        if path in edited.groups and path in edited.apps:
            raise ConflictError(f"An app with the path {path} already exists.")


def _with_role(app: App, groups: Mapping[str, Group]) -> App:
    """Return a new app with its topmost group's name as its role, if that group insists on it."""
    top = top_of(app.id)
    group = None if top is None else groups.get(f"/{top}")
    if top is None or group is None or not group.enforce_role:
        return app
    return msgspec.structs.replace(app, role=top)


def _is_group(root: Root, path: str) -> bool:
    """Tell whether *path* is a group, without listing all of them."""
    below = f"{path}/"
    return path in root.groups or any(app_id.startswith(below) for app_id in root.apps)


def _groups(before: Root, edited: Root, version: str) -> tuple[GroupChange, ...]:
    """Return what changes of groups: those that are told, and those that new apps need."""
    found: dict[str, GroupChange] = {}
    for group_id in before.groups.keys() | edited.groups.keys():
        old, new = before.groups.get(group_id), edited.groups.get(group_id)
        if old != new:
            stamp = None if new is None else msgspec.structs.replace(new, version=version)
            found[group_id] = GroupChange(group_id, old, stamp)
    new_paths = [
        *(edited.apps.keys() - before.apps.keys()),
        *(edited.groups.keys() - before.groups.keys()),
    ]
    for path in new_paths:
        for above in groups_above(path):
            if above not in edited.groups and above not in found:
                found[above] = GroupChange(above, None, Group(id=above, version=version))
    return tuple(found[group_id] for group_id in sorted(found))


def stamped(before: S | None, after: S, version: str, *, restart: bool = False) -> S:
    """Return *after* with the version it gets: the old one when nothing changed."""
    if before is None or restart or before.config != after.config:
        info = VersionInfo(last_scaling_at=version, last_config_change_at=version)
    elif before.instances != after.instances:
        info = VersionInfo(last_scaling_at=version, last_config_change_at=before.config_version)
    else:
        return before
    return msgspec.structs.replace(after, version=version, version_info=info)


def changes(before: Apps, after: Apps) -> tuple[Change, ...]:
    """Return every app that is not the same in both."""
    return tuple(
        Change(app_id, old, new)
        for app_id in sorted(before.keys() | after.keys())
        if (old := before.get(app_id)) is not (new := after.get(app_id)) and old != new
    )


def steps(changed: Sequence[Change], after: Root) -> tuple[tuple[Action, ...], ...]:
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


def _levels(root: Root) -> Mapping[str, int]:
    """Return for each app the longest way down its dependencies."""
    waits = _dependencies(root)
    if not any(waits.values()):
        return dict.fromkeys(waits, 0)
    levels: dict[str, int] = {}
    try:
        for app_id in TopologicalSorter(waits).static_order():
            levels[app_id] = max((levels[other] + 1 for other in waits[app_id]), default=0)
    except CycleError as error:
        circle = ", ".join(error.args[1])
        raise InvalidError(f"Dependency graph has cyclic dependencies: {circle}") from error
    return levels


def _dependencies(root: Root) -> dict[str, set[str]]:
    """Return for each app the apps that it waits for.

    A dependency may be a group: all apps in it. What a group depends on, all apps in it wait for.
    """
    ids = sorted(root.apps)
    waits: dict[str, set[str]] = {app_id: set() for app_id in ids}
    for app_id, app in root.apps.items():
        for path in app.dependencies:
            waits[app_id].update(o for o in _within(ids, path) if o != app_id or path == app_id)
    for group in root.groups.values():
        if group.dependencies:
            mine = _within(ids, group.id)
            others = {o for path in group.dependencies for o in _within(ids, path)}
            for app_id in mine:
                waits[app_id] |= others - {app_id}
    return waits


def _within(ids: Sequence[str], path: str) -> Iterable[str]:
    """Return those of the sorted *ids* that are *path* or lie below it."""
    if path == "/":
        return ids
    here = bisect_left(ids, path)
    below = bisect_left(ids, f"{path}/"), bisect_left(ids, f"{path}0")  # "0" follows "/"
    found = ids[slice(*below)]
    return [path, *found] if here < len(ids) and ids[here] == path else found
