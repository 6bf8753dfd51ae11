"""How much a process logs, and for how long it logs more."""

import asyncio
from typing import Any

import structlog

from phalanx.core.log import LEVELS


class Verbosity:
    """Raises the verbosity of the log for a while, as Mesos' ``/logging/toggle`` does.

    Level 0 is what the process was started with; any other logs debug lines too.
    """

    def __init__(self) -> None:
        self.level = 0
        self._usual: Any = None
        self._back: asyncio.TimerHandle | None = None

    def set(self, level: int, seconds: float) -> None:
        """Log at *level* for some seconds, then as at the start again."""
        if self._usual is None:
            self._usual = structlog.get_config()["wrapper_class"]
        if self._back is not None:
            self._back.cancel()
        self.level = level
        more = structlog.make_filtering_bound_logger(LEVELS["debug"])
        if not level:
            self.reset()
            return
        structlog.configure(**{**structlog.get_config(), "wrapper_class": more})
        self._back = asyncio.get_running_loop().call_later(seconds, self.reset)

    def reset(self) -> None:
        """Log as at the start again."""
        if self._back is not None:
            self._back.cancel()
            self._back = None
        if self._usual is not None:
            structlog.configure(**{**structlog.get_config(), "wrapper_class": self._usual})
            self._usual = None
        self.level = 0
