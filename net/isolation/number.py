"""Numbers for classes and pairs, made from what they are; pure."""

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T", bound=tuple[object, ...])


@dataclass(frozen=True, slots=True)
class Numbers(Generic[T]):
    """A number for each of some things, as nft writes a class id; no two have the same.

    *is_plain*: each has the first number that its digest gives. Where two would
    have one, all are given out in the order of the things.
    """

    of: Mapping[T, str] = field(default_factory=dict)
    is_plain: bool = True

    def follow(self, things: Set[T]) -> "Numbers[T]":
        """Return the numbers of *things*; they depend on *things* alone."""
        if things == self.of.keys():
            return self
        known = self.of if self.is_plain else {}
        found = {thing: known.get(thing) or _number(thing, 0) for thing in things}
        if len(set(found.values())) == len(found):
            return Numbers(found)
        return Numbers(_given_out(sorted(things)), is_plain=False)


def _given_out(things: Iterable[T]) -> dict[T, str]:
    taken: set[str] = set()
    found: dict[T, str] = {}
    for thing in things:
        attempt = 0
        while (number := _number(thing, attempt)) in taken:
            attempt += 1
        taken.add(number)
        found[thing] = number
    return found


def _number(thing: tuple[object, ...], attempt: int) -> str:
    digest = hashlib.blake2b(f"{attempt} {thing!r}".encode(), digest_size=8).digest()
    major = 1 + int.from_bytes(digest[:4], "big") % 0xFFFE
    minor = 1 + int.from_bytes(digest[4:], "big") % 0xFFFE
    return f"{major:x}:{minor:x}"
