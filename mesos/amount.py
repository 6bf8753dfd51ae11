"""Amounts of one resource: thousandths, spans or a set (reference mesos §5.1)."""

import math
from collections.abc import Iterable

Span = tuple[int, int]  # both ends belong to it
Spans = tuple[Span, ...]
Amount = int | Spans | frozenset[str]


def taken(mine: Amount, other: Amount) -> Amount:
    """Return what is left of *mine*; all of it when the types differ."""
    if isinstance(mine, int) and isinstance(other, int):
        return max(0, mine - other)
    if isinstance(mine, tuple) and isinstance(other, tuple):
        return _without(mine, other)
    if isinstance(mine, frozenset) and isinstance(other, frozenset):
        return mine - other
    return mine


def parse_amount(text: str) -> Amount:
    """Return the amount that a flag spells: ``8``, ``[1-5,7]`` or ``{a,b}``; raise ValueError."""
    if text.startswith("["):
        return merged(_parse_span(span) for span in text.strip("[]").split(","))
    if text.startswith("{"):
        return frozenset(item.strip() for item in text.strip("{}").split(",") if item.strip())
    number = float(text) * 1000
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{text!r} is no amount")
    return round(number)


def _parse_span(text: str) -> Span:
    begin, _, end = text.strip().partition("-")
    span = int(begin), int(end or begin)
    if span[1] < span[0]:
        raise ValueError(f"{text!r} ends before it begins")
    return span


def merged(spans: Iterable[Span]) -> Spans:
    """Sort spans and join those that touch."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return tuple(merged)


def _without(spans: Iterable[Span], taken: Iterable[Span]) -> Spans:
    """Return what is left of *spans* when *taken* is cut out."""
    left = list(spans)
    for cut_begin, cut_end in taken:
        left = [
            part
            for begin, end in left
            for part in ((begin, min(end, cut_begin - 1)), (max(begin, cut_end + 1), end))
            if part[0] <= part[1]
        ]
    return merged(left)
