"""What every handler needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.orders import Orders


@dataclass(frozen=True)
class Desk:
    """The board to read, the orders to give, and who we are.

    *leader* is ``host:port``; *master* says where the leading master is, if known.
    """

    board: Board
    orders: Orders
    leader: str
    framework_name: str
    default_network: str | None
    master: Callable[[], str | None]
    started_at: float
    info: Mapping[str, object]


DESK: web.AppKey[Desk] = web.AppKey("desk", Desk)


def desk_of(request: web.Request) -> Desk:
    """Return the desk of the application that got *request*."""
    return request.app[DESK]
