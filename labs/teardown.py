"""Remove a lab, known or not: everything that carries its marks."""

from collections.abc import Callable
from functools import partial

from phalanx.core.error import ConflictError, PhalanxError
from phalanx.labs.cgroup import cgroup_pids, find_cgroups, remove_cgroup, remove_if_empty
from phalanx.labs.mount import remove_directory
from phalanx.labs.outfit import Outfit
from phalanx.labs.place import LAB_VARIABLE, LABS, NETNS, NODE_VARIABLE, Place
from phalanx.labs.process import in_netns, kill_all, with_environment
from phalanx.labs.record import Record
from phalanx.labs.wiring import found_etc, found_namespaces, remove_etc, remove_namespace


def lab_pids(place: Place) -> frozenset[int]:
    """Return every process of the lab, by the three marks it can have."""
    found = with_environment(f"{LAB_VARIABLE}={place.lab}") | cgroup_pids(place.cgroup)
    for name in found_namespaces(place):
        found |= in_netns(NETNS / name)
    return found


def node_pids(place: Place, node: str) -> frozenset[int]:
    """Return every process of one node, those of its containers too."""
    mine = with_environment(f"{LAB_VARIABLE}={place.lab}", f"{NODE_VARIABLE}={node}")
    return mine | in_netns(place.netns_path(node)) | cgroup_pids(place.node_cgroup(node))


def remains(place: Place) -> bool:
    """Say whether anything of the lab exists."""
    return bool(
        place.directory.exists()
        or found_namespaces(place)
        or found_etc(place)
        or find_cgroups(place.cgroup)
        or lab_pids(place)
    )


def take_down(place: Place, record: Record | None, outfit: Outfit | None) -> None:
    """Remove everything of the lab; raise ConflictError naming what would not go.

    What stands in the way of one thing does not keep the others.
    """
    problems: list[str] = []

    def attempt(step: Callable[[], object]) -> None:
        try:
            step()
        except (PhalanxError, OSError) as error:
            problems.append(str(error))

    attempt(lambda: kill_all(lambda: lab_pids(place)))
    if record is not None and outfit is not None:
        for node in record.topology.nodes:
            attempt(partial(outfit.power_off, node))
    for name in found_namespaces(place):
        attempt(partial(remove_namespace, name))
    attempt(lambda: remove_cgroup(place.cgroup))
    attempt(lambda: remove_if_empty("phalanx"))
    for name in found_etc(place):
        attempt(partial(remove_etc, name))
    # Last, for it holds the record: while it is there, everything else may be.
    if problems:
        raise ConflictError(f"lab {place.lab}: {'; '.join(problems)}")
    remove_directory(place.directory)
    _remove_empty_parents()


def _remove_empty_parents() -> None:
    for directory in (LABS, LABS.parent):
        try:
            directory.rmdir()
        except OSError:
            return
