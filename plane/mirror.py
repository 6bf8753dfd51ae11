"""The plane's copy of the View: where it comes from, who is told, whether it can be trusted."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from phalanx.net.feed.client import follow
from phalanx.net.feed.record import Numbered
from phalanx.net.feed.source import FeedSource
from phalanx.net.model.view import View
from phalanx.plane.last_view import load_last_view, save_last_view
from phalanx.plane.touched import Touched

SAVE_SECONDS = 1.0


class Mirror:
    """Follows a feed, keeps the newest View in memory and on disk, and relays it.

    *changed* is called after each new View; it must only poke.
    """

    def __init__(self, urls: Sequence[str], path: Path, *, changed: Callable[[], None]) -> None:
        self._urls = urls
        self._path = path
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
        async for numbered, record in follow(self._urls):
            self._numbered = numbered
            self._is_heard = True
            self.touched.note(numbered, record)
            self.relay.relay(numbered, record)
            self._unsaved.set()
            self._changed()

    async def keep(self) -> None:
        """Save the View soon after it changed, at most once a second, and when cancelled."""
        try:
            while True:
                await self._unsaved.wait()
                self._save()
                await asyncio.sleep(SAVE_SECONDS)
        finally:
            if self._unsaved.is_set():
                self._save()

    def _save(self) -> None:
        self._unsaved.clear()
        if self._numbered is not None:
            save_last_view(self._path, self._numbered)
