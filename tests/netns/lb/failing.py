"""nftables and netlink of which one call fails."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from phalanx.core.error import DataplaneError
from phalanx.net.nft.library import Nft

T = TypeVar("T")


class FailingNft(Nft):
    """The real library, of whose calls one fails: unheard, or with its answer lost."""

    def __init__(self, *, netns: Path) -> None:
        super().__init__(netns=netns)
        self.left: int | None = None  # calls until one fails
        self.is_heard = False

    def _fails(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        if self.left >= 0:
            return False
        self.left = None
        return True

    async def run(self, script: str, *, table: str) -> None:
        fails = self._fails()
        if not fails or self.is_heard:
            await super().run(script, table=table)
        if fails:
            raise DataplaneError("no answer", table=table)

    async def open(self, make: Callable[[], T]) -> T:
        if self._fails():
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return await super().open(make)
