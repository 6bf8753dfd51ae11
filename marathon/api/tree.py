"""Groups as clients read them: a tree of what the root holds flat (reference marathon §1.11)."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from phalanx.marathon.definition.render import render_pod
from phalanx.marathon.model.app import App
from phalanx.marathon.model.group import Past, Root, root_before
from phalanx.marathon.model.path import ROOT, groups_above, parent_of
from phalanx.marathon.model.pod import Pod


def group_tree(
    root: Root,
    group_id: str,
    *,
    shown: Collection[str],
    version: str,
    history: Iterable[Past],
    show_app: Callable[[App], dict[str, Any]],
    pods: Mapping[str, Pod] = {},
) -> dict[str, Any]:
    """Return a group and all below it.

    *shown* says which of ``groups``, ``apps`` and ``pods`` are wanted; lists
    that are not are empty. *version* is that of a group that *history* (newest
    first) says nothing of.
    """
    apps: dict[str, list[App]] = defaultdict(list)
    pods_of: dict[str, list[Pod]] = defaultdict(list)
    groups: dict[str, list[str]] = defaultdict(list)
    for app_id in sorted(root.apps):
        apps[parent_of(app_id)].append(root.apps[app_id])
    for pod_id in sorted(pods):
        pods_of[parent_of(pod_id)].append(pods[pod_id])
    for below in sorted(group_ids(root, pods) - {ROOT}):
        groups[parent_of(below)].append(below)
    versions = _versions(history)

    def tree(id: str) -> dict[str, Any]:
        group = root.groups.get(id)
        view: dict[str, Any] = {
            "id": id,
            "apps": [show_app(app) for app in apps[id]] if "apps" in shown else [],
            "groups": [tree(child) for child in groups[id]] if "groups" in shown else [],
            "pods": [render_pod(pod) for pod in pods_of[id]] if "pods" in shown else [],
            "dependencies": [] if group is None else list(group.dependencies),
            "version": versions.get(id) or (group.version if group is not None else version),
        }
        if group is not None and group.enforce_role:
            view["enforceRole"] = True  # only then, for old clients do not know it
        return view

    return tree(group_id)


def group_ids(root: Root, pods: Collection[str]) -> frozenset[str]:
    """Return every group that is there, those around pods included."""
    return root.group_ids() | {group for pod_id in pods for group in groups_above(pod_id)}


def _versions(history: Iterable[Past]) -> dict[str, str]:
    """Return the last version of every group that one of the changes was in."""
    found: dict[str, str] = {}
    for past in history:
        for path in (*past.apps, *past.groups):
            found.setdefault(path, past.version)
            for group in groups_above(path):
                found.setdefault(group, past.version)
        found.setdefault(ROOT, past.version)
    return found


def versions_of(history: Sequence[Past], group_id: str) -> list[str]:
    """Return the versions of a group, newest first; *history* likewise."""
    return [past.version for past in history if group_id == ROOT or past.touches(group_id)]


def root_at(root: Root, history: Sequence[Past], version: str) -> Root | None:
    """Return the root as it was in *version*, or None if nothing is known of that."""
    if all(past.version != version for past in history):
        return None
    return root_before(root, (past for past in history if past.version > version))
