"""What the labels of a port choose about its VIPs: scheduler, affinity, weight; pure.

A label that can't be used is as if it were not there, and is listed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeVar

import msgspec

from phalanx.core.error import InvalidError
from phalanx.lb.service import Scheduler

T = TypeVar("T", Scheduler, int)

SCHEDULER_KEY = "LB_SCHEDULER"
AFFINITY_KEY = "LB_AFFINITY"  # seconds
WEIGHT_KEY = "LB_WEIGHT"
GREATEST_AFFINITY = 7 * 24 * 3600
GREATEST_WEIGHT = 65535  # what IPVS calls a reasonable one
# The labels of one port are looked at anew with each View.
REMEMBERED = 65536
LONGEST = 64  # characters of a value that are looked at: no usable one is as long


class Options(msgspec.Struct, frozen=True):
    """What one port says; None where it says nothing."""

    scheduler: Scheduler | None = None
    affinity_seconds: int | None = None
    weight: int = 1


class BadOption(msgspec.Struct, frozen=True, order=True):
    """A label that was left out, and why."""

    key: str
    value: str
    reason: str


NONE = Options()


def read_options(labels: Iterable[tuple[str, str]]) -> tuple[Options, tuple[BadOption, ...]]:
    """Return what *labels* say of a port's VIPs, and the labels that say nothing usable."""
    said = tuple((key, value[:LONGEST]) for key, value in labels if key in _READERS)
    return _read(said) if said else (NONE, ())


@lru_cache(maxsize=REMEMBERED)
def _read(labels: tuple[tuple[str, str], ...]) -> tuple[Options, tuple[BadOption, ...]]:
    said = dict(labels)
    bad: list[BadOption] = []
    good: dict[str, Scheduler | int] = {}
    for key, value in said.items():
        field, read = _READERS[key]
        try:
            good[field] = read(value)
        except InvalidError as error:
            bad.append(BadOption(key, value, str(error)))
    return msgspec.convert(good, Options), tuple(bad)


def agreed(options: Sequence[Options]) -> tuple[Scheduler, int]:
    """Return scheduler and affinity of a VIP whose ports say *options*.

    Where they differ, what most of them say counts; of equally many the first
    scheduler by name and the longest affinity. Who says nothing has no voice.
    """
    scheduler = _most((each.scheduler for each in options), lambda said: said.value)
    affinity = _most((each.affinity_seconds for each in options), lambda said: -said)
    return scheduler or Scheduler.WLC, affinity or 0


def disagreements(options: Sequence[Options]) -> tuple[str, ...]:
    """Return in words what the ports of one VIP say differently."""
    scheduler, affinity = agreed(options)
    schedulers = {each.scheduler for each in options if each.scheduler is not None}
    affinities = {each.affinity_seconds for each in options if each.affinity_seconds is not None}
    found = []
    if len(schedulers) > 1:
        said = ", ".join(sorted(schedulers))
        found.append(f"{SCHEDULER_KEY}: tasks say {said}: {scheduler} counts")
    if len(affinities) > 1:
        said = ", ".join(map(str, sorted(affinities)))
        found.append(f"{AFFINITY_KEY}: tasks say {said}: {affinity} counts")
    return tuple(found)


def _most(said: Iterable[T | None], rank: Callable[[T], str | int]) -> T | None:
    votes = Counter(each for each in said if each is not None)
    return min(votes, key=lambda each: (-votes[each], rank(each)), default=None)


def _scheduler(text: str) -> Scheduler:
    try:
        return Scheduler(text.strip().lower())
    except ValueError as error:
        raise InvalidError(f"{text!r} is none of {', '.join(Scheduler)}") from error


def _number(text: str, greatest: int) -> int:
    word = text.strip()
    if word.isascii() and word.isdecimal() and len(word) < 10 and int(word) <= greatest:
        return int(word)
    raise InvalidError(f"{text!r} is not in 0..{greatest}")


_READERS: dict[str, tuple[str, Callable[[str], Scheduler | int]]] = {
    SCHEDULER_KEY: ("scheduler", _scheduler),
    AFFINITY_KEY: ("affinity_seconds", lambda text: _number(text, GREATEST_AFFINITY)),
    WEIGHT_KEY: ("weight", lambda text: _number(text, GREATEST_WEIGHT)),
}
