"""A deployment: what changes, in which order, and how far it got."""

import enum

import msgspec

from phalanx.marathon.model.app import App
from phalanx.marathon.model.group import Group


class ActionKind(enum.StrEnum):
    """What one action of a deployment does."""

    START = "StartApplication"
    STOP = "StopApplication"
    SCALE = "ScaleApplication"
    RESTART = "RestartApplication"


class Action(msgspec.Struct, frozen=True):
    """One action on one app."""

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


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A set of changes being carried out step by step; *step* counts from 0."""

    id: str
    version: str
    changes: tuple[Change, ...]
    steps: tuple[tuple[Action, ...], ...]
    step: int = 0
    groups: tuple[GroupChange, ...] = ()

    @property
    def app_ids(self) -> frozenset[str]:
        """Return the apps it touches."""
        return frozenset(change.app_id for change in self.changes)

    @property
    def actions(self) -> tuple[Action, ...]:
        """Return the actions of the present step; none when all are done."""
        return self.steps[self.step] if self.step < len(self.steps) else ()
