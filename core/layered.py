"""Large mappings that follow one another without being copied; pure.

A View of 50,000 tasks, or the services made of it, is never changed, only
followed by another that differs in a few keys. To copy the whole for that, and
to free what came before, takes a millisecond: as long as all the rest of a change.
"""

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from math import isqrt
from typing import TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

LEAST = 64  # changes that are kept apart from whatever they change
_ABSENT = object()


class Layered(Mapping[K, V]):
    """What a mapping has become by some changes.

    Whoever walks over all of it pays for a copy, once; a lookup costs two.
    """

    __slots__ = ("_layers",)

    def __init__(self, base: dict[K, V], over: dict[K, V | None], length: int) -> None:
        # Always replaced as one: another thread may look meanwhile.
        self._layers = base, over, length

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: K, /, default: V | D | None = None) -> V | D | None:
        """Return the value of a key, or *default*."""
        base, over, _ = self._layers
        value = over.get(key, _ABSENT)
        if value is _ABSENT:
            return base.get(key, default)
        return default if value is None else value  # type: ignore[return-value]  # not _ABSENT

    def __getitem__(self, key: K) -> V:
        base, over, _ = self._layers
        if key not in over:
            return base[key]
        value = over[key]
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        base, over, _ = self._layers
        return over[key] is not None if key in over else key in base

    def __len__(self) -> int:
        return self._layers[2]

    def __iter__(self) -> Iterator[K]:
        return iter(self._whole())

    def items(self) -> ItemsView[K, V]:
        """Return keys with their values."""
        return self._whole().items()

    def values(self) -> ValuesView[V]:
        """Return the values."""
        return self._whole().values()

    def __repr__(self) -> str:
        return repr(self._whole())

    def _whole(self) -> dict[K, V]:
        base, over, length = self._layers
        if over:
            base = _merged(base, over)
            self._layers = base, {}, length
        return base


def with_changes(before: Mapping[K, V], changes: Mapping[K, V | None]) -> Mapping[K, V]:
    """Return what *before* becomes by *changes*, where None removes; *before* stays as it is.

    *before* is not to be changed afterwards by whoever made it. Without changes it is returned.
    """
    if not changes:
        return before
    length = len(before)
    for key, value in changes.items():
        length += (value is not None) - (key in before)
    base, over = _layers_of(before)
    if len(over) + len(changes) > max(LEAST, isqrt(4 * len(base))):
        return _merged(_merged(base, over), changes)
    return Layered(base, {**over, **changes}, length)


def whole_of(mapping: Mapping[K, V]) -> Mapping[K, V]:
    """Return all of a mapping as a dict, which knows the hashes of its keys; not to be changed."""
    return mapping._whole() if isinstance(mapping, Layered) else mapping


def differing(before: Mapping[K, V], after: Mapping[K, V]) -> list[K] | None:
    """Return all keys by which two may differ if that takes no look at each, else None."""
    base, old = _layers_of(before)
    other, new = _layers_of(after)
    return list({**old, **new}) if base is other else None


def _layers_of(mapping: Mapping[K, V]) -> tuple[dict[K, V], dict[K, V | None]]:
    if isinstance(mapping, Layered):
        base, over, _ = mapping._layers
        return base, over
    return mapping if isinstance(mapping, dict) else dict(mapping), {}


def _merged(base: dict[K, V], over: Mapping[K, V | None]) -> dict[K, V]:
    whole = dict(base)
    for key, value in over.items():
        if value is None:
            whole.pop(key, None)
        else:
            whole[key] = value
    return whole
