"""How other parts of the master ask the allocator for a run."""

from collections.abc import Iterable
from typing import Protocol


class Poke(Protocol):
    """Ask for a run soon; a burst costs one run."""

    def __call__(self, agents: Iterable[str] | None = None) -> None:
        """Ask for a run over some agents, by their ids; None for all of them."""
        ...
