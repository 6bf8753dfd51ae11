"""The changes that turn one mapping into another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Delta(Generic[K, V]):
    """Changes that turn one mapping into another; falsy when there are none."""

    upserts: Mapping[K, V]
    removals: frozenset[K]

    def __bool__(self) -> bool:
        return bool(self.upserts or self.removals)


def delta(desired: Mapping[K, V], actual: Mapping[K, V]) -> Delta[K, V]:
    """Compute the changes that turn *actual* into *desired*."""
    return Delta(
        upserts={
            key: value
            for key, value in desired.items()
            if key not in actual or actual[key] != value
        },
        removals=frozenset(actual.keys() - desired.keys()),
    )


def only(keys: Iterable[K], desired: Mapping[K, V]) -> Delta[K, V]:
    """Return the changes where *desired* may differ at *keys* only."""
    keys = list(keys)
    return Delta(
        upserts={key: desired[key] for key in keys if key in desired},
        removals=frozenset(key for key in keys if key not in desired),
    )
