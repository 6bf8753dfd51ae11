"""What a containerizer is asked for: one container, whoever wants it; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import CommandInfo, ContainerID, ContainerInfo, Scalar

Kind = Literal["task", "executor", "nested", "debug", "standalone"]
Stdio = Literal["files", "session"]

LONGEST_ID = 242  # characters, as in Mesos


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """One container as it is to be.

    *command* is None for a container that only holds namespaces and cgroups for
    others. *environment* is whatever the asker adds; what the containerizer finds
    out by itself (`container.environment`) lies below it, the variables of
    *command* above. *user* is a name of this machine, None for the agent's own.
    *hostname* counts where the ContainerInfo has none. *parent_volumes* are the persistent
    volumes of its parent: a path of the parent's sandbox that is one of them is that volume.
    """

    container_id: ContainerID
    kind: Kind
    sandbox: Path
    command: CommandInfo | None = None
    container: ContainerInfo | None = None
    resources: Resources = field(default_factory=Resources)
    limits: Mapping[str, Scalar] = field(default_factory=dict)
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    framework_id: str | None = None
    executor_id: str | None = None
    task_id: str | None = None
    has_own_cgroup: bool = True
    stdio: Stdio = "files"
    hostname: str | None = None
    parent_volumes: Resources = field(default_factory=Resources)

    @property
    def id(self) -> str:
        """Return the container's id as text."""
        return id_text(self.container_id)

    @property
    def parent(self) -> str | None:
        """Return the parent's id as text."""
        parent = self.container_id.parent
        return id_text(parent) if parent is not None else None


def id_text(container_id: ContainerID) -> str:
    """Return an id with its parents, ``a.b.c``; raise ContainerError for one that can't be."""
    parts: list[str] = []
    here: ContainerID | None = container_id
    while here is not None:
        if not here.value or any(sign in "./\\ " or ord(sign) < 33 for sign in here.value):
            raise ContainerError(f"container_id: {here.value!r}: is not allowed")
        parts.append(here.value)
        here = here.parent
    text = ".".join(reversed(parts))
    if len(text) > LONGEST_ID:
        raise ContainerError(f"container_id: is longer than {LONGEST_ID} characters")
    return text


def id_message(text: str) -> ContainerID:
    """Return what *text* is the text of."""
    parent, _, value = text.rpartition(".")
    return ContainerID(value=value, parent=id_message(parent) if parent else None)


def lineage(text: str) -> Iterator[str]:
    """Yield a container's ancestors, the nearest first."""
    while "." in text:
        text = text.rpartition(".")[0]
        yield text


def descendants(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of *known* that are nested in a container, the deepest first."""
    found = [other for other in known if other.startswith(f"{text}.")]
    return tuple(sorted(found, key=lambda other: (-other.count("."), other)))
