"""Resource arithmetic (reference mesos §5.1): scalars to three decimals, ranges of integers."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.mesos import (
    AllocationInfo,
    Range,
    Ranges,
    Resource,
    Scalar,
    ValueType,
)

Span = tuple[int, int]  # both ends belong to it

_FLAG = re.compile(r"^\s*([\w.-]+)\s*:\s*(.+?)\s*$")


@dataclass(frozen=True, slots=True)
class Resources:
    """Unreserved resources: thousandths of each scalar, disjoint ascending spans of each range.

    Names with nothing left are left out, so two equal amounts compare equal.
    """

    scalars: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, messages: Iterable[Resource]) -> "Resources":
        """Add up v1 resources; raise InvalidError for other types and what is no amount."""
        total = cls()
        for message in messages:
            if message.type == ValueType.SCALAR and message.scalar is not None:
                thousandths = message.scalar.value * 1000
                if not math.isfinite(thousandths):
                    raise InvalidError(
                        f"resource {message.name!r}: {message.scalar.value} is no amount"
                    )
                total += cls(scalars=_kept({message.name: round(thousandths)}))
            elif message.type == ValueType.RANGES and message.ranges is not None:
                for part in message.ranges.range:
                    if part.end < part.begin:
                        raise InvalidError(
                            f"resource {message.name!r}: {part.begin}-{part.end} ends before"
                            " it begins"
                        )
                spans = _merged((part.begin, part.end) for part in message.ranges.range)
                total += cls(ranges={message.name: spans} if spans else {})
            else:
                raise InvalidError(
                    f"resource {message.name!r}: type {message.type} is not supported"
                )
        return total

    @classmethod
    def parse(cls, text: str) -> "Resources":
        """Parse Mesos' flag form, ``cpus:8;mem:1024;ports:[31000-32000]``; raise InvalidError."""
        total = cls()
        for part in filter(str.strip, text.split(";")):
            match = _FLAG.match(part)
            if match is None:
                raise InvalidError(f"resource {part!r} is not name:value")
            name, value = match.groups()
            try:
                if value.startswith("["):
                    spans = [_parse_span(span) for span in value.strip("[]").split(",")]
                    total += cls(ranges={name: _merged(spans)})
                else:
                    total += cls(scalars=_kept({name: round(float(value) * 1000)}))
            except ValueError as error:
                raise InvalidError(f"resource {part!r}: {error}") from error
        return total

    def messages(self, *, role: str | None = None) -> tuple[Resource, ...]:
        """Return v1 resources, each allocated to *role* if one is given."""
        allocation = None if role is None else AllocationInfo(role=role)
        scalars = (
            Resource(
                name=name,
                type=ValueType.SCALAR,
                scalar=Scalar(value=amount / 1000),
                role="*",
                allocation_info=allocation,
            )
            for name, amount in self.scalars.items()
        )
        ranges = (
            Resource(
                name=name,
                type=ValueType.RANGES,
                ranges=Ranges(range=tuple(Range(begin=b, end=e) for b, e in spans)),
                role="*",
                allocation_info=allocation,
            )
            for name, spans in self.ranges.items()
        )
        return (*scalars, *ranges)

    def scalar(self, name: str) -> float:
        """Return the amount of one scalar; 0.0 when there is none."""
        return self.scalars.get(name, 0) / 1000

    def __add__(self, other: "Resources") -> "Resources":
        scalars = dict(self.scalars)
        for name, amount in other.scalars.items():
            scalars[name] = scalars.get(name, 0) + amount
        ranges = dict(self.ranges)
        for name, spans in other.ranges.items():
            ranges[name] = _merged((*ranges.get(name, ()), *spans))
        return Resources(_kept(scalars), ranges)

    def __sub__(self, other: "Resources") -> "Resources":
        """Take *other* away; what is not there to take is ignored."""
        scalars = dict(self.scalars)
        for name, amount in other.scalars.items():
            scalars[name] = scalars.get(name, 0) - amount
        ranges = dict(self.ranges)
        for name, spans in other.ranges.items():
            ranges[name] = _without(ranges.get(name, ()), spans)
        return Resources(_kept(scalars), {name: spans for name, spans in ranges.items() if spans})

    def __contains__(self, other: "Resources") -> bool:
        """Tell whether *other* fits into these."""
        return all(
            self.scalars.get(name, 0) >= amount for name, amount in other.scalars.items()
        ) and all(
            not _without(spans, self.ranges.get(name, ())) for name, spans in other.ranges.items()
        )

    def __bool__(self) -> bool:
        return bool(self.scalars or self.ranges)


def _kept(scalars: Mapping[str, int]) -> Mapping[str, int]:
    return {name: amount for name, amount in scalars.items() if amount > 0}


def _parse_span(text: str) -> Span:
    begin, _, end = text.strip().partition("-")
    span = int(begin), int(end or begin)
    if span[1] < span[0]:
        raise ValueError(f"{text!r} ends before it begins")
    return span


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sort spans and join those that touch."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return tuple(merged)


def _without(spans: Iterable[Span], taken: Iterable[Span]) -> tuple[Span, ...]:
    """Return what is left of *spans* when *taken* is cut out."""
    left = list(spans)
    for cut_begin, cut_end in taken:
        left = [
            part
            for begin, end in left
            for part in ((begin, min(end, cut_begin - 1)), (max(begin, cut_end + 1), end))
            if part[0] <= part[1]
        ]
    return _merged(left)
