"""Which files the fetcher's cache holds, and which have to go for another; pure."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

Key = tuple[str, str]  # user, URI


@dataclass(slots=True)
class Held:
    """A file in the cache: its size in bytes, and how many are reading it."""

    name: str
    size: int
    readers: int = 0


class Shelf:
    """The cache's files, the one that was not used for longest first."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._held: OrderedDict[Key, Held] = OrderedDict()

    def __iter__(self) -> Iterator[Key]:
        """Yield what is held, the one that was not used for longest first."""
        return iter(self._held)

    @property
    def used(self) -> int:
        """Return how many bytes are taken."""
        return sum(held.size for held in self._held.values())

    def find(self, key: Key) -> Held | None:
        """Return a file, which counts as used now."""
        if key in self._held:
            self._held.move_to_end(key)
        return self._held.get(key)

    def make_room(self, size: int) -> tuple[str, ...] | None:
        """Let go of what must go for *size* more bytes, and return its names; None if too much."""
        free = self._capacity - self.used
        gone: list[Key] = []
        for key, held in self._held.items():
            if free >= size:
                break
            if not held.readers:
                gone.append(key)
                free += held.size
        if free < size:
            return None
        return tuple(self._held.pop(key).name for key in gone)

    def add(self, key: Key, name: str, size: int) -> Held:
        """Take a file in."""
        held = self._held[key] = Held(name, size)
        return held

    def drop(self, key: Key) -> None:
        """Forget a file."""
        self._held.pop(key, None)
