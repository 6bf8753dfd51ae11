"""A handle on the links, routes, rules and addresses of one network namespace.

pyroute2's asynchronous client can't run on uvloop (it refuses netlink
sockets), and its synchronous one blocks; so all calls of one handle run in one
thread of its own, which also is what enters the namespace.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute

from phalanx.core.netns import enter

T = TypeVar("T")


class Rtnl:
    """Runs functions of an IPRoute in the network namespace *netns*; the caller's own by default.

    Files below /proc/sys/net, too, show the namespace of the thread that opens
    them, so `call` serves for them as well.
    """

    def __init__(self, *, netns: Path | None = None) -> None:
        self._netns = netns
        self._local = threading.local()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rtnl", initializer=self._open)

    async def call(self, function: Callable[[IPRoute], T]) -> T:
        """Run *function* in the handle's thread and return its result."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(self._local.ipr))

    def close(self) -> None:
        """Close the socket and end the thread."""
        self._thread.submit(lambda: self._local.ipr.close()).result()
        self._thread.shutdown()

    def _open(self) -> None:
        if self._netns is not None:
            enter(self._netns)
        self._local.ipr = IPRoute()
