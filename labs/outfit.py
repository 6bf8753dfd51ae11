"""What runs on the nodes of a lab, as the lab sees it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from phalanx.labs.topology import Node


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process: its name on the node and its command."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """Something to wait for; *missing* returns None once it holds, else what is missing."""

    name: str
    missing: Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class Wave:
    """Processes started together, and what must hold before the next wave."""

    processes: Mapping[str, Sequence[ProcessSpec]]
    conditions: Sequence[Condition] = field(default=())


class Outfit(Protocol):
    """What a lab runs; the lab itself knows no daemon."""

    def prepare(self, node: Node) -> None:
        """Write the files that a node's processes need; called again when it is started anew."""
        ...

    def nameservers(self) -> Sequence[str]:
        """Return what goes into a node's resolv.conf."""
        ...

    def waves(self) -> Sequence[Wave]:
        """Return all processes, in the order in which they are started."""
        ...

    def power_off(self, node: Node) -> None:
        """Remove what of a node would not survive a loss of power, its processes being dead."""
        ...


@dataclass(frozen=True, slots=True)
class Bare:
    """An outfit of nothing: nodes and wires alone."""

    resolvers: tuple[str, ...] = ()
    processes: Mapping[str, Sequence[ProcessSpec]] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()

    def prepare(self, node: Node) -> None:
        """Need nothing."""

    def nameservers(self) -> Sequence[str]:
        """Return the resolvers given."""
        return self.resolvers

    def waves(self) -> Sequence[Wave]:
        """Return one wave of the processes given."""
        return [Wave(self.processes, self.conditions)]

    def power_off(self, node: Node) -> None:
        """Have nothing to lose."""


def make_directories(*directories: Path) -> None:
    """Make directories that a process expects."""
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
