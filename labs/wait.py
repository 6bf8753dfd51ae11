"""Waiting for a condition, with a deadline."""

import threading
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], *, seconds: float, interval: float = 0.02) -> bool:
    """Ask *condition* again and again until it holds; return False after *seconds* without."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        pause.wait(min(interval, left))
    return True
