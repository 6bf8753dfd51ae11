"""Unions of flows as disjoint boxes; pure.

The kernel's sets of concatenated ranges hold no overlapping elements, and
policies overlap freely.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter

Range = tuple[int, int]  # first and last, both included
FIELDS = ("destination", "source", "ports")


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """Flows: ranges of sources, destinations and destination ports."""

    source: Range
    destination: Range
    ports: Range


def disjoint(boxes: Iterable[Box]) -> list[Box]:
    """Return boxes that cover what *boxes* cover, none of which overlaps another.

    The wider of two comes whole, the narrower in the pieces that it adds. The
    result depends on what is given, not on its order.
    """
    groups = [sorted(set(boxes))]
    for field in FIELDS:
        groups = [group for wide in groups for group in _apart(wide, field)]
    return sorted(piece for group in groups for piece in _disjoint(group))


def _apart(boxes: Iterable[Box], field: str) -> Iterator[list[Box]]:
    """Yield groups of boxes such that no two of different groups meet in *field*."""
    group: list[Box] = []
    last = -1
    for box in sorted(boxes, key=attrgetter(field)):
        span: Range = getattr(box, field)
        if group and span[0] > last:
            yield group
            group = []
        group.append(box)
        last = max(last, span[1])
    if group:
        yield group


def _disjoint(boxes: Iterable[Box]) -> list[Box]:
    done: list[Box] = []
    for box in sorted(boxes, key=lambda box: (-_volume(box), box)):
        pieces = [box]
        for other in done:
            if _overlap(box, other):
                pieces = [rest for piece in pieces for rest in _without(piece, other)]
        done += pieces
    return done


def _volume(box: Box) -> int:
    return _width(box.source) * _width(box.destination) * _width(box.ports)


def _width(span: Range) -> int:
    return span[1] - span[0] + 1


def _overlap(one: Box, other: Box) -> bool:
    return (
        _meet(one.destination, other.destination)
        and _meet(one.source, other.source)
        and _meet(one.ports, other.ports)
    )


def _meet(one: Range, other: Range) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _without(box: Box, other: Box) -> list[Box]:
    """Return what of *box* lies outside *other*."""
    if not _overlap(box, other):
        return [box]
    pieces: list[Box] = []
    for field in FIELDS:
        span, cut = getattr(box, field), getattr(other, field)
        if span[0] < cut[0]:
            pieces.append(replace(box, **{field: (span[0], cut[0] - 1)}))
        if span[1] > cut[1]:
            pieces.append(replace(box, **{field: (cut[1] + 1, span[1])}))
        box = replace(box, **{field: (max(span[0], cut[0]), min(span[1], cut[1]))})
    return pieces
