"""The virtual paths of sandboxes, as clients of ``/files`` name them."""

from collections.abc import Mapping
from pathlib import Path

LATEST = "latest"


def sandbox_places(sandboxes: Mapping[tuple[str, str], list[Path]]) -> dict[str, Path]:
    """Return the virtual paths of sandboxes, oldest run first for each framework and executor.

    Each is known by its own path, the last run as ``latest`` beside it, and below
    ``/frameworks``, where links need not know the agent.
    """
    places = {}
    for (framework, executor), runs in sandboxes.items():
        for run in runs:
            places[str(run)] = run
        last = runs[-1]
        places[str(last.parent / LATEST)] = last
        places[f"/frameworks/{framework}/executors/{executor}/runs/{LATEST}"] = last
    return places
