"""One claim: figures measured in one run, each against its goal, as a table or as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.table import Table


class Bound(StrEnum):
    """What a goal bounds."""

    OURS_AT_MOST = "ours ≤"
    OURS_AT_LEAST = "ours ≥"
    RATIO_AT_MOST = "ratio ≤"
    RATIO_AT_LEAST = "ratio ≥"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; *peer* is what somebody else needed in the same run."""

    name: str
    unit: str
    ours: float
    bound: Bound
    goal: float
    peer: float | None = None

    @property
    def ratio(self) -> float | None:
        """Return ours over the peer's, None without a peer."""
        return None if self.peer is None else self.ours / self.peer

    @property
    def is_held(self) -> bool:
        """Tell whether the goal is held; a ratio without a peer is not."""
        if self.bound is Bound.OURS_AT_MOST:
            return self.ours <= self.goal
        if self.bound is Bound.OURS_AT_LEAST:
            return self.ours >= self.goal
        if self.ratio is None:
            return False
        at_most = self.bound is Bound.RATIO_AT_MOST
        return self.ratio <= self.goal if at_most else self.ratio >= self.goal


def report(claim: str, figures: Sequence[Figure], *, as_json: bool) -> int:
    """Print the figures; return the exit status, 1 if a goal is not held."""
    is_held = bool(figures) and all(figure.is_held for figure in figures)
    if as_json:
        rows = [
            {
                "figure": figure.name,
                "unit": figure.unit,
                "ours": figure.ours,
                "peer": figure.peer,
                "ratio": figure.ratio,
                "goal": f"{figure.bound} {figure.goal:g}",
                "held": figure.is_held,
            }
            for figure in figures
        ]
        print(json.dumps({"claim": claim, "machine": machine(), "figures": rows}, indent=2))
        return 0 if is_held else 1
    table = Table("figure", "ours", "peer", "ratio", "goal", "held", title=claim)
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.ours:.3g} {figure.unit}",
            "" if figure.peer is None else f"{figure.peer:.3g} {figure.unit}",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            f"{figure.bound} {figure.goal:g}",
            "yes" if figure.is_held else "NO",
        )
    console = Console()
    console.print(table)
    console.print(f"on {machine()}")
    return 0 if is_held else 1


def machine() -> str:
    """Return what the figures were measured on."""
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
