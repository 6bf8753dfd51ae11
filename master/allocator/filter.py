"""Offer filters: what a framework declined stays away for a while; pure."""

import math
from dataclasses import dataclass

from phalanx.mesos.resources import Resources

DEFAULT_SECONDS = 5.0
GREATEST_SECONDS = 31_536_000.0


@dataclass(frozen=True, slots=True)
class Filter:
    """Resources of one agent that one framework refused in one role, until a time."""

    refused: Resources
    until: float

    def blocks(self, free: Resources, now: float) -> bool:
        """Tell whether *free* must not be offered: it is no more than what was refused."""
        return now < self.until and free in self.refused


def refusal(
    seconds: float | None, refused: Resources, *, now: float, interval: float
) -> Filter | None:
    """Return the filter that a decline asks for, None for none.

    Zero asks for none; less, or no number, is taken as 5 s; a filter lives at
    least one allocation interval and at most a year.
    """
    wanted = DEFAULT_SECONDS if seconds is None else seconds
    if math.isnan(wanted) or wanted < 0:
        wanted = DEFAULT_SECONDS
    if wanted == 0:
        return None
    return Filter(refused, now + max(min(wanted, GREATEST_SECONDS), interval))


def with_filter(filters: tuple[Filter, ...], new: Filter) -> tuple[Filter, ...]:
    """Return *filters* and *new* without those that *new* makes superfluous."""
    kept = (item for item in filters if item.until > new.until or item.refused not in new.refused)
    return (*kept, new)
