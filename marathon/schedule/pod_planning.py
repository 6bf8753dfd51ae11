"""What changes of pods add to a deployment (reference marathon §3.1)."""

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from phalanx.core.error import ConflictError
from phalanx.marathon.model.deployment import (
    Action,
    ActionKind,
    Deployment,
    GroupChange,
    PodChange,
)
from phalanx.marathon.model.group import Group, Root
from phalanx.marathon.model.path import groups_above
from phalanx.marathon.model.pod import Pod
from phalanx.marathon.schedule.planning import refuse_resident_change, stamped

Pods = Mapping[str, Pod]
PodEdit = Callable[[Pods], Pods]


def with_pods(
    deployment: Deployment, root: Root, before: Pods, edited: Pods, *, restart: Collection[str] = ()
) -> Deployment:
    """Return *deployment* with what turns the pods *before* into *edited* beside it.

    *root* is what is defined before the deployment. Pods in *restart* get new
    instances even if nothing differs. Raises ConflictError where a pod and an app or a
    group would share an id, InvalidError for a change of what instances have reserved.
    """
    if not before and not edited:
        return deployment
    changed = tuple(
        PodChange(pod_id, old, new)
        for pod_id in sorted(before.keys() | edited.keys())
        if (old := before.get(pod_id))
        != (new := _stamped(old, edited.get(pod_id), deployment.version, pod_id in restart))
    )
    for change in changed:
        if change.after is not None:
            refuse_resident_change(change.before, change.after)
    _refuse_clashes(deployment, root, edited)
    if not changed:
        return deployment
    return msgspec.structs.replace(
        deployment,
        pods=changed,
        steps=_steps(deployment.steps, changed),
        groups=(*deployment.groups, *_groups(deployment, root, changed)),
    )


def _stamped(before: Pod | None, after: Pod | None, version: str, is_restart: bool) -> Pod | None:
    return None if after is None else stamped(before, after, version, restart=is_restart)


def _refuse_clashes(deployment: Deployment, root: Root, pods: Pods) -> None:
    """Raise ConflictError for an id that is a pod's and an app's or a group's."""
    apps = {*root.apps} | {c.app_id for c in deployment.changes if c.after is not None}
    apps -= {c.app_id for c in deployment.changes if c.after is None}
    groups = root.group_ids() | {above for app_id in apps for above in groups_above(app_id)}
    above_pods = {above for pod_id in pods for above in groups_above(pod_id)}
    for pod_id in pods:
        if pod_id in apps:
            raise ConflictError(f"An app with id [{pod_id}] already exists.")
        if pod_id in groups or pod_id in above_pods:
            raise ConflictError(f"Group {pod_id} is already created. Use PUT to change this group.")
    for app_id in apps & above_pods:
        raise ConflictError(f"An app with the path {app_id} already exists.")
    for pod_id in pods.keys() & groups:
        raise ConflictError(f"A pod with the path {pod_id} already exists.")


def _groups(
    deployment: Deployment, root: Root, changed: Sequence[PodChange]
) -> tuple[GroupChange, ...]:
    """Return the groups that new pods need and nobody has made."""
    known = {*root.groups, *(change.group_id for change in deployment.groups)}
    needed = {
        above
        for change in changed
        if change.before is None
        for above in groups_above(change.pod_id)
        if above not in known
    }
    version = deployment.version
    return tuple(GroupChange(g, None, Group(id=g, version=version)) for g in sorted(needed))


def _steps(
    steps: Sequence[tuple[Action, ...]], changed: Sequence[PodChange]
) -> tuple[tuple[Action, ...], ...]:
    """Return *steps* with the actions on pods in the first step of their kind.

    Nothing can make a pod wait for an app, so its instances come in the first step that has any.
    """
    kinds = ActionKind
    stop = tuple(Action(kinds.STOP_POD, c.pod_id) for c in changed if c.after is None)
    start = tuple(Action(kinds.START_POD, c.pod_id) for c in changed if c.before is None)
    first = tuple(
        Action(_kind(change), change.pod_id) for change in changed if change.after is not None
    )
    stopping = [step for step in steps if step[0].kind.is_stop]
    starting = [step for step in steps if step[0].kind.is_start]
    later = [s for s in steps if not s[0].kind.is_stop and not s[0].kind.is_start]
    merged = (
        (*(stopping[0] if stopping else ()), *stop),
        (*(starting[0] if starting else ()), *start),
        (*(later[0] if later else ()), *first),
        *later[1:],
    )
    return tuple(step for step in merged if step)


def _kind(change: PodChange) -> ActionKind:
    before, after = change.before, change.after
    if before is None or (after is not None and before.config_version == after.config_version):
        return ActionKind.SCALE_POD
    return ActionKind.RESTART_POD
