"""Open an application on TCP addresses and unix sockets."""

import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from phalanx.core.api.cut import cut
from phalanx.core.error import ConfigError

log = structlog.get_logger()

# Connections that wait to be accepted. Thousands of agents come at once to a new leader, and one
# that finds no room believes to be connected and waits for minutes.
BACKLOG = 4096
# After which a connection without a whole request's head is closed, whether it is idle or takes its
# time on purpose. Go's clients close one that is idle after 90 s: we must not be first.
IDLE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP address to listen on; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@asynccontextmanager
async def serve(
    app: web.Application,
    *where: Listener | Path,
    shutdown_seconds: float = 0.5,
    idle_seconds: float = IDLE_SECONDS,
    must_cut: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Sequence[Listener | Path]]:
    """Serve *app* on every address while the context lasts; yield where it really listens.

    A unix socket left behind by a dead process is replaced. Raises ConfigError
    when an address can't be opened, or somebody listens there. With *must_cut* at the end nothing
    that is on its way to anybody arrives any more.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_logger(),
        shutdown_timeout=shutdown_seconds,
        keepalive_timeout=idle_seconds,
        handler_cancellation=True,
    )
    await runner.setup()
    try:
        bound = [await _open(runner, place) for place in where]
        yield bound
    finally:
        if must_cut() and runner.server is not None:
            for connection in runner.server.connections:
                cut(connection.transport)
        await runner.cleanup()


def _logger() -> logging.Logger:
    """Return where errors of the server go: ours alone.

    Who sends what is no HTTP is answered so; if it were logged, anybody could fill the disk.
    """
    logger = logging.Logger("http")
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _is_served(path: Path) -> bool:
    """Tell whether a process listens on the unix socket at *path*, busy or not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except BlockingIOError:  # those who wait already are too many
            return True
        except OSError:
            return False
    return True


async def _open(runner: web.AppRunner, place: Listener | Path) -> Listener | Path:
    site: web.BaseSite
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)
        if _is_served(place):
            raise ConfigError(f"listen: {place}: another process listens there")
        place.unlink(missing_ok=True)
        site = web.UnixSite(runner, str(place))
    else:
        site = web.TCPSite(runner, place.host, place.port, backlog=BACKLOG)
    try:
        await site.start()
    except OSError as error:
        raise ConfigError(f"listen: {place}: {error.strerror}") from error
    if isinstance(place, Listener):
        address = runner.addresses[-1]
        place = Listener(str(address[0]), int(address[1]))
    log.info("listening", on=str(place))
    return place
