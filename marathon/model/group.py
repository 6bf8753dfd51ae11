"""Groups, and the root that holds everything (reference marathon §1.11)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from phalanx.marathon.model.app import App
from phalanx.marathon.model.path import groups_above, is_within

S = TypeVar("S")


class Group(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is said of a group itself; what is in it carries its id.

    *enforce_role* makes its name the role of every new service in it; only
    groups at the top have it. *version* is that of the last change of the group itself.
    """

    id: str
    dependencies: tuple[str, ...] = ()
    enforce_role: bool = False
    version: str = ""


@dataclass(frozen=True, slots=True)
class Root:
    """Everything that is defined, by id; every change makes a new one.

    A group that is only part of other ids needs no entry in *groups*.
    """

    apps: Mapping[str, App] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)

    def group_ids(self) -> frozenset[str]:
        """Return the id of every group that is there, also of those that only hold others."""
        found = {"/", *self.groups}
        for path in (*self.groups, *self.apps):
            found.update(groups_above(path))
        return frozenset(found)


class Past(msgspec.Struct, frozen=True):
    """What one change of the root found: what it changed, as that was before; None: not there."""

    version: str
    apps: dict[str, App | None] = {}
    groups: dict[str, Group | None] = {}

    def touches(self, group: str) -> bool:
        """Tell whether the change was to *group* or something in it."""
        return any(is_within(path, group) for path in (*self.apps, *self.groups))


def root_before(root: Root, changes: Iterable[Past]) -> Root:
    """Return *root* as it was before *changes*, which are given newest first."""
    apps: dict[str, App] = dict(root.apps)
    groups: dict[str, Group] = dict(root.groups)
    for past in changes:
        _put_back(apps, past.apps)
        _put_back(groups, past.groups)
    return Root(apps, groups)


def _put_back(present: dict[str, S], before: Mapping[str, S | None]) -> None:
    for path, value in before.items():
        if value is None:
            present.pop(path, None)
        else:
            present[path] = value
