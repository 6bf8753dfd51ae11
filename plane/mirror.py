"""The plane's copy of the View: where it comes from, who is told, whether it can be trusted."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from phalanx.net.feed.client import follow
from phalanx.net.feed.record import Numbered
from phalanx.net.feed.source import FeedSource
from phalanx.net.model.view import View
from phalanx.plane.last_view import Lacking, LastView, load_last_view
from phalanx.plane.touched import Touched

SAVE_SECONDS = 1.0
REFUSED_SECONDS = 10.0  # until a disk that refused is asked again


class Mirror:
    """Follows a feed, keeps the newest View in memory and on disk, and relays it.

    *changed* is called after each new View; it must only poke.
    """

    def __init__(self, urls: Sequence[str], path: Path, *, changed: Callable[[], None]) -> None:
        self._urls = urls
        self._last = LastView(path)
        self._lacking = Lacking()
        self._changed = changed
        self._numbered = load_last_view(path)
        self._is_heard = False
        self._unsaved = asyncio.Event()
        self.relay = FeedSource()
        self.touched = Touched()

    @property
    def numbered(self) -> Numbered | None:
        """Return the newest View with its position: the disk's until the feed speaks."""
        return self._numbered

    @property
    def view(self) -> View | None:
        """Return the newest View, None while nothing is known at all."""
        return None if self._numbered is None else self._numbered.view

    @property
    def is_heard(self) -> bool:
        """Tell whether the View came by the feed since this process started."""
        return self._is_heard

    async def run(self) -> None:
        """Follow the feed until cancelled."""
        async for numbered, record in follow(self._urls, alike=self.view):
            self._numbered = numbered
            self._is_heard = True
            self.touched.note(numbered, record)
            self.relay.relay(numbered, record)
            self._lacking.note(record)
            self._unsaved.set()
            self._changed()

    async def keep(self) -> None:
        """Save the View soon after it changed, at most once a second, and when cancelled.

        A thread does so: neither the disk nor a large View stops what else is to be done.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._unsaved.wait()
                is_saved = await loop.run_in_executor(None, self._take_unsaved())
                if not is_saved:
                    self._unsaved.set()
                await asyncio.sleep(SAVE_SECONDS if is_saved else REFUSED_SECONDS)
        finally:
            if self._is_heard:
                self._take_unsaved()()  # waits for the thread, if one is at it

    def _take_unsaved(self) -> Callable[[], bool]:
        """Return what saves all that is not saved yet."""
        assert self._numbered is not None
        self._unsaved.clear()
        return partial(self._last.save, self._numbered, self._lacking.take())
