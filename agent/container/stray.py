"""Which processes of a container were not started by its command; pure."""

from collections.abc import Mapping


def strays(parents: Mapping[int, int], init: int) -> frozenset[int]:
    """Return the processes that entered from outside, with all that they started.

    *parents* has the parent of each process in the container; of the container's
    own tree only *init* has one outside.
    """
    found = {pid for pid, parent in parents.items() if parent not in parents and pid != init}
    while True:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        if not children:
            return frozenset(found)
        found |= children
