"""Groups, and the root that holds everything (reference marathon §1.11)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from phalanx.marathon.model.app import App


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
