"""Where the time of a master comes from."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that only ever goes forward, and the one on the wall."""

    def now(self) -> float:
        """Return seconds of the monotonic clock: for deadlines and silences."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch: for what people and clients read."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def now(self) -> float:
        """Return the monotonic clock."""
        return time.monotonic()

    def wall(self) -> float:
        """Return the wall clock."""
        return time.time()
