"""Pieces of long answers, kept from one read to the next while what they tell of stays the same."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

SLICE = 64  # fragments of one piece


class Fragments(Generic[T]):
    """Keeps what was rendered of values that are never changed in place.

    What a whole read did not ask for is forgotten at its end, so nothing is
    kept of what is no longer there.
    """

    def __init__(self, render: Callable[[T], bytes]) -> None:
        self._render = render
        self._kept: dict[Hashable, tuple[T, bytes]] = {}

    def read(self) -> "Reading[T]":
        """Begin a read of everything."""
        return Reading(self)

    def forget(self) -> None:
        """Keep nothing any more."""
        self._kept = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: Hashable, item: T) -> tuple[T, bytes]:
        """Return what is kept under *key* if it is of an equal item, else *item* rendered."""
        found = self._kept.get(key)
        if found is None or not (found[0] is item or found[0] == item):
            found = (item, self._render(item))
            self._kept[key] = found
        return found

    def replace(self, kept: dict[Hashable, tuple[T, bytes]]) -> None:
        """Keep *kept* and nothing else."""
        self._kept = kept


class Reading(Generic[T]):
    """One read of everything; it must be finished to forget what is no longer there."""

    def __init__(self, fragments: Fragments[T]) -> None:
        self._fragments = fragments
        self._seen: dict[Hashable, tuple[T, bytes]] = {}

    def get(self, key: Hashable, item: T) -> bytes:
        """Return an item rendered."""
        found = self._fragments.find(key, item)
        self._seen[key] = found
        return found[1]

    def finish(self) -> None:
        """Forget what this read did not see."""
        self._fragments.replace(self._seen)


def listed(items: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the items of a JSON list, several to a piece."""
    is_first = True
    batch: list[bytes] = []
    for item in items:
        batch.append(item)
        if len(batch) >= SLICE:
            yield (b"" if is_first else b",") + b",".join(batch)
            is_first = False
            batch = []
    if batch:
        yield (b"" if is_first else b",") + b",".join(batch)
