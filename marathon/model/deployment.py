"""A deployment: what changes, in which order, and how far it got."""

import enum

import msgspec

from phalanx.marathon.model.app import App
from phalanx.marathon.model.group import Group
from phalanx.marathon.model.pod import Pod


class ActionKind(enum.StrEnum):
    """What one action of a deployment does."""

    START = "StartApplication"
    STOP = "StopApplication"
    SCALE = "ScaleApplication"
    RESTART = "RestartApplication"
    START_POD = "StartPod"
    STOP_POD = "StopPod"
    SCALE_POD = "ScalePod"
    RESTART_POD = "RestartPod"

    @property
    def is_start(self) -> bool:
        """Tell whether nothing more is meant than that the app or pod is there."""
        return self in (ActionKind.START, ActionKind.START_POD)

    @property
    def is_stop(self) -> bool:
        """Tell whether all instances are to end."""
        return self in (ActionKind.STOP, ActionKind.STOP_POD)

    @property
    def is_restart(self) -> bool:
        """Tell whether instances are to be replaced."""
        return self in (ActionKind.RESTART, ActionKind.RESTART_POD)

    @property
    def is_of_pod(self) -> bool:
        """Tell whether it is about a pod."""
        return self.value.endswith("Pod")


class Action(msgspec.Struct, frozen=True):
    """One action on one app, or on one pod, whose id is *app_id* then."""

    kind: ActionKind
    app_id: str


class Change(msgspec.Struct, frozen=True):
    """One app before and after; None where it is not there."""

    app_id: str
    before: App | None
    after: App | None


class GroupChange(msgspec.Struct, frozen=True):
    """One group before and after; None where it is not there."""

    group_id: str
    before: Group | None
    after: Group | None


class PodChange(msgspec.Struct, frozen=True):
    """One pod before and after; None where it is not there."""

    pod_id: str
    before: Pod | None
    after: Pod | None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A set of changes being carried out step by step; *step* counts from 0."""

    id: str
    version: str
    changes: tuple[Change, ...]
    steps: tuple[tuple[Action, ...], ...]
    step: int = 0
    groups: tuple[GroupChange, ...] = ()
    pods: tuple[PodChange, ...] = ()

    @property
    def app_ids(self) -> frozenset[str]:
        """Return the apps it touches."""
        return frozenset(change.app_id for change in self.changes)

    @property
    def pod_ids(self) -> frozenset[str]:
        """Return the pods it touches."""
        return frozenset(change.pod_id for change in self.pods)

    @property
    def spec_ids(self) -> frozenset[str]:
        """Return the apps and pods it touches."""
        return self.app_ids | self.pod_ids

    @property
    def actions(self) -> tuple[Action, ...]:
        """Return the actions of the present step; none when all are done."""
        return self.steps[self.step] if self.step < len(self.steps) else ()
