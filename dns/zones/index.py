"""The names of one zone and who holds them, changed name by name."""

from collections.abc import Iterator
from typing import Generic, TypeVar

H = TypeVar("H")


class NameIndex(Generic[H]):
    """Maps each name below *apex* to its holders, and knows the names that only have others below.

    Adding and removing costs what one name costs, however many there are. A
    holder alone at a name takes no container: most names have just one.
    """

    def __init__(self, apex: str) -> None:
        self.apex = apex
        self._one: dict[str, H] = {}
        self._several: dict[str, list[H]] = {}  # for names in _one: all of their holders
        self._children: dict[str, int] = {}  # names right below, by name
        self._bare = 0  # names in _children that are not in _one

    def __len__(self) -> int:
        return len(self._one) + self._bare

    def __iter__(self) -> Iterator[str]:
        yield from self._one
        for name in self._children:
            if name not in self._one:
                yield name

    def __contains__(self, name: object) -> bool:
        return name in self._one or name in self._children

    def holders(self, name: str) -> tuple[H, ...]:
        """Return who holds *name*; nobody at a name that only has others below."""
        several = self._several.get(name)
        if several is not None:
            return tuple(several)
        return (self._one[name],) if name in self._one else ()

    def add(self, name: str, holder: H) -> None:
        """Add a holder that is not at the name yet."""
        first = self._one.get(name)
        if first is None:
            self._one[name] = holder
            if name not in self._children:
                self._link(name)
            else:
                self._bare -= 1
        else:
            self._several.setdefault(name, [first]).append(holder)

    def remove(self, name: str, holder: H) -> None:
        """Remove a holder that is at the name."""
        several = self._several.get(name)
        if several is None:
            del self._one[name]
            if name not in self._children:
                self._unlink(name)
            else:
                self._bare += 1
            return
        several.remove(holder)
        self._one[name] = several[0]
        if len(several) == 1:
            del self._several[name]

    def _link(self, name: str) -> None:
        """Count a name that came into being at its parent, and that one at its own."""
        children, apex = self._children, self.apex
        while name != apex:
            name = name[name.index(".") + 1 :]
            count = children.get(name)
            if count is not None:
                children[name] = count + 1
                return
            children[name] = 1
            if name in self._one:
                return
            self._bare += 1

    def _unlink(self, name: str) -> None:
        while name != self.apex:
            name = name[name.index(".") + 1 :]
            left = self._children[name] - 1
            if left:
                self._children[name] = left
                return
            del self._children[name]
            if name in self._one:
                return
            self._bare -= 1
