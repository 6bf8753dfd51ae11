"""Host ports: which an app needs, and which an offer gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from phalanx.marathon.schedule.demand import DYNAMIC
from phalanx.mesos.amount import Span

_FIRST_GENERATED = 1025


@dataclass(frozen=True, slots=True)
class PortPlan:
    """The ports of one task: *host* to take from the offer, *told* for its environment.

    Both follow the order of the app's ports; *host* has None where a port is
    the container's own.
    """

    host: tuple[int | None, ...]
    told: tuple[int, ...]

    @property
    def taken(self) -> tuple[int, ...]:
        """Return the host ports."""
        return tuple(port for port in self.host if port is not None)


def planned_ports(
    wanted: Sequence[int | None], inner: Sequence[int], offered: Sequence[Span], rng: Random
) -> PortPlan | None:
    """Choose host ports from *offered*; None when it can't give what is wanted.

    *wanted* and *inner* are those of a Demand. Dynamic ports are a run from a
    random place, wrapping over the ranges.
    """
    fixed = {port for port in wanted if port}
    if not all(any(begin <= port <= end for begin, end in offered) for port in fixed):
        return None
    dynamic = _run(offered, fixed, sum(port == DYNAMIC for port in wanted), rng)
    if dynamic is None:
        return None
    host = tuple(dynamic.pop(0) if port == DYNAMIC else port for port in wanted)
    told = (
        port or own or rng.randrange(_FIRST_GENERATED, 65536)
        for port, own in zip(host, inner, strict=True)
    )
    return PortPlan(host, tuple(told))


def _run(spans: Sequence[Span], without: set[int], count: int, rng: Random) -> list[int] | None:
    """Return *count* ports of *spans*, one after another from a random one on."""
    if count == 0:
        return []
    size = sum(end - begin + 1 for begin, end in spans)
    if size < count + len(without):
        return None
    chosen: list[int] = []
    place = rng.randrange(size)
    for step in range(size):
        port = _at(spans, (place + step) % size)
        if port not in without:
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    return None


def _at(spans: Sequence[Span], index: int) -> int:
    for begin, end in spans:
        if index <= end - begin:
            return begin + index
        index -= end - begin + 1
    raise IndexError(index)
