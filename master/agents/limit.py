"""How fast agents may be given up (``--agent_removal_rate_limit``); pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from phalanx.core.error import InvalidError
from phalanx.mesos.duration import parse_duration

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds."""

    count: int
    seconds: float


def parse_rate(text: str) -> Rate | None:
    """Return the rate that *text* (``1/10mins``) spells, None for none; raise InvalidError."""
    if not text:
        return None
    count, slash, duration = text.partition("/")
    if not slash or not count.strip().isdecimal() or int(count) < 1:
        raise InvalidError(f"{text!r} is not a rate such as 1/10mins")
    seconds = parse_duration(duration)
    if seconds <= 0:
        raise InvalidError(f"{text!r}: the time must be more than zero")
    return Rate(int(count), seconds)


@dataclass(slots=True)
class Limit:
    """Lets so many pass in any stretch of the rate's time; all of them without a rate."""

    rate: Rate | None
    _passed: deque[float] = field(default_factory=deque)

    def admits(self, now: float) -> bool:
        """Tell whether one more may pass."""
        if self.rate is None:
            return True
        while self._passed and now - self._passed[0] >= self.rate.seconds:
            self._passed.popleft()
        return len(self._passed) < self.rate.count

    def let_pass(self, waiting: Sequence[T], now: float) -> list[T]:
        """Return the first of those that wait, as many as may pass now, and note that they have."""
        passed = []
        for each in waiting:
            if not self.admits(now):
                break
            self.note(now)
            passed.append(each)
        return passed

    def note(self, now: float) -> None:
        """Note that one has passed."""
        if self.rate is not None:
            self._passed.append(now)
