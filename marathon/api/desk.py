"""What every handler needs: the seat of leadership, and the desk of whoever sits there."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from phalanx.core.error import UnavailableError
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.orders import Orders
from phalanx.marathon.ledger.archive import Archives


@dataclass(frozen=True)
class Desk:
    """The board to read, the orders to give, and who we are.

    *leader* is ``host:port``; *master* says where the leading master is, if
    known; *abdicate* lets another lead; *archives* are copies of the state.
    """

    board: Board
    orders: Orders
    leader: str
    framework_name: str
    default_network: str | None
    master: Callable[[], str | None]
    started_at: float
    info: Mapping[str, object]
    abdicate: Callable[[], None]
    archives: Archives


class Seat:
    """Who leads, as one Marathon sees it: ``desk`` is there while we do and are ready.

    *me* and ``leader`` are ``host:port``; ``leader`` is None while nobody leads.
    *is_certain* tells whether the election's word still holds: a process that was
    stopped for a while has no desk until it has heard again who leads.
    """

    def __init__(self) -> None:
        self.me = ""  # until we listen and know our port
        self.leader: str | None = None
        self.is_certain: Callable[[], bool] = lambda: True
        self._desk: Desk | None = None
        self._changed = asyncio.Event()

    @property
    def desk(self) -> Desk | None:
        """Return our desk while we certainly lead."""
        return self._desk if self._desk is not None and self.is_certain() else None

    @property
    def is_mine(self) -> bool:
        """Tell whether we lead, ready or not."""
        return self.leader == self.me

    def fill(self, leader: str | None, desk: Desk | None = None) -> None:
        """Note who leads now, with our desk if that is us and we are ready."""
        self.leader, self._desk = leader, desk
        self._changed.set()
        self._changed = asyncio.Event()

    async def filled(self, seconds: float) -> bool:
        """Wait until somebody leads whom we can ask; tell whether there is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.desk is None and (self.leader is None or self.is_mine):
                    await self._changed.wait()
        return self.desk is not None or (self.leader is not None and not self.is_mine)


SEAT: web.AppKey[Seat] = web.AppKey("seat", Seat)


def desk_of(request: web.Request) -> Desk:
    """Return the desk of the leader that got *request*; raise UnavailableError as we lost it."""
    desk = request.app[SEAT].desk
    if desk is None:
        raise UnavailableError("leadership is lost")
    return desk
